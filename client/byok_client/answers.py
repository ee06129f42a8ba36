"""What a failed call means, and whether to try again: pure, from the parts of a gRPC status."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from byok_api.errors import ERROR_DOMAIN, Reason, Refusal

DETAILS_KEY = "grpc-status-details-bin"
REBUILD = frozenset({Reason.RecipeChanged, Reason.CertificateChanged})
"""Reasons after which a manifest is composed again, once."""

_BACKOFF_BASE = 0.1
_BACKOFF_LIMIT = 2.0
_LEAST_DELAY = 0.01  # a RetryInfo of nothing must not become a loop
_JITTER = 0.25
_NO_DETAILS = {
    grpc.StatusCode.UNIMPLEMENTED: (Reason.SignerUnreachable, "what answers there is no signer of this version"),
    grpc.StatusCode.UNAUTHENTICATED: (Reason.TokenInvalid, "something before the signer refused the token"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Reason.ClaimRefused, "the message is larger than the signer takes"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.SignerUnreachable, "the signer did not answer in time"),
}


class SignerError(Refusal):
    """The signer refused, or could not be reached."""

    def __init__(self, reason: Reason, message: str, *, code: grpc.StatusCode, retry_after: float | None) -> None:
        super().__init__(reason, message, retry_after=retry_after)
        self.code = code
        self.is_transport_failure = False
        """Whether no signer answered, so that another replica may, or the same one later."""

    @property
    def is_deadline(self) -> bool:
        """Whether all that is known is that the call's own time was over."""
        return self.reason is Reason.SignerUnreachable and self.code is grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass(frozen=True)
class Failure:
    """A gRPC call that ended without an answer."""

    code: grpc.StatusCode
    details: str
    trailers: Iterable[tuple[str, str | bytes]]


def error_of(failure: Failure, address: str) -> SignerError:
    """Read the signer's ErrorInfo and RetryInfo, or tell what it means that there are none."""
    info, retry = _details_of(failure.trailers)
    if info.domain != ERROR_DOMAIN:
        return _without_details(failure, address)
    delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry.HasField("retry_delay") else None
    reason = Reason.__members__.get(info.reason, Reason.Internal)
    message = failure.details if info.reason in Reason.__members__ else f"{info.reason}: {failure.details}"
    error = SignerError(reason, message, code=failure.code, retry_after=delay)
    error.metadata = dict(info.metadata)
    return error


def _details_of(trailers: Iterable[tuple[str, str | bytes]]) -> tuple[ErrorInfo, RetryInfo]:
    info, retry = ErrorInfo(), RetryInfo()
    value = dict(trailers).get(DETAILS_KEY)
    if not isinstance(value, bytes):
        return info, retry
    try:
        for detail in Status.FromString(value).details:
            detail.Unpack(info)  # does nothing to a message of another type
            detail.Unpack(retry)
    except DecodeError:
        return ErrorInfo(), RetryInfo()
    return info, retry


def _without_details(failure: Failure, address: str) -> SignerError:
    said = failure.details[:300]
    # A server that stops cancels what reached it too late; our own cancelling is told apart before this.
    if failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        if _is_certificate_failure(failure.details):
            message = f"the TLS certificate of {address} is not trusted, or is another host's: {said}"
            return SignerError(Reason.ConfigurationInvalid, message, code=failure.code, retry_after=None)
        return _unanswered(f"no signer answers at {address}: {said}", failure.code)
    if failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED and not _is_too_large(failure.details):
        return _unanswered(f"the signer at {address}, or something before it, has too much to do: {said}", failure.code)
    reason, meaning = _NO_DETAILS.get(failure.code, (Reason.Internal, "the signer failed"))
    message = f"{meaning}: {address} answered {failure.code.name}: {said}"
    return SignerError(reason, message, code=failure.code, retry_after=None)


def _unanswered(message: str, code: grpc.StatusCode) -> SignerError:
    error = SignerError(Reason.SignerUnreachable, message, code=code, retry_after=None)
    error.is_transport_failure = True
    return error


def _is_too_large(details: str) -> bool:
    # gRPC answers alike when it has no room for another call ("Concurrent RPC limit exceeded!"), but that passes.
    return "larger than max" in details or "metadata size exceeds" in details


def _is_certificate_failure(details: str) -> bool:
    # gRPC has no status of its own for it; these are BoringSSL's and gRPC's words.
    return "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details


def retry_delay(error: SignerError, attempt: int, remaining: float, chance: float) -> float | None:
    """Say how many seconds to wait before attempt number `attempt` + 1, or None to give up.

    Never less than the signer asks for, and more each time (google.rpc.RetryInfo). `chance` is uniform in [0, 1): it
    spreads the clients of a signer that comes back.
    """
    growth = 2 ** min(attempt, 16)
    if error.retry_after is not None:
        least = max(error.retry_after, _LEAST_DELAY)
        delay = min(max(_BACKOFF_LIMIT, least), least * growth) * (1 + _JITTER * chance)
    elif error.is_transport_failure:
        delay = min(_BACKOFF_LIMIT, _BACKOFF_BASE * growth) * (0.5 + chance / 2)
    else:
        return None
    return delay if delay < remaining else None
