"""What a recipe can demand, and how a claim falls short of it."""

from collections.abc import Callable
from dataclasses import replace

from byok_api.assertions import RECIPE_LABEL
from byok_api.errors import Reason
from byok_signer.guard import ClaimPolicy
from tests.signer.guard.cases import (
    Case,
    Make,
    as_it_is,
    missing,
    more_created,
    more_gathered,
    moved_to_gathered,
    unchanged,
)

_DISCLOSURE = "dev.byok.deepfake_disclosure"


def _requiring(policy: ClaimPolicy) -> ClaimPolicy:
    return replace(policy, required_labels=policy.required_labels | {_DISCLOSURE})


def _forbidding(policy: ClaimPolicy) -> ClaimPolicy:
    return replace(policy, forbid_ingredients=True)


def _chained(policy: ClaimPolicy) -> ClaimPolicy:
    return replace(policy, require_ingredients=True)


def _case(check: str, what: str, make: Make, demand: Callable[[ClaimPolicy], ClaimPolicy] = as_it_is) -> Case:
    return Case(check, what, make, demand, Reason.RecipeNotMet)


RECIPE_CASES = (
    _case("recipe-assertion", "none", missing(RECIPE_LABEL)),
    _case("recipe-assertion", "gathered only", moved_to_gathered(RECIPE_LABEL)),
    _case("recipe-assertion", "a second one, of another recipe", more_created(f"{RECIPE_LABEL}__1")),
    _case("recipe-assertion", "a second one that is gathered", more_gathered(f"{RECIPE_LABEL}__1")),
    _case("required-assertions", "no actions", missing("c2pa.actions.v2")),
    _case("required-assertions", "actions gathered only", moved_to_gathered("c2pa.actions.v2")),
    _case("required-assertions", "a disclosure that is not made", unchanged, _requiring),
    _case("required-assertions", "a disclosure that is not vouched for", more_gathered(_DISCLOSURE), _requiring),
    _case("forbidden-ingredients", "a gathered one", more_gathered("c2pa.ingredient.v3"), _forbidding),
    _case("forbidden-ingredients", "the second of two", more_gathered("c2pa.ingredient.v3__1"), _forbidding),
    _case("forbidden-ingredients", "a created one of an old version", more_created("c2pa.ingredient"), _forbidding),
    _case("required-ingredients", "fresh content", unchanged, _chained),
    _case("allowed-labels", "a stranger", more_created("com.example.note")),
    _case("allowed-labels", "a gathered stranger", more_gathered("com.example.note__2")),
    _case("allowed-labels", "an unknown one in c2pa's own namespace", more_created("c2pa.invented")),
    _case("allowed-labels", "an unknown one in ours", more_created("dev.byok.invented")),
    _case("allowed-labels", "a standard one in capitals", more_created("C2PA.metadata")),
)
