"""Attempts with the lists of assertions: what the claim binds to, what it vouches for, and what the recipe demands."""

from byok_api.assertions import ACTIONS_LABEL, RECIPE_LABEL
from byok_api.errors import Reason
from tests.data.hostile.making import Hostile, tried
from tests.signer.guard.cases import (
    Edit,
    Fields,
    claim,
    find,
    hashed,
    missing,
    more_created,
    more_gathered,
    moved_to_gathered,
    reference,
    unchanged,
)

_OTHER = "urn:c2pa:00000000-0000-4000-8000-000000000000"
_DATA = "c2pa.hash.data"
_FORBID = {"ingredients": "Forbid"}
_CHAIN = {"requireIngredientChain": True}


def _uri(name: str, attempt: str, url: str) -> Hostile:
    """Have the hard binding stand elsewhere."""
    return tried(name, "assertion-uris", attempt, reference(_DATA, url=url))


def _label(name: str, attempt: str, label: str) -> Hostile:
    """Give the hard binding another label."""
    return _uri(name, attempt, f"self#jumbf=c2pa.assertions/{label}")


def _binding(name: str, check: str, attempt: str, make: Edit) -> Hostile:
    return tried(name, check, attempt, make)


def _unmet(name: str, check: str, attempt: str, make: Edit, **c2pa: object) -> Hostile:
    return tried(name, check, attempt, make, reason=Reason.RecipeNotMet, recipe=c2pa)


def _relabelled(label: str, new: str) -> Edit:
    return claim(lambda fields: find(fields, label).update(hashed(new)))


def _own_manifest_in_capitals(fields: Fields) -> None:
    manifest = fields["signature"].removesuffix("c2pa.signature").replace("urn:c2pa:", "URN:C2PA:")
    find(fields, _DATA)["url"] = f"{manifest}c2pa.assertions/{_DATA}"


def _relative_and_absolute(fields: Fields) -> None:
    manifest = fields["signature"].removesuffix("c2pa.signature")
    fields["created_assertions"].append({**hashed(_DATA), "url": f"{manifest}c2pa.assertions/{_DATA}"})


BINDINGS = (
    _binding(
        "bindings-two-kinds",
        "one-hard-binding",
        "Bound to two assets by two kinds of hash.",
        more_created("c2pa.hash.boxes"),
    ),
    _binding(
        "bindings-two-of-a-kind", "one-hard-binding", "Bound to two assets by two hashes.", more_created(f"{_DATA}__1")
    ),
    _binding(
        "bindings-second-gathered",
        "one-hard-binding",
        "A second binding among the gathered.",
        more_gathered("c2pa.hash.bmff.v3"),
    ),
    _binding(
        "binding-unknown-beside",
        "one-hard-binding",
        "A binding of the future beside the genuine one.",
        more_created("c2pa.hash.data.v9"),
    ),
    _binding(
        "binding-gathered-only", "hard-binding-created", "A binding that nobody vouches for.", moved_to_gathered(_DATA)
    ),
    _binding(
        "binding-deprecated",
        "hard-binding-kind",
        "c2pa.hash.bmff.v2, which leaves parts of a file out.",
        _relabelled(_DATA, "c2pa.hash.bmff.v2"),
    ),
    _binding(
        "binding-of-the-first-version",
        "hard-binding-kind",
        "c2pa.hash.bmff, which excludes what it likes.",
        _relabelled(_DATA, "c2pa.hash.bmff"),
    ),
    _binding(
        "binding-over-parts",
        "hard-binding-kind",
        "A multi-asset hash, which binds to what it lists only.",
        _relabelled(_DATA, "c2pa.hash.multi-asset"),
    ),
    _binding(
        "binding-invented",
        "hard-binding-kind",
        "A kind of binding that no verifier checks.",
        _relabelled(_DATA, "c2pa.hash.none"),
    ),
    _binding(
        "binding-second-of-none",
        "hard-binding-kind",
        "The second of its kind without a first.",
        _relabelled(_DATA, f"{_DATA}__1"),
    ),
    _binding(
        "binding-look-alike",
        "no-update-manifest",
        "c2pa.hashes.data: almost a binding.",
        _relabelled(_DATA, "c2pa.hashes.data"),
    ),
)

