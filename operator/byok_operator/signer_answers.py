"""What the signer says, over gRPC, in the operator's words."""

from datetime import UTC, datetime

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from byok_api.errors import ERROR_DOMAIN, Reason
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_operator.observations import Finding, KmsFacts, Outcome, Probe, ReplicaHealth

_DETAILS_KEY = "grpc-status-details-bin"
_SAID_LIMIT = 300
"""Characters that are repeated of what gRPC says, or who knows what answered."""
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})

_OUTCOMES = {
    pb.ProbeResult.PASSED: Outcome.PASSED,
    pb.ProbeResult.FAILED: Outcome.FAILED,
    pb.ProbeResult.UNKNOWN: Outcome.UNKNOWN,
}


class CallFailedError(Exception):
    """A call of a signer ended without an answer."""

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """A Reason's name, perhaps one that this version does not know."""
        self.message = message
        self.retry_after = retry_after
        """Seconds, where the signer says that waiting helps."""
        self.is_transport_failure = reason == Reason.SignerUnreachable.name
        """Whether no signer answered, so that another one may."""


def failed_call(error: grpc.aio.AioRpcError, address: str) -> CallFailedError:
    """Read the signer's ErrorInfo and RetryInfo, or tell what it means that there are none."""
    info, retry = _details_of(error)
    code, details = error.code(), error.details() or ""
    if info.domain == ERROR_DOMAIN:
        delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry.HasField("retry_delay") else None
        return CallFailedError(info.reason, details, retry_after=delay)
    said = details[:_SAID_LIMIT]
    # gRPC has no status of its own for it; these are BoringSSL's and gRPC's words.
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        found = f"the TLS certificate of the signer at {address} is not trusted, or is another host's: {said}"
        return CallFailedError(Reason.SignerUnreachable.name, found)
    if code in _PASSING:
        return CallFailedError(Reason.SignerUnreachable.name, f"no signer answers at {address}: {code.name}: {said}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        found = f"what answers at {address} is no signer of this version: {said}"
        return CallFailedError(Reason.SignerUnreachable.name, found)
    return CallFailedError(Reason.Internal.name, f"the signer at {address} failed: {code.name}: {said}")


def _details_of(error: grpc.aio.AioRpcError) -> tuple[ErrorInfo, RetryInfo]:
    info, retry = ErrorInfo(), RetryInfo()
    value = dict(error.trailing_metadata() or ()).get(_DETAILS_KEY)
    if not isinstance(value, bytes):
        return info, retry
    try:
        for detail in Status.FromString(value).details:
            detail.Unpack(info)  # does nothing to a message of another type
            detail.Unpack(retry)
    except DecodeError:
        return ErrorInfo(), RetryInfo()
    return info, retry


def probe_in(response: pb.ProbeKeyResponse, at: datetime, *, replica: str) -> Probe:
    """Read a probe that was asked for at a time; `replica` names the signer if it does not say so itself."""
    return Probe(
        at=at,
        generation=response.generation,
        replica=response.replica or replica,
        public_key=_finding_in(response.get_public_key),
        sign=_finding_in(response.sign),
        certificate=_finding_in(response.certificate),
        standing=_finding_in(response.standing),
        least_privilege=_finding_in(response.least_privilege) if response.HasField("least_privilege") else None,
        facts=KmsFacts(
            key_arn=response.key_arn,
            public_key=response.public_key,
            key_spec=response.key_spec,
            key_state=response.key_state,
            origin=response.origin,
            multi_region=response.multi_region if response.HasField("multi_region") else None,
            algorithm=response.algorithm,
            external_id=response.external_id,
        ),
    )


def _finding_in(result: pb.ProbeResult) -> Finding:
    # A check that was not made, or one of a newer version's outcomes, is unknown.
    outcome = _OUTCOMES.get(result.outcome, Outcome.UNKNOWN)
    return Finding(outcome, result.reason, result.message, result.missing_statement)


def health_in(message: pb.KeyHealth, replica: str) -> tuple[ObjectName, ReplicaHealth | None]:
    """Read of which key a signer says what; None: it remembers nothing of the key any more."""
    name = ObjectName(message.namespace, message.name)
    if message.outcome == pb.ProbeResult.OUTCOME_UNSPECIFIED:
        return name, None
    return name, ReplicaHealth(
        replica=replica,
        generation=message.generation,
        outcome=_OUTCOMES.get(message.outcome, Outcome.UNKNOWN),
        reason=message.reason,
        message=message.message,
        since=_moment_in(message.since),
        last_verified=_moment_in(message.last_verified) if message.HasField("last_verified") else None,
    )


def _moment_in(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
