"""Refusals as gRPC carries them: google.rpc.Status with ErrorInfo and, where waiting helps, RetryInfo (AIP-193)."""

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from byok_api.errors import ERROR_DOMAIN, Refusal

STATUS_DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata entry that carries a google.rpc.Status (gRPC richer error model)."""

# Bytes. gRPC peers take 8 KiB of headers, and the message travels twice: percent-encoded, and in base64.
_MESSAGE_LIMIT = 1024
_METADATA_LIMIT = 256


def status_of(refusal: Refusal) -> Status:
    """Write a refusal as google.rpc.Status."""
    facts = refusal.reason.facts
    code, _name = facts.status.value
    status = Status(code=code, message=_cut(refusal.message, _MESSAGE_LIMIT))
    info = ErrorInfo(reason=refusal.reason.name, domain=ERROR_DOMAIN)
    info.metadata.update({key: _cut(value, _METADATA_LIMIT) for key, value in refusal.metadata.items()})
    info.metadata["remedy"] = facts.remedy
    status.details.append(_packed(info))
    if refusal.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(int(refusal.retry_after * 1000))
        status.details.append(_packed(RetryInfo(retry_delay=delay)))
    return status


def _cut(text: str, limit: int) -> str:
    # A file's name can hold what is no text: lone surrogates, which Protobuf does not take.
    return text.encode(errors="replace")[:limit].decode(errors="ignore")


def _packed(message: ErrorInfo | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
