"""Every fault of KMS and STS, and what it comes to for a signature: a table."""

from dataclasses import dataclass

from byok_api.errors import Reason
from byok_sandbox.kms.injection import (
    ClockSkew,
    ErrorAnswer,
    Fault,
    Garbage,
    GatewayAnswer,
    Hang,
    Latency,
    OtherSignature,
    Reset,
    Truncate,
    WrongKeyId,
)
from tests.support.signer import DEADLINE

SIGN, LOOK, ASSUME, ANYWHERE = "Sign", "GetPublicKey", "AssumeRole", None
EVERYWHERE = frozenset({SIGN, LOOK, ASSUME})
OF_KMS = frozenset({SIGN, LOOK})
SHORT = 1.0
"""Seconds that a caller gives the signer where KMS takes longer."""


@dataclass(frozen=True)
class Row:
    """What a fault comes to."""

    reason: Reason | None
    """None: the caller does not notice."""
    attempts: str
    """Outcomes of the requests to sign, in order, by their initials."""
    made: int = 0
    """Signatures in KMS's own log: those attempts, and unknown ones."""
    waits: bool = False
    """Whether the caller is told that waiting helps."""
    at: frozenset[str] = EVERYWHERE
    """Where it is tried: STS has no code that is a key's, and one of each other sort will do for it."""
    shows: frozenset[str] = EVERYWHERE
    """Where it matters."""
    times: int | None = None
    deadline: float = DEADLINE


def outage(attempts: str, made: int = 0, at: frozenset[str] = EVERYWHERE) -> Row:
    return Row(Reason.KmsUnavailable, attempts, made, waits=True, at=at)


def passing(attempts: str, made: int = 1, times: int | None = 1) -> Row:
    return Row(None, attempts, made, times=times)


def refused(reason: Reason) -> Row:
    return Row(reason, "f", at=OF_KMS)


def too_late(made: int, at: frozenset[str] = frozenset({SIGN})) -> Row:
    return Row(Reason.KmsDeadlineExceeded, "u", made, at=at, deadline=SHORT)


def error(code: str, status: int | None = None) -> Fault:
    return ErrorAnswer(code=code, status=status)


# An outage is tried three times; a connection that breaks before an answer is replaced once each time.
TABLE: dict[str, tuple[Fault, Row]] = {
    "latency": (Latency(seconds=0.05), passing("s", times=None)),
    "latency past the deadline": (Latency(seconds=2 * SHORT), too_late(1)),
    "throttled": (error("ThrottlingException"), Row(Reason.KmsThrottled, "f", waits=True)),
    "key unavailable": (error("KeyUnavailableException"), outage("fff", at=OF_KMS)),
    "dependency timeout": (error("DependencyTimeoutException"), outage("uuu", at=OF_KMS)),
    "internal": (error("KMSInternalException"), outage("uuu", at=OF_KMS)),
    "unknown code": (error("NeverHeardOfException"), outage("uuu", at=OF_KMS)),
    "500 of AWS": (error("InternalFailure"), outage("uuu", at=OF_KMS)),
    "502 of AWS": (error("InternalFailure", 502), outage("uuu", at=OF_KMS)),
    "503 of AWS": (error("ServiceUnavailable"), outage("uuu")),
    "500 of a gateway": (GatewayAnswer(status=500), outage("uuu", at=OF_KMS)),
    "502 of a gateway": (GatewayAnswer(status=502), outage("uuu", at=OF_KMS)),
    "503 of a gateway": (GatewayAnswer(status=503), outage("uuu")),
    "504 after it was done": (GatewayAnswer(status=504, after=True), outage("uuu", 3)),
    "502 once": (GatewayAnswer(), passing("us")),
    "reset": (Reset(), outage("uuuuuu")),
    "reset after it was done": (Reset(after=True), outage("uuuuuu", 6)),
    "reset once": (Reset(), passing("us")),
    "reset once after it was done": (Reset(after=True), passing("us", 2)),
    "truncated": (Truncate(), outage("uuu", 3)),
    "truncated once": (Truncate(), passing("us", 2)),
    "hangs": (Hang(), too_late(0, at=EVERYWHERE)),
    "hangs after it was done": (Hang(after=True), too_late(1)),
    "garbage": (Garbage(), Row(Reason.KmsAnswerInvalid, "u", 1)),
    "wrong key": (WrongKeyId(), Row(Reason.KmsAnswerInvalid, "u", 1, at=OF_KMS)),
    "other signature": (OtherSignature(), Row(Reason.KmsAnswerInvalid, "s", 1, at=OF_KMS, shows=frozenset({SIGN}))),
    "disabled": (error("DisabledException"), refused(Reason.KeyDisabled)),
    "invalid state": (error("KMSInvalidStateException"), refused(Reason.KeyInvalidState)),
    "not found": (error("NotFoundException"), refused(Reason.KeyNotFound)),
    "invalid usage": (error("InvalidKeyUsageException"), refused(Reason.KeyUsageInvalid)),
    "grant token": (error("InvalidGrantTokenException"), refused(Reason.GrantTokenInvalid)),
    "denied": (error("AccessDeniedException"), Row(Reason.KeyAccessDenied, "f")),
    "expired credentials": (error("ExpiredTokenException"), Row(Reason.SignerCredentialsInvalid, "ff")),
    "expired once": (error("ExpiredTokenException"), passing("fs")),
    "unknown client": (error("UnrecognizedClientException"), Row(Reason.SignerCredentialsInvalid, "f")),
    "bad signature": (error("InvalidSignatureException"), Row(Reason.SignerCredentialsInvalid, "f")),
    "clock behind": (ClockSkew(seconds=-400), Row(Reason.SignerClockSkewed, "f")),
    "clock ahead": (ClockSkew(seconds=400), Row(Reason.SignerClockSkewed, "f")),
}
