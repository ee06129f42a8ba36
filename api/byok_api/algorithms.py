"""The seven signature algorithms that C2PA allows, and what COSE, AWS KMS and c2pa call each of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

RAW_MESSAGE_LIMIT = 4096
"""Bytes that `kms:Sign` takes with MessageType RAW (AWS KMS API reference, Sign)."""


class SigningAlgorithm(StrEnum):
    """A signature algorithm by the name that C2PA and this project's manifests use (C2PA 2.1, section 13.2.1)."""

    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ED25519 = "Ed25519"

    @property
    def facts(self) -> "AlgorithmFacts":
        """What the other standards say of this algorithm."""
        return _FACTS[self]

    def digest(self, message: bytes) -> bytes:
        """Hash `message` as this algorithm does before signing; ValueError for Ed25519, which hashes nothing."""
        if self.facts.hash_name is None:
            raise ValueError(f"{self} signs the message itself, not a digest")
        return hashlib.new(self.facts.hash_name, message).digest()


@dataclass(frozen=True)
class AlgorithmFacts:
    """One row of the table below."""

    cose: int
    """COSE algorithm identifier (IANA COSE Algorithms)."""
    kms: str
    """`SigningAlgorithm` of `kms:Sign`."""
    key_specs: tuple[str, ...]
    """KMS key specs that can sign with it."""
    hash_name: str | None
    """hashlib's name of the digest; None where the message itself is signed."""
    digest_size: int | None
    """Bytes of that digest."""
    coordinate_size: int | None
    """Bytes of one of the two numbers of an ECDSA signature in IEEE P1363 form; None for the others."""


_RSA = ("RSA_2048", "RSA_3072", "RSA_4096")

_FACTS: Mapping[SigningAlgorithm, AlgorithmFacts] = MappingProxyType(
    {
        SigningAlgorithm.ES256: AlgorithmFacts(-7, "ECDSA_SHA_256", ("ECC_NIST_P256",), "sha256", 32, 32),
        SigningAlgorithm.ES384: AlgorithmFacts(-35, "ECDSA_SHA_384", ("ECC_NIST_P384",), "sha384", 48, 48),
        SigningAlgorithm.ES512: AlgorithmFacts(-36, "ECDSA_SHA_512", ("ECC_NIST_P521",), "sha512", 64, 66),
        SigningAlgorithm.PS256: AlgorithmFacts(-37, "RSASSA_PSS_SHA_256", _RSA, "sha256", 32, None),
        SigningAlgorithm.PS384: AlgorithmFacts(-38, "RSASSA_PSS_SHA_384", _RSA, "sha384", 48, None),
        SigningAlgorithm.PS512: AlgorithmFacts(-39, "RSASSA_PSS_SHA_512", _RSA, "sha512", 64, None),
        SigningAlgorithm.ED25519: AlgorithmFacts(-8, "ED25519_SHA_512", ("ECC_NIST_EDWARDS25519",), None, None, None),
    },
)


def algorithms_of(key_spec: str) -> tuple[SigningAlgorithm, ...]:
    """List the algorithms that a KMS key spec can sign with, the default first; empty if C2PA allows none of it."""
    return tuple(algorithm for algorithm, facts in _FACTS.items() if key_spec in facts.key_specs)
