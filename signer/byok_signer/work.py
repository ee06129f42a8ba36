"""What goes through the pipeline: a call, an admitted caller, work that nothing stands against, a signature."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from byok_api.audit import AuditId
from byok_signer.access import Decision, Right
from byok_signer.authentication import Caller
from byok_signer.entries import Catalogue, SigningEntry
from byok_signer.guard import CheckedClaim
from byok_signer.kms.messages import Payload
from byok_signer.kms.port import KeyHandle, SignAnswer

_PATIENCE = 8.0
"""Seconds that KMS gets when the caller set no deadline, or a longer one."""


@dataclass(frozen=True)
class Call:
    """One gRPC call, or one message of a stream."""

    request_id: str
    token: str | None = field(repr=False)
    deadline: float
    """By the monotonic clock."""

    @property
    def remaining(self) -> float:
        """Seconds left for KMS."""
        return max(0.0, min(self.deadline - time.monotonic(), _PATIENCE))


@dataclass(frozen=True)
class Admission:
    """A caller who may use a recipe."""

    call: Call
    caller: Caller
    right: Right
    """To sign under the recipe that the caller names."""
    version: int | None
    """The version that the caller names, if any."""
    decision: Decision
    catalogue: Catalogue
    """What was known then."""
    entry: SigningEntry


class Identity(NamedTuple):
    """What makes two requests one: all of it equal, they may have the same signature."""

    caller: str
    recipe_namespace: str
    recipe_name: str
    recipe_hash: str
    key_arn: str
    """Resolved."""
    signed: bytes
    """Hash of all that is signed, of 256 bits or more."""
    guarded: bool


@dataclass(frozen=True, slots=True)
class Work:
    """A signature that nothing stands against any more."""

    admission: Admission
    entry: SigningEntry
    """As it stood when the claim was checked; the admission's may be older."""
    expected_hash: str
    handle: KeyHandle
    claim: CheckedClaim | None
    """None for a bare digest."""
    payload: Payload
    identity: Identity


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was verified and recorded."""

    entry: SigningEntry
    answer: SignAnswer
    claim: CheckedClaim | None
    """None for a bare digest."""
    audit_id: AuditId
    decision_id: str = ""
    """Of the decision that the caller may sign under the recipe; empty without a cluster."""