PLACES = (
    _uri(
        "assertion-in-another-manifest",
        "The binding of another, signed manifest.",
        f"self#jumbf=/c2pa/{_OTHER}/c2pa.assertions/{_DATA}",
    ),
    tried(
        "assertion-in-capitals-manifest",
        "assertion-uris",
        "The own manifest's name in capitals, another one to some.",
        claim(_own_manifest_in_capitals),
    ),
    _uri(
        "assertion-in-the-web",
        "An assertion to be fetched, and exchanged later.",
        f"https://attacker.example/c2pa.assertions/{_DATA}",
    ),
    _uri("assertion-in-a-file", "An assertion in the verifier's file system.", "file:///etc/passwd"),
    _uri("assertion-in-another-store", "A credential for an assertion.", f"self#jumbf=c2pa.credentials/{_DATA}"),
    _uri(
        "assertion-up-the-path",
        "A path that leaves the store.",
        f"self#jumbf=c2pa.assertions/../c2pa.credentials/{_DATA}",
    ),
    _uri("assertion-in-percents", "A dot in percent-encoding.", "self#jumbf=c2pa.assertions/c2pa%2ehash.data"),
    _uri("assertion-of-no-scheme", "A URI without self#.", f"jumbf=c2pa.assertions/{_DATA}"),
    _uri("assertion-with-a-fragment", "A fragment that resolvers drop.", f"self#jumbf=c2pa.assertions/{_DATA}#x"),
)

LABELS = (
    _label("label-look-alike", "c2pa with a Cyrillic c.", "\u04412pa.hash.data"),
    _label(
        "label-in-full-width",
        "Letters of full width, which NFKC turns into the genuine ones.",
        "\uff43\uff12\uff50\uff41.hash.data",
    ),
    _label("label-with-nul", "A NUL behind the label.", f"{_DATA}\0"),
    _label("label-with-a-space", "A space before the label.", f" {_DATA}"),
    _label("label-with-a-line-feed", "A line feed behind the label.", f"{_DATA}\n"),
    _label("label-with-a-joiner", "A character of no width within the label.", "c2pa.hash\u200d.data"),
    _label("label-instance-zero", "Instance 0, which is the first to some and the second to others.", f"{_DATA}__0"),
    _label("label-instance-padded", "Instance 01.", f"{_DATA}__01"),
    _label("label-instance-twice", "Two instances of one label.", f"{_DATA}__1__2"),
    _label("label-instance-huge", "Instance 99999999999.", f"{_DATA}__99999999999"),
    _label("label-of-underscores", "Instance marks that make a pattern search long.", "a." + "_" * 400),
    _label("label-overlong", "A label of 500 characters.", f"com.{'a' * 500}"),
    _label("label-empty", "No label.", ""),
    _label("label-without-namespace", "A label of nobody's namespace.", "hash"),
    _label("label-with-a-dot-behind", "A trailing dot, as in host names.", f"{_DATA}."),
    tried(
        "label-repeated",
        "no-duplicate-references",
        "One assertion twice, with two hashes.",
        more_created(ACTIONS_LABEL),
    ),
    tried(
        "label-created-and-gathered",
        "no-duplicate-references",
        "Vouched for, and not vouched for.",
        more_gathered(ACTIONS_LABEL),
    ),
    tried(
        "label-relative-and-absolute",
        "no-duplicate-references",
        "One assertion by two URIs, with two hashes.",
        claim(_relative_and_absolute),
    ),
)

