"""Attempts with SignDigest: digests of something else than the evidence, and evidence of something unwanted."""

import hashlib
from collections.abc import Callable
from typing import Any

from byok_api.algorithms import SigningAlgorithm
from byok_api.assertions import RECIPE_LABEL
from byok_api.errors import Reason
from tests.data.hostile.making import Hostile, Material
from tests.signer.guard.cases import header, missing, reference

_ORDER = b"transfer 1,000,000 EUR to DE02 1203 0000 0000 2020 51"


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _genuine(material: Material) -> bytes:
    return material.sig_structure


def _digest(
    name: str,
    check: str,
    attempt: str,
    digest: Callable[[bytes], bytes],
    evidence: Callable[[Material], bytes] = _genuine,
    **more: Any,  # noqa: ANN401 - a row of a table
) -> Hostile:
    def make(material: Material) -> tuple[bytes, bytes]:
        shown = evidence(material)
        return digest(shown), shown

    return Hostile(name, check, attempt, make, **more)


def _of_the_claim_alone(material: Material) -> tuple[bytes, bytes]:
    return _sha256(material.claim), material.sig_structure


def _of_another_claim(material: Material) -> tuple[bytes, bytes]:
    return _sha256(material.sig_structure), reference("c2pa.hash.data", hash=bytes(32))(material)


DIGESTS = (
    _digest(
        "digest-of-an-order",
        "digest",
        "An order's digest, with a genuine claim as evidence.",
        lambda _: _sha256(_ORDER),
    ),
    Hostile(
        "digest-of-the-claim-alone",
        "digest",
        "The digest of the claim without what is signed around it.",
        _of_the_claim_alone,
    ),
    Hostile(
        "digest-of-another-claim",
        "digest",
        "A genuine claim's digest, with another good claim as evidence.",
        _of_another_claim,
    ),
    _digest(
        "digest-of-the-digest",
        "digest",
        "Hashed twice: the preimage is 32 bytes of the attacker's choice.",
        lambda data: _sha256(_sha256(data)),
    ),
    _digest(
        "digest-backwards", "digest", "The evidence's digest in the other byte order.", lambda data: _sha256(data)[::-1]
    ),
    _digest(
        "digest-of-another-hash",
        "digest",
        "32 bytes of SHA-512, which some call SHA-512/256.",
        lambda data: hashlib.sha512(data).digest()[:32],
    ),
    _digest(
        "digest-of-zeros",
        "digest",
        "Zeros, for which some ECDSA signatures can be forged without the key.",
        lambda _: bytes(32),
    ),
    _digest(
        "digest-in-hexadecimal",
        "digest-length",
        "The right digest in hexadecimal.",
        lambda data: _sha256(data).hex().encode(),
    ),
    _digest(
        "digest-with-a-byte-more", "digest-length", "The right digest and a byte.", lambda data: _sha256(data) + b"\0"
    ),
    _digest("digest-cut-short", "digest-length", "31 of 32 bytes.", lambda data: _sha256(data)[:31]),
    _digest("digest-empty", "digest-length", "No digest.", lambda _: b""),
    _digest(
        "digest-of-sha-384",
        "digest-length",
        "The evidence's SHA-384 for a P-256 key, which would cut it.",
        lambda data: hashlib.sha384(data).digest(),
    ),
    _digest(
        "digest-for-ed25519",
        "digest-algorithm",
        "A digest for Ed25519, which hashes by itself.",
        lambda data: hashlib.sha512(data).digest(),
        algorithm=SigningAlgorithm.ED25519,
    ),
    _digest(
        "evidence-of-an-order",
        "no-trailing-bytes",
        "An order's digest with the order as evidence.",
        _sha256,
        lambda _: _ORDER,
    ),
    _digest(
        "evidence-of-another-key",
        "x5chain",
        "A claim of the attacker's own key, with its right digest.",
        _sha256,
        lambda m: header(lambda fields: fields.update({33: list(m.impostor)}))(m),
        reason=Reason.CertificateChanged,
    ),
    _digest(
        "evidence-of-another-recipe",
        "recipe-assertion",
        "A claim made under no recipe, with its right digest.",
        _sha256,
        missing(RECIPE_LABEL),
        reason=Reason.RecipeNotMet,
    ),
    _digest("evidence-too-large", "size", "65,537 zeros with their right digest.", _sha256, lambda _: bytes(65537)),
)
