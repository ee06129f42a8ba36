"""What a trail tells: events, before they have a place in a chain."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType

ATTEMPTS_LIMIT = 64
REQUEST_ID_LIMIT = 64
SEQUENCE_LIMIT = 2**63

TEXT_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "request_id": 128,
        "caller": 512,
        "recipe": 512,
        "recipe_hash": 64,
        "key": 512,
        "key_arn": 512,
        "algorithm": 32,
        "manifest": 512,
        "claim_sha256": 64,
        "decision": 64,
        "reason": 64,
        "pod": 253,
        "head": 160,
        "head_hash": 64,
        "public_key": 1024,
        "signature": 1024,
    },
)
HASH = re.compile(r"[0-9a-f]{64}")


class Kind(StrEnum):
    """What a record tells."""

    CHAIN_START = "chain-start"
    """A writer begins; names its pod, the chain that it continues and the torn lines that it found."""
    INTENT = "intent"
    """A signature is about to be asked of KMS; or again, after answers that got lost, which it tells of."""
    OUTCOME = "outcome"
    """What became of a signature that was asked of KMS."""
    REFUSAL = "refusal"
    """A request was refused without KMS being asked for it."""
    CERTIFY = "certify"
    """A certificate request was signed."""
    CHECKPOINT = "checkpoint"
    """The chain's head was signed."""


class Outcome(StrEnum):
    """What a request, or one call of `kms:Sign`, came to."""

    SIGNED = "signed"
    """A request: the signature was released. A call: KMS answered with a signature, whatever became of that."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """No answer arrived, so KMS may have signed; nothing was released."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of `kms:Sign`, by the request id that CloudTrail logs too; None where no answer arrived."""

    kms_request_id: str | None
    outcome: Outcome


@dataclass(slots=True, kw_only=True)
class AuditEvent:
    """What happened, before it has a place in a chain. Nobody changes one: making it frozen would cost ten times more.

    Recording must not fail because of what is recorded: text over its limit is cut, when the event is sealed, and ends
    in an ellipsis. Fields that do not go with the kind are bugs of the caller and raise ValueError at once, hashes of
    the wrong form when the event is sealed; the intent, sealed before KMS is asked, has the fields that are at risk.
    """

    kind: Kind
    request_id: str | None = None
    caller: str | None = None
    """The ServiceAccount's user name."""
    recipe: str | None = None
    """`namespace/name@version`, or what the caller asked for where that was not found."""
    recipe_hash: str | None = None
    key: str | None = None
    """The ByokKey, `namespace/name`."""
    key_arn: str | None = None
    """The resolved ARN of the KMS key."""
    algorithm: str | None = None
    manifest: str | None = None
    """The C2PA manifest's URN."""
    claim_sha256: str | None = None
    decision: str | None = None
    """`Audit-Id` of the SubjectAccessReview that decided on the caller, as the API server's audit log has it."""
    outcome: Outcome | None = None
    reason: str | None = None
    """`byok_api.errors.Reason` by name; text, so that records outlive a reason."""
    guarded: bool | None = None
    """False for a digest signed without its claim as evidence."""
    attempts: tuple[Attempt, ...] = ()
    suppressed: int = 0
    """Refusals of this caller, since its record before, that were counted but not recorded."""
    intent: int | None = None
    """Sequence, in the same chain, of the intent that this record settles. An intent settles another one, and has its
    attempts, where an answer got lost and KMS is asked again."""
    repeats: int | None = None
    """Sequence, in the same chain, of the outcome whose signature was given out again; KMS was not asked."""
    head: str | None = None
    """Of a checkpoint: the record whose hash it signs, its own intent, as `writer/sequence`, ..."""
    head_hash: str | None = None
    """... and that hash."""
    public_key: str | None = None
    """Of a checkpoint: the key that signed it, base64 of the DER SubjectPublicKeyInfo."""
    signature: str | None = None
    """Of a checkpoint: base64 of the signature, ECDSA as IEEE P1363."""

    def __post_init__(self) -> None:
        if (self.outcome is None) is (self.kind in _SETTLING):
            raise ValueError(f"{self.kind} does not go with outcome {self.outcome}")
        if self.outcome is None:
            _check_unsettled(self)
        else:
            _check_settlement(self)
        if self.kind is Kind.CHECKPOINT and self.outcome is Outcome.SIGNED:
            if None in signed_head_of(self):
                raise ValueError("a checkpoint names the head that it signs, its key and the signature")
        elif signed_head_of(self) != _NO_HEAD:
            raise ValueError(f"{self.kind} signs no head")
        if self.decision is not None and self.kind is Kind.CHECKPOINT:
            raise ValueError("nobody asks for a checkpoint, so nothing was decided on a caller")


_SETTLING = (Kind.OUTCOME, Kind.CERTIFY, Kind.CHECKPOINT)
signed_head_of = attrgetter("head", "head_hash", "public_key", "signature")
_NO_HEAD = (None, None, None, None)


def _check_unsettled(event: AuditEvent) -> None:
    if event.kind is Kind.CHAIN_START:
        raise ValueError("a chain start is no event: use ChainStart")
    if event.attempts or event.intent is not None or event.repeats is not None:
        _check_renewal(event)
    if (event.reason is None) is (event.kind is Kind.REFUSAL):
        raise ValueError(f"{event.kind} does not go with reason {event.reason}")
    if not 0 <= event.suppressed < SEQUENCE_LIMIT or (event.suppressed and event.kind is not Kind.REFUSAL):
        raise ValueError(f"{event.kind} does not go with {event.suppressed} suppressed refusals")


def _check_renewal(event: AuditEvent) -> None:
    """Check an intent that settles another."""
    if event.kind is not Kind.INTENT or event.intent is None or event.repeats is not None:
        raise ValueError(f"{event.kind} settles nothing: KMS was not asked yet")
    outcomes = {attempt.outcome for attempt in event.attempts}
    if Outcome.UNKNOWN not in outcomes or Outcome.SIGNED in outcomes or len(event.attempts) > ATTEMPTS_LIMIT:
        raise ValueError("an intent settles another only after an answer got lost")
    _check_sequences(event)


def _check_sequences(event: AuditEvent) -> None:
    for sequence in (event.intent, event.repeats):
        if sequence is not None and not 0 < sequence < SEQUENCE_LIMIT:
            raise ValueError(f"{sequence} is the sequence of no event")


def _check_settlement(event: AuditEvent) -> None:
    _check_sequences(event)
    if len(event.attempts) > ATTEMPTS_LIMIT or event.suppressed:
        raise ValueError(f"{event.kind} does not go with {len(event.attempts)} attempts, or suppressed refusals")
    if event.intent is None and event.kind is not Kind.OUTCOME:
        raise ValueError(f"{event.kind} settles an intent")
    if event.repeats is not None and (
        event.kind is not Kind.OUTCOME
        or event.outcome is not Outcome.SIGNED
        or event.intent is not None
        or event.attempts
    ):
        raise ValueError("only an outcome signed without intent and attempts repeats another")