RECIPE = (
    _unmet(
        "recipe-unsaid", "recipe-assertion", "Under no recipe: nobody can say what was demanded.", missing(RECIPE_LABEL)
    ),
    _unmet(
        "recipe-gathered",
        "recipe-assertion",
        "A recipe that the signer does not vouch for.",
        moved_to_gathered(RECIPE_LABEL),
    ),
    _unmet(
        "recipe-and-another",
        "recipe-assertion",
        "The recipe, and a stricter one to be shown.",
        more_created(f"{RECIPE_LABEL}__1"),
    ),
    _unmet(
        "recipe-and-another-gathered",
        "recipe-assertion",
        "The recipe, and a gathered other.",
        more_gathered(f"{RECIPE_LABEL}__7"),
    ),
    _unmet(
        "recipe-second-only",
        "recipe-assertion",
        "A second recipe without a first.",
        _relabelled(RECIPE_LABEL, f"{RECIPE_LABEL}__1"),
    ),
    _unmet(
        "recipe-of-a-version",
        "recipe-assertion",
        "A version of the label that no reader knows.",
        _relabelled(RECIPE_LABEL, f"{RECIPE_LABEL}.v2"),
    ),
    _unmet(
        "recipe-in-capitals",
        "recipe-assertion",
        "dev.byok.Recipe for dev.byok.recipe.",
        _relabelled(RECIPE_LABEL, "dev.byok.Recipe"),
    ),
    _unmet("actions-missing", "required-assertions", "Nothing is said of what was done.", missing(ACTIONS_LABEL)),
    _unmet(
        "actions-gathered", "required-assertions", "What was done, without vouching.", moved_to_gathered(ACTIONS_LABEL)
    ),
    _unmet(
        "actions-of-the-first-version",
        "required-assertions",
        "c2pa.actions, whose contents are laxer.",
        _relabelled(ACTIONS_LABEL, "c2pa.actions"),
    ),
    _unmet(
        "disclosure-missing",
        "required-assertions",
        "A deepfake that is not disclosed.",
        unchanged,
        assertions=["deepfake_disclosure"],
    ),
    _unmet(
        "disclosure-gathered",
        "required-assertions",
        "A disclosure that nobody vouches for.",
        more_gathered("dev.byok.deepfake_disclosure"),
        assertions=["deepfake_disclosure"],
    ),
    _unmet(
        "ingredient-gathered",
        "forbidden-ingredients",
        "Someone else's picture inside.",
        more_gathered("c2pa.ingredient.v3"),
        **_FORBID,
    ),
    _unmet(
        "ingredient-of-the-future",
        "forbidden-ingredients",
        "An ingredient of a version yet to come.",
        more_created("c2pa.ingredient.v9"),
        **_FORBID,
    ),
    _unmet(
        "ingredient-repeated",
        "forbidden-ingredients",
        "The seventh ingredient without the first.",
        more_gathered("c2pa.ingredient__7"),
        **_FORBID,
    ),
    _unmet("ingredient-missing", "required-ingredients", "A derived work that hides its source.", unchanged, **_CHAIN),
    _unmet(
        "ingredient-look-alike",
        "allowed-labels",
        "An ingredient in name only.",
        more_created("c2pa.ingredients"),
        **_CHAIN,
    ),
    _unmet(
        "label-of-a-stranger",
        "allowed-labels",
        "An assertion that the recipe does not know.",
        more_created("com.example.note"),
    ),
    _unmet(
        "label-of-a-stranger-gathered", "allowed-labels", "The same, gathered.", more_gathered("com.example.note__2")
    ),
    _unmet(
        "label-next-to-allowed",
        "allowed-labels",
        "A version of an allowed label that is not allowed.",
        more_created("com.example.note.v2"),
        allowedLabels=["com.example.note"],
    ),
    _unmet(
        "label-invented-for-c2pa",
        "allowed-labels",
        "A label in the standard's own namespace.",
        more_created("c2pa.verified"),
    ),
    _unmet(
        "label-invented-for-us",
        "allowed-labels",
        "A label in this project's namespace.",
        more_created("dev.byok.approved"),
    ),
    _unmet("label-in-capitals", "allowed-labels", "A standard label in capitals.", more_created("C2PA.Metadata")),
)

ASSERTIONS = (*BINDINGS, *PLACES, *LABELS, *RECIPE)
