"""Checks of the claim itself, whatever the recipe: that it is one, of version 2, and about its own manifest only.

Source: C2PA 2.1, chapters 6 (labels), 8 (manifest URNs, URI references), 9 (hard bindings), 10 (claim-map-v2),
13 (hashes). What the standard has deprecated no claim generator shall write, and so it is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, cast

from byok_signer.guard.checks import Check, Finding, shown
from byok_signer.guard.claim import TEXT_LIMIT, TITLE, URN_PREFIX, UUID, Claim
from byok_signer.guard.policy import ClaimPolicy

HARD_BINDINGS = ("c2pa.hash.data", "c2pa.hash.bmff.v3", "c2pa.hash.boxes", "c2pa.hash.collection.data")
"""Assertions that tie a manifest to the bytes of its asset, in the versions that the standard has not deprecated."""

HASH_SIZES: Mapping[str, int] = MappingProxyType({"sha256": 32, "sha384": 48, "sha512": 64})

_URI_LIMIT = 512
_V1_KEYS = frozenset({"claim_generator", "assertions", "dc:format"})
_REQUIRED_KEYS = frozenset({"instanceID", "claim_generator_info", "signature", "created_assertions"})
_REDACTION = "redacted_assertions"
_GENERATOR_TEXTS = ("name", "version", "operating_system", "specVersion")
# Names and ids are shown to auditors: no terminal sequences in them, no line ends, nothing that turns what is shown
# around (Unicode 16, section 23.2, and UAX 9, explicit directional formatting).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_URN = rf"{URN_PREFIX}{UUID}(?::[A-Za-z0-9._-]{{0,32}}(?::[0-9]{{1,9}}_[0-9]{{1,9}})?)?"
# Two underscores in a row are reserved for the `__N` of repeated assertions.
_COMPONENT = r"[A-Za-z0-9][A-Za-z0-9-]*(?:_[A-Za-z0-9-]+)*"
_LABEL = rf"{_COMPONENT}(?:\.{_COMPONENT})+(?:__[1-9][0-9]{{0,3}})?"
_SIGNATURE_URI = re.compile(rf"self#jumbf=/c2pa/({_URN})/c2pa\.signature")
_ASSERTION_URI = re.compile(rf"self#jumbf=(?:/c2pa/({_URN})/)?c2pa\.assertions/{_LABEL}")


def _text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TEXT_LIMIT


def _line(value: object) -> bool:
    return _text(value) and _CONTROL.search(cast("str", value)) is None


def _list(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0


def _map(value: object) -> bool:
    return isinstance(value, dict)


_A_TEXT = f"a text of 1 to {TEXT_LIMIT} characters"
_A_LINE = f"{_A_TEXT} without control characters"
_FIELDS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "instanceID": (_line, _A_LINE),
    "claim_generator_info": (_map, "a map"),
    "signature": (_text, _A_TEXT),
    "created_assertions": (_list, "an array that is not empty"),
    "gathered_assertions": (_list, "an array that is not empty"),
    TITLE: (_text, _A_TEXT),
    "alg": (_text, _A_TEXT),
    "alg_soft": (_text, _A_TEXT),
}


def _claim_map(item: object, _: ClaimPolicy) -> Finding | None:
    return None if isinstance(item, dict) else Finding(shown(item), "a claim: a map")


def _claim_version(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    if _V1_KEYS.isdisjoint(fields):
        return None
    return Finding(f"the key {min(_V1_KEYS & fields.keys())} of version 1", "a claim of version 2 (c2pa.claim.v2)")


def _no_redaction(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    return Finding(shown(_REDACTION), "a claim that redacts nothing") if _REDACTION in fields else None


def _known_keys(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    if fields.keys() <= _FIELDS.keys():
        return None
    unknown = next(key for key in fields if key not in _FIELDS)
    return Finding(f"the key {shown(unknown)}", f"only {', '.join(_FIELDS)}")


def _required_keys(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    if fields.keys() >= _REQUIRED_KEYS:
        return None
    return Finding(f"no {min(_REQUIRED_KEYS - fields.keys())}", f"all of {', '.join(sorted(_REQUIRED_KEYS))}")


def _value_types(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    for key, value in fields.items():
        fits, expected = _FIELDS[key]
        if not fits(value):
            return Finding(f"{key} is {shown(value)}", expected)
    return None


def _generator_info(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    generator = cast("dict[object, object]", fields["claim_generator_info"])
    if not all(isinstance(key, str) for key in generator):
        return Finding("a key that is no text", "claim_generator_info with text keys")
    for key in _GENERATOR_TEXTS:
        value = generator.get(key, "none")
        if not _line(value):
            return Finding(f"{key} is {shown(value)}", _A_LINE)
    return None if "name" in generator else Finding("no name", "claim_generator_info with a name")


def _references(fields: Mapping[str, object]) -> Sequence[object]:
    generator = cast("dict[str, object]", fields["claim_generator_info"])
    created = cast("list[object]", fields["created_assertions"])
    gathered = cast("list[object]", fields.get("gathered_assertions", []))
    return [*created, *gathered, generator["icon"]] if "icon" in generator else created + gathered


def _is_reference(item: object) -> bool:
    # The two shapes that occur, spelled out: this runs for every assertion of every claim.
    if not isinstance(item, dict) or not isinstance(item.get("url"), str) or not isinstance(item.get("hash"), bytes):
        return False
    return len(item) == 2 or (len(item) == 3 and isinstance(item.get("alg"), str))  # noqa: PLR2004 - with and without alg


def _reference_shape(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    for item in _references(fields):
        if not _is_reference(item):
            return Finding(shown(item), "a reference: a map of url (text), hash (bytes) and possibly alg (text)")
    return None


def _signature_uri(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    uri = cast("str", fields["signature"])
    if _SIGNATURE_URI.fullmatch(uri):
        return None
    return Finding(shown(uri), "self#jumbf=/c2pa/urn:c2pa:<UUID>/c2pa.signature")


def _assertion_uris(fields: Mapping[str, object], _: ClaimPolicy) -> Finding | None:
    manifest = cast("str", fields["signature"]).split("/")[2]
    for item in _references(fields):
        uri = cast("dict[str, str]", item)["url"]
        match = _ASSERTION_URI.fullmatch(uri) if len(uri) <= _URI_LIMIT else None
        if match is None:
            return Finding(shown(uri), "self#jumbf=c2pa.assertions/<label>")
        if match[1] is not None and match[1] != manifest:
            return Finding(shown(uri), "a reference into the claim's own manifest")
    return None


def _no_duplicate_references(claim: Claim, _: ClaimPolicy) -> Finding | None:
    seen: set[str] = set()
    for reference in claim.references:
        if reference.label in seen:
            return Finding(f"{shown(reference.label)} twice", "each assertion once")
        seen.add(reference.label)
    return None


def _icon(claim: Claim, _: ClaimPolicy) -> Finding | None:
    if claim.icon is None or claim.icon in claim.references:
        return None
    return Finding(f"icon {shown(claim.icon.label)}", "an icon among the claim's assertions, with the same hash")


def _hash_algorithms(claim: Claim, _: ClaimPolicy) -> Finding | None:
    for reference in claim.references:
        if reference.algorithm not in HASH_SIZES:
            return Finding(shown(reference.algorithm), f"a hash algorithm of C2PA: {', '.join(HASH_SIZES)}")
    return None


def _hash_lengths(claim: Claim, _: ClaimPolicy) -> Finding | None:
    for reference in claim.references:
        expected = HASH_SIZES[reference.algorithm or ""]
        if len(reference.hash) != expected:
            found = f"{len(reference.hash)} bytes for {shown(reference.label)}"
            return Finding(found, f"{expected} bytes, as {reference.algorithm} yields")
    return None


def _no_update_manifest(claim: Claim, _: ClaimPolicy) -> Finding | None:
    if claim.hard_bindings:
        return None
    return Finding("no hard binding, as in an update manifest", "a standard manifest, bound to its asset by hash")


def _one_hard_binding(claim: Claim, _: ClaimPolicy) -> Finding | None:
    count = len(claim.hard_bindings)
    return None if count == 1 else Finding(f"{count} hard bindings", "exactly one")


def _hard_binding_kind(claim: Claim, _: ClaimPolicy) -> Finding | None:
    (binding,) = claim.hard_bindings
    if binding.label in HARD_BINDINGS:
        return None
    return Finding(shown(binding.label), f"one of {', '.join(HARD_BINDINGS)}")


def _hard_binding_created(claim: Claim, _: ClaimPolicy) -> Finding | None:
    (binding,) = claim.hard_bindings
    if binding in claim.created:
        return None
    return Finding("the hard binding among the gathered assertions", "it among the created ones")


CLAIM_SHAPE = (Check[object]("claim-map", _claim_map),)
FIELD_CHECKS = (
    Check[Mapping[str, object]]("claim-version", _claim_version),
    Check[Mapping[str, object]]("no-redaction", _no_redaction),
    Check[Mapping[str, object]]("known-keys", _known_keys),
    Check[Mapping[str, object]]("required-keys", _required_keys),
    Check[Mapping[str, object]]("value-types", _value_types),
    Check[Mapping[str, object]]("generator-info", _generator_info),
    Check[Mapping[str, object]]("reference-shape", _reference_shape),
    Check[Mapping[str, object]]("signature-uri", _signature_uri),
    Check[Mapping[str, object]]("assertion-uris", _assertion_uris),
)
CLAIM_CHECKS = (
    Check[Claim]("no-duplicate-references", _no_duplicate_references),
    Check[Claim]("icon", _icon),
    Check[Claim]("hash-algorithms", _hash_algorithms),
    Check[Claim]("hash-lengths", _hash_lengths),
    Check[Claim]("no-update-manifest", _no_update_manifest),
    Check[Claim]("one-hard-binding", _one_hard_binding),
    Check[Claim]("hard-binding-kind", _hard_binding_kind),
    Check[Claim]("hard-binding-created", _hard_binding_created),
)
