"""What a trail tells: events, before they have a place in a chain."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        "outcome": 16,
        "reason": 64,
        "head": 160,
        "head_hash": 64,
        "public_key": 1024,
        "signature": 1024,
    },
)
texts_of = attrgetter(*TEXT_LIMITS)
HASH = re.compile(r"[0-9a-f]{64}")


class Kind(StrEnum):
    """What a record tells."""

    CHAIN_START = "chain-start"
    """A writer begins; names the chain that it continues and the torn lines that it found."""
    INTENT = "intent"
    """A signature is about to be asked of KMS."""
    OUTCOME = "outcome"
    """What became of a signature that was asked of KMS."""
    REFUSAL = "refusal"
    """A request was refused before KMS was asked to sign."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What happened, before it has a place in a chain.

    Recording must not fail because of what is recorded: text over its limit is cut and ends in an ellipsis. Hashes of
    the wrong form and fields that do not go with the kind are bugs of the caller and raise ValueError, so build the
    intent before KMS is asked, and what settles it with `settled_by`.
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
    outcome: Outcome | None = None
    reason: str | None = None
    """`byok_api.errors.Reason` by name; text, so that records outlive a reason."""
    guarded: bool | None = None
    """False for a digest signed without its claim as evidence."""
    attempts: tuple[Attempt, ...] = ()
    suppressed: int = 0
    """Refusals of this caller, since its record before, that were counted but not recorded."""
    intent: int | None = None
    """Sequence, in the same chain, of the intent that this record settles."""
    repeats: int | None = None
    """Sequence, in the same chain, of the outcome whose signature was given out again; KMS was not asked."""
    head: str | None = None
    """Of a checkpoint: the record before it, `writer/sequence`, ..."""
    head_hash: str | None = None
    """... and that record's hash."""
    public_key: str | None = None
    """Of a checkpoint: the key that signed it, base64 of the DER SubjectPublicKeyInfo."""
    signature: str | None = None
    """Of a checkpoint: base64 of the signature, ECDSA as IEEE P1363."""

    def __post_init__(self) -> None:
        for (name, limit), text in zip(TEXT_LIMITS.items(), texts_of(self), strict=True):
            if text is not None and len(text) > limit:
                object.__setattr__(self, name, text[: limit - 1] + "…")
        for digest in (self.recipe_hash, self.claim_sha256, self.head_hash):
            if digest is not None and HASH.fullmatch(digest) is None:
                raise ValueError("a hash is not 64 lower-case hexadecimal digits")
        _check_kind(self)

    def settled_by(
        self,
        sequence: int,
        outcome: Outcome,
        *,
        attempts: tuple[Attempt, ...] = (),
        reason: str | None = None,
        key_arn: str | None = None,
    ) -> "AuditEvent":
        """Make the outcome of this intent, which was recorded as `sequence`; `key_arn` if another one signed."""
        return replace(
            self,
            kind=Kind.OUTCOME,
            intent=sequence,
            outcome=outcome,
            attempts=attempts,
            reason=reason,
            key_arn=key_arn or self.key_arn,
        )


def _check_kind(event: AuditEvent) -> None:
    if event.kind is Kind.CHAIN_START:
        raise ValueError("a chain start is no event: use ChainStart")
    if (event.outcome is not None) is (event.kind in (Kind.INTENT, Kind.REFUSAL)):
        raise ValueError(f"{event.kind} does not go with outcome {event.outcome}")
    if event.kind is Kind.INTENT and event.reason is not None:
        raise ValueError("an intent has no reason yet")
    _check_references(event)
    if event.kind is Kind.REFUSAL and event.reason is None:
        raise ValueError("a refusal needs a reason")
    if event.attempts and (event.outcome is None or len(event.attempts) > ATTEMPTS_LIMIT):
        raise ValueError(f"{event.kind} does not go with {len(event.attempts)} attempts")
    if not 0 <= event.suppressed < SEQUENCE_LIMIT or (event.suppressed and event.kind is not Kind.REFUSAL):
        raise ValueError(f"{event.kind} does not go with {event.suppressed} suppressed refusals")


def _check_references(event: AuditEvent) -> None:
    for sequence in (event.intent, event.repeats):
        if sequence is not None and not 0 < sequence < SEQUENCE_LIMIT:
            raise ValueError(f"{sequence} is the sequence of no event")
    if event.intent is not None and event.outcome is None:
        raise ValueError(f"{event.kind} settles no intent")
    if event.repeats is not None and (
        (event.kind, event.outcome, event.intent) != (Kind.OUTCOME, Outcome.SIGNED, None) or event.attempts
    ):
        raise ValueError("only an outcome signed without intent and attempts repeats another")
    checkpoint = (event.head, event.head_hash, event.public_key, event.signature)
    if checkpoint != (None,) * 4 and event.kind is not Kind.CHECKPOINT:
        raise ValueError(f"{event.kind} does not go with what a checkpoint signs")
