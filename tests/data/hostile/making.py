"""How an attempt is written down: its name, the check that must refuse it, what the attacker tries, the making."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cbor2

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from tests.signer.guard.cases import Original
from tests.support.claims import assembled

BASE = Path(__file__).parent / "base"
"""What everything is made of: a genuine claim for each algorithm needed, and a chain that is not the key's."""


@dataclass(frozen=True)
class Material:
    """A genuine claim, and what an attacker has besides."""

    sig_structure: bytes
    algorithm: SigningAlgorithm
    impostor: tuple[bytes, ...]
    """Certificates (DER, leaf first) of the attacker's own key under the very names of the genuine ones."""

    @classmethod
    def stored(cls, algorithm: SigningAlgorithm) -> Self:
        """Take what is stored beside this file."""
        names = ("impostor-leaf.der", "impostor-issuer.der")
        impostor = tuple((BASE / name).read_bytes() for name in names)
        return cls((BASE / f"genuine-{algorithm}.cbor").read_bytes(), algorithm, impostor)

    @property
    def header(self) -> bytes:
        """The protected header, encoded."""
        encoded: bytes = cbor2.loads(self.sig_structure)[1]
        return encoded

    @property
    def claim(self) -> bytes:
        """The claim, encoded."""
        encoded: bytes = cbor2.loads(self.sig_structure)[3]
        return encoded

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The key's certificates, DER, leaf first."""
        return tuple(cbor2.loads(self.header)[33])


def message_of(make: Callable[[Any], bytes]) -> Callable[[Material], tuple[bytes | None, bytes]]:
    """Send a message to SignClaim: no digest."""
    return lambda material: (None, make(material))


@dataclass(frozen=True)
class Hostile:
    """One attempt."""

    name: str
    check: str
    attempt: str
    """A sentence: what the attacker wants the key to sign, and what is meant to deceive."""
    make: Callable[[Material], tuple[bytes | None, bytes]]
    """Yields the digest, None for what is sent to SignClaim, and the message or evidence."""
    reason: Reason = Reason.ClaimRefused
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """`c2pa` of the recipe that the claim is to be signed under; it demands nothing unless it says so here."""
    algorithm: SigningAlgorithm = SigningAlgorithm.ES256


def tried(name: str, check: str, attempt: str, make: Callable[[Material], bytes], **more: Any) -> Hostile:  # noqa: ANN401 - a row of a table
    """Write down a message for SignClaim; the helpers of tests/signer/guard/cases.py make many of them."""
    return Hostile(name, check, attempt, message_of(make), **more)


def wrapped(claim: bytes) -> Callable[[Material], bytes]:
    """Put any bytes into the place of the claim; everything around them is genuine."""
    return lambda material: assembled(material.header, claim)


def payload(change: Callable[[bytes], bytes]) -> Callable[[Material], bytes]:
    """Change the encoded claim; everything around it is genuine."""
    return lambda material: assembled(material.header, change(material.claim))


def outer(*items: object) -> Callable[[Original], bytes]:
    """Encode an array: any items, whatever the genuine message is."""
    return lambda _: cbor2.dumps(list(items))


def replaced(old: bytes, new: bytes) -> Callable[[Material], bytes]:
    """Replace bytes of the encoded claim, which must occur in it, once."""

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return payload(change)
