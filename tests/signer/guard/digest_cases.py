"""Which digests are not those of their evidence."""

import hashlib
from dataclasses import dataclass

from byok_api.algorithms import SigningAlgorithm


@dataclass(frozen=True)
class DigestCase:
    """A digest that is refused though its evidence passes."""

    check: str
    what: str
    algorithm: SigningAlgorithm
    digest: bytes

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


_OF_ANOTHER = b"another message"

DIGEST_CASES = (
    DigestCase(
        "digest-algorithm", "Ed25519 signs none", SigningAlgorithm.ED25519, hashlib.sha512(_OF_ANOTHER).digest()
    ),
    DigestCase("digest-length", "none", SigningAlgorithm.ES256, b""),
    DigestCase("digest-length", "SHA-512 for ES256", SigningAlgorithm.ES256, hashlib.sha512(_OF_ANOTHER).digest()),
    DigestCase("digest-length", "SHA-256 for PS384", SigningAlgorithm.PS384, hashlib.sha256(_OF_ANOTHER).digest()),
    DigestCase("digest", "of another message", SigningAlgorithm.ES256, hashlib.sha256(_OF_ANOTHER).digest()),
    DigestCase("digest", "of another message", SigningAlgorithm.ES512, hashlib.sha512(_OF_ANOTHER).digest()),
    DigestCase("digest", "zeros", SigningAlgorithm.PS384, bytes(48)),
)
