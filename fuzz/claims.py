"""The claim guard: refuses by name, is never slow, and what it passes another, slower look finds right as well."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, cast
from unicodedata import bidirectional, category

import cbor2

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import ClaimRefusal, Reason
from byok_signer.guard import CHECK_NAMES, SIZE_LIMIT, CheckedClaim, ClaimPolicy, cbor, check_claim
from fuzz.target import Fault, Target, bounded, demand, seconds_of
from fuzz.values import changed
from tests.data.hostile.generate import MESSAGES
from tests.data.hostile.making import Material

_TIMES = 50
_SEED_LIMIT = 8 * 1024
_REASONS = {Reason.ClaimRefused, Reason.RecipeNotMet, Reason.CertificateChanged}
_LABELS = (
    "c2pa.actions.v2",
    "c2pa.hash.bmff.v3",
    "c2pa.hash.boxes",
    "c2pa.hash.collection.data",
    "c2pa.hash.data",
    "c2pa.icon",
    "c2pa.ingredient.v3",
    "c2pa.metadata",
    "cawg.metadata",
    "dev.byok.recipe",
)
_BINDINGS = {"c2pa.hash.data", "c2pa.hash.boxes", "c2pa.hash.bmff.v3", "c2pa.hash.collection.data"}
_KEYS = {"instanceID", "claim_generator_info", "signature", "created_assertions"}
_MORE_KEYS = {"gathered_assertions", "dc:title", "alg", "alg_soft"}
_PLAIN = (dict, list, str, bytes, int, float, bool, type(None))
_URN = r"urn:c2pa:[0-9a-fA-F-]{36}(:[A-Za-z0-9._-]*)*"
_REFERENCE = re.compile(rf"self#jumbf=(/c2pa/(?P<urn>{_URN})/)?c2pa\.assertions/(?P<label>[A-Za-z0-9._-]+)")


@cache
def genuine() -> Material:
    """Read the stored claim of the stored key."""
    return Material.stored(SigningAlgorithm.ES256)


@cache
def policies() -> tuple[ClaimPolicy, ...]:
    """Demand little, forbid ingredients, or demand them and more."""
    lenient = ClaimPolicy(
        algorithm=SigningAlgorithm.ES256,
        x5chain=genuine().chain,
        required_labels=frozenset({"dev.byok.recipe", "c2pa.actions.v2"}),
        allowed_labels=frozenset(_LABELS),
        forbid_ingredients=False,
        require_ingredients=False,
    )
    strict = replace(lenient, required_labels=lenient.required_labels | {"cawg.metadata"}, require_ingredients=True)
    return lenient, replace(lenient, forbid_ingredients=True), strict


@cache
def typical() -> float:
    """Measure what the genuine claim takes, in seconds."""
    return seconds_of(lambda: check_claim(genuine().sig_structure, policies()[0]))


def try_input(message: bytes) -> None:
    """Ask the guard under each policy."""
    lenient, *others = policies()
    answer = bounded(lambda: _outcome(message, lenient), typical=typical(), times=_TIMES)
    for policy, found in ((lenient, answer), *((policy, _outcome(message, policy)) for policy in others)):
        if isinstance(found, CheckedClaim):
            check_again(message, policy, found)


def _outcome(message: bytes, policy: ClaimPolicy) -> CheckedClaim | ClaimRefusal:
    try:
        return check_claim(message, policy)
    except ClaimRefusal as refusal:
        demand(refusal.check in CHECK_NAMES)
        demand(refusal.reason in _REASONS)
        demand(refusal.message.isascii())
        demand(refusal.message.isprintable())
        demand(len(refusal.message) < 400)  # noqa: PLR2004 - as the guard's own tests have it
        return refusal


def check_again(message: bytes, policy: ClaimPolicy, checked: CheckedClaim) -> None:
    """Read what passed once more, with no code of the guard."""
    demand(len(message) <= SIZE_LIMIT)
    outer = _exact(message)
    demand(isinstance(outer, list))
    context, header, external_aad, payload = outer
    demand((context, external_aad) == ("Signature1", b""))
    decoded = _exact(header)
    demand({(type(key), key) for key in decoded} == {(int, 1), (int, 33)})
    demand(type(decoded[1]) is int)
    demand(decoded == {1: -7, 33: list(policy.x5chain)})
    claim = _exact(payload)
    demand(isinstance(claim, dict))
    demand(_KEYS <= claim.keys() <= _KEYS | _MORE_KEYS)
    demand(checked.claim_sha256 == hashlib.sha256(payload).hexdigest())
    demand(claim["signature"] == f"self#jumbf=/c2pa/{checked.manifest_id}/c2pa.signature")
    demand(re.fullmatch(_URN, checked.manifest_id))
    generator = claim["claim_generator_info"]
    for text in (claim["instanceID"], *(generator[key] for key in ("name", "version") if key in generator)):
        demand(all(map(_is_harmless, text)))
    _check_references(claim, policy, checked)


def _check_references(claim: dict[str, Any], policy: ClaimPolicy, checked: CheckedClaim) -> None:
    created = [_label(claim, checked, one) for one in claim["created_assertions"]]
    gathered = [_label(claim, checked, one) for one in claim.get("gathered_assertions", [])]
    labels = [*created, *gathered]
    demand(tuple(labels) == checked.labels)
    demand(len(set(labels)) == len(labels))
    bindings = [label for label in labels if label.startswith("c2pa.hash.")]
    demand(len(bindings) == 1)
    demand(bindings[0] in _BINDINGS)
    demand(bindings[0] in created)
    demand(created.count("dev.byok.recipe") == 1)
    demand(not [label for label in labels if label.startswith("dev.byok.recipe") and label != "dev.byok.recipe"])
    bases = {label.partition("__")[0] for label in labels}
    demand(bases <= policy.allowed_labels)
    demand(policy.required_labels <= {label.partition("__")[0] for label in created})
    ingredients = [label for label in labels if label.startswith("c2pa.ingredient")]
    demand(not (policy.forbid_ingredients and ingredients))
    demand(ingredients or not policy.require_ingredients)


def _label(claim: dict[str, Any], checked: CheckedClaim, reference: dict[str, Any]) -> str:
    demand(reference.keys() in ({"url", "hash"}, {"url", "hash", "alg"}))
    sizes = {"sha256": 32, "sha384": 48, "sha512": 64}
    demand(len(reference["hash"]) == sizes[reference.get("alg") or claim["alg"]])
    demand(isinstance(reference["hash"], bytes))
    match = _REFERENCE.fullmatch(reference["url"])
    if match is None:
        raise Fault
    demand(match["urn"] in (None, checked.manifest_id))
    label: str = match["label"]
    return label


def _is_harmless(character: str) -> bool:
    """Tell characters that a terminal shows from those that steer it."""
    directions = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return category(character) not in ("Cc", "Zl", "Zp") and bidirectional(character) not in directions


def _exact(data: bytes) -> Any:  # noqa: ANN401 - any value
    """Decode what encoding yields again, and what is plain all through."""
    demand(isinstance(data, bytes))
    value = cbor2.loads(data)
    demand(cbor2.dumps(value) == data)
    left = [value]
    while left:
        part = left.pop()
        demand(type(part) in _PLAIN)
        left += [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list) else []
    return value


def mutate(message: bytes, random: Random) -> bytes:
    """Change the value of the claim, seldom that of the header, and put genuine parts around it."""
    try:
        outer = cast("list[Any]", cbor.decode(message, cbor.SIG_STRUCTURE))
        layer, rules = random.choices(((1, cbor.PROTECTED_HEADER), (3, cbor.CLAIM)), (1, 9))[0]
        if random.random() < 0.3:  # noqa: PLR2004 - about one in three
            outer[layer] = _flipped(outer[layer], random)
        else:
            outer[layer] = cbor2.dumps(changed(cbor.decode(outer[layer], rules), random))
        if layer != 1 and random.choice((True, False)):
            outer[:3] = "Signature1", genuine().header, b""
        return cbor2.dumps(outer)
    except (cbor.EncodingFault, cbor2.CBORError, TypeError, ValueError, LookupError):
        # Not even an array of parts: let its bytes be a claim.
        return cbor2.dumps(["Signature1", genuine().header, b"", message])


def _flipped(data: bytes, random: Random) -> bytes:
    """Change one to three bytes, and no length."""
    changing = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(changing))
        changing[at] ^= random.choice((1, 2, 4, 8, 16, 32, 64, 128, 0x60, 0xFF))
    return bytes(changing)


def seeds() -> Iterator[bytes]:
    """Begin with the genuine claim, variations of it that pass, and the corpus."""
    yield genuine().sig_structure
    outer = cbor2.loads(genuine().sig_structure)
    for label in ("c2pa.ingredient.v3", "c2pa.metadata__1", "cawg.metadata", "c2pa.icon"):
        claim = cbor2.loads(genuine().claim)
        reference = {"url": f"self#jumbf=c2pa.assertions/{label}", "alg": "sha384", "hash": bytes(48)}
        claim["created_assertions"].append(reference)
        if label == "c2pa.icon":
            claim["claim_generator_info"]["icon"] = reference
        yield cbor2.dumps([*outer[:3], cbor2.dumps(claim)])
    for path in sorted(MESSAGES.glob("*.bin")):
        if path.stat().st_size <= _SEED_LIMIT:
            yield path.read_bytes()


TARGET = Target("claims", try_input, seeds, mutate, SIZE_LIMIT + 16)
