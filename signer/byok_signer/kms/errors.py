"""What AWS's error codes mean to whom (the table), and the refusal made of one.

An answer that names a code tells what became of the request; where it does not, the attempt is `unknown`. AWS's own
message is never repeated: it can quote the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypedDict

from byok_api.audit import Attempt, Outcome
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName

THROTTLED_RETRY_AFTER = 0.5
"""Seconds: KMS quotas are per second, so that half of one frees a good part (KMS Developer Guide, Request quotas)."""
OUTAGE_RETRY_AFTER = 1.0
"""Seconds."""


class KmsError(Refusal):
    """KMS, or STS on the way to it, did not do what was asked; `attempts` are the requests that were made."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        attempts: tuple[Attempt, ...] = (),
    ) -> None:
        super().__init__(reason, message, retry_after=retry_after, metadata=metadata)
        self.attempts = attempts

    @property
    def request_id(self) -> str | None:
        """Request id of the last answer."""
        return next((attempt.kms_request_id for attempt in reversed(self.attempts) if attempt.kms_request_id), None)


def told_of_attempts(refusal: Refusal, attempts: tuple[Attempt, ...]) -> KmsError:
    """Copy any refusal as KMS's own, with these attempts, so that the record of the failure has what KMS was asked."""
    return KmsError(
        refusal.reason,
        refusal.message,
        retry_after=refusal.retry_after,
        metadata=refusal.metadata,
        attempts=attempts,
    )


OUTAGE_REASONS = frozenset({Reason.KmsUnavailable, Reason.KmsThrottled, Reason.KmsDeadlineExceeded})
"""Reasons that say nothing about the key: KMS could not be asked, or not now."""


class Failure(TypedDict):
    """What a record tells of a signature that was not released."""

    outcome: Outcome
    reason: str
    attempts: tuple[Attempt, ...]


def failure_of(error: Exception, *, lost: bool) -> Failure:
    """Say what became of a call of `kms:Sign` that ended in an error; of a bug nobody knows, and it says so.

    `lost` tells that answers got lost before the attempts that the error has: KMS may have signed then.
    """
    if not isinstance(error, Refusal):
        unknown = (Attempt(None, Outcome.UNKNOWN),)
        return Failure(outcome=Outcome.UNKNOWN, reason=Reason.Internal.name, attempts=unknown)
    attempts = error.attempts if isinstance(error, KmsError) else ()
    is_unknown = lost or any(attempt.outcome is Outcome.UNKNOWN for attempt in attempts)
    outcome = Outcome.UNKNOWN if is_unknown else Outcome.FAILED
    return Failure(outcome=outcome, reason=error.reason.name, attempts=attempts)


@dataclass(frozen=True)
class Verdict:
    """One row: what an error code means."""

    reason: Reason
    outcome: Outcome
    retry_after: float | None = None

    @property
    def is_outage(self) -> bool:
        """Whether asking again, or in another Region, can help right now."""
        return self.reason is Reason.KmsUnavailable


THROTTLED = Verdict(Reason.KmsThrottled, Outcome.FAILED, THROTTLED_RETRY_AFTER)
REFUSED_OUTAGE = Verdict(Reason.KmsUnavailable, Outcome.FAILED, OUTAGE_RETRY_AFTER)
OUTAGE = Verdict(Reason.KmsUnavailable, Outcome.UNKNOWN, OUTAGE_RETRY_AFTER)
"""No answer, or one of an unknown code."""


def _refused(reason: Reason) -> Verdict:
    return Verdict(reason, Outcome.FAILED)


# Codes of KMS (API reference, Sign, GetPublicKey and "Common errors") and, marked, of STS's query protocol.
VERDICTS: Mapping[str, Verdict] = MappingProxyType(
    {
        "ThrottlingException": THROTTLED,
        "Throttling": THROTTLED,  # STS
        "KeyUnavailableException": REFUSED_OUTAGE,
        "DependencyTimeoutException": OUTAGE,
        "KMSInternalException": OUTAGE,
        "DisabledException": _refused(Reason.KeyDisabled),
        "KMSInvalidStateException": _refused(Reason.KeyInvalidState),
        "NotFoundException": _refused(Reason.KeyNotFound),
        "InvalidArnException": _refused(Reason.KeyNotFound),
        "InvalidKeyUsageException": _refused(Reason.KeyUsageInvalid),
        # GetPublicKey of a symmetric key.
        "UnsupportedOperationException": _refused(Reason.KeyUsageInvalid),
        "InvalidGrantTokenException": _refused(Reason.GrantTokenInvalid),
        "InvalidGrantToken": _refused(Reason.GrantTokenInvalid),
        "AccessDeniedException": _refused(Reason.KeyAccessDenied),
        "AccessDenied": _refused(Reason.KeyAccessDenied),  # STS
        # The adapter has refreshed its credentials once before this is final.
        "ExpiredTokenException": _refused(Reason.SignerCredentialsInvalid),
        "ExpiredToken": _refused(Reason.SignerCredentialsInvalid),  # STS
        "UnrecognizedClientException": _refused(Reason.SignerCredentialsInvalid),
        "InvalidClientTokenId": _refused(Reason.SignerCredentialsInvalid),  # STS
        "MissingAuthenticationTokenException": _refused(Reason.SignerCredentialsInvalid),
        "MissingAuthenticationToken": _refused(Reason.SignerCredentialsInvalid),  # STS
        "IncompleteSignatureException": _refused(Reason.SignerCredentialsInvalid),
        "IncompleteSignature": _refused(Reason.SignerCredentialsInvalid),  # STS
        "InvalidSignatureException": _refused(Reason.SignerCredentialsInvalid),
        "SignatureDoesNotMatch": _refused(Reason.SignerCredentialsInvalid),  # STS
        "RequestExpired": _refused(Reason.SignerClockSkewed),
        "RequestTimeTooSkewed": _refused(Reason.SignerClockSkewed),
    },
)

ASSUME_ROLE = "sts:AssumeRole"
"""`Action.operation` of what is asked of STS for a key."""

EXPIRED_CODES = frozenset({"ExpiredTokenException", "ExpiredToken"})
# AWS has no code for a clock that is off: it is a bad signature whose message begins so.
_SIGNATURE_CODES = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch"})
_SKEW_MARKS = ("signature expired", "signature not yet current")


def verdict_for(code: str | None, aws_message: str = "") -> Verdict:
    """Look a code up; an unknown one, or none, is an outage."""
    if code in _SIGNATURE_CODES and aws_message.lower().startswith(_SKEW_MARKS):
        return VERDICTS["RequestTimeTooSkewed"]
    return OUTAGE if code is None else VERDICTS.get(code, OUTAGE)


@dataclass(slots=True)  # not frozen: one is made for every signature, and freezing doubles the cost
class Action:
    """What was asked, and for which key."""

    key: ObjectName
    operation: str
    """Such as kms:Sign."""
    resource: str
    """ARN of the key, alias or role."""

    def refused(self, verdict: Verdict, found: str) -> KmsError:
        """Make the refusal; `found` is an error code, or says in a few words what happened instead of an answer."""
        return KmsError(
            verdict.reason,
            f"key {self.key}: {self.operation} on {self.resource}: {found}. "
            f"{verdict.reason.facts.cause} {verdict.reason.facts.remedy}",
            retry_after=verdict.retry_after,
            metadata={"key": str(self.key), "action": self.operation, "resource": self.resource},
        )

    def answer_invalid(self, found: str) -> KmsError:
        """Make the refusal of an answer that is not what KMS would say to this request."""
        return self.refused(_refused(Reason.KmsAnswerInvalid), found)
