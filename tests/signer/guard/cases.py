"""How a case is written: the check that refuses, what is wrong in words, and how to make it of a real claim."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cbor2

from byok_api.errors import Reason
from byok_signer.guard import ClaimPolicy
from tests.support.claims import CapturedClaim, Parts, assembled

Make = Callable[[CapturedClaim], bytes]
Fields = dict[str, Any]


class Original(Protocol):
    """A real claim."""

    @property
    def sig_structure(self) -> bytes: ...


Edit = Callable[[Original], bytes]
"""A Make that needs nothing but the claim itself."""


def as_it_is(policy: ClaimPolicy) -> ClaimPolicy:
    return policy


@dataclass(frozen=True)
class Case:
    """A message that one check must refuse."""

    check: str
    what: str
    make: Make
    demand: Callable[[ClaimPolicy], ClaimPolicy] = as_it_is
    reason: Reason = Reason.ClaimRefused

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


def unchanged(captured: Original) -> bytes:
    return captured.sig_structure


def parts(change: Callable[[Parts], None]) -> Edit:
    """Change the decoded parts; encode them again."""

    def make(captured: Original) -> bytes:
        taken = Parts.of(captured.sig_structure)
        change(taken)
        return taken.assembled()

    return make


def header(change: Callable[[dict[Any, Any]], None]) -> Edit:
    """Change the decoded protected header."""
    return parts(lambda taken: change(taken.header))


def claim(change: Callable[[Fields], None]) -> Edit:
    """Change the decoded claim."""
    return parts(lambda taken: change(taken.claim))


def with_fields(**fields: object) -> Edit:
    """Set keys of the claim."""
    return claim(lambda fields_: fields_.update(fields))


def without(key: str) -> Edit:
    """Leave a key of the claim out."""
    return claim(lambda fields: fields.pop(key))


def generator(**fields: object) -> Edit:
    """Set keys of claim_generator_info."""
    return claim(lambda claim_: claim_["claim_generator_info"].update(fields))


def reference(label: str, **fields: object) -> Edit:
    """Set keys of the created assertion with this label."""
    return claim(lambda claim_: find(claim_, label).update(fields))


def more_created(*labels: str) -> Edit:
    """Add created assertions."""
    return claim(lambda claim_: claim_["created_assertions"].extend(hashed(label) for label in labels))


def more_gathered(*labels: str) -> Edit:
    """Add gathered assertions."""
    return claim(lambda claim_: claim_.setdefault("gathered_assertions", []).extend(hashed(label) for label in labels))


def moved_to_gathered(label: str) -> Edit:
    """Disclaim a created assertion."""

    def move(fields: Fields) -> None:
        moved = find(fields, label)
        fields["created_assertions"].remove(moved)
        fields.setdefault("gathered_assertions", []).append(moved)

    return claim(move)


def missing(label: str) -> Edit:
    """Leave a created assertion out."""
    return claim(lambda fields: fields["created_assertions"].remove(find(fields, label)))


def claim_bytes(change: Callable[[bytes], bytes]) -> Edit:
    """Change the encoded claim."""
    return parts_bytes(lambda header_, claim_: (header_, change(claim_)))


def header_bytes(change: Callable[[bytes], bytes]) -> Edit:
    """Change the encoded protected header."""
    return parts_bytes(lambda header_, claim_: (change(header_), claim_))


def parts_bytes(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Edit:
    """Change the encoded header and claim."""

    def make(captured: Original) -> bytes:
        _, header_, _, claim_ = cbor2.loads(captured.sig_structure)
        return assembled(*change(header_, claim_))

    return make


def find(fields: Fields, label: str) -> Fields:
    found: Fields = next(one for one in fields["created_assertions"] if one["url"].endswith(f"/{label}"))
    return found


def hashed(label: str) -> Fields:
    return {"url": f"self#jumbf=c2pa.assertions/{label}", "hash": bytes(32)}
