"""Refusals as callers of the signer get them."""

from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from byok_api.errors import ERROR_DOMAIN, Reason
from byok_signer.rpc_status import STATUS_DETAILS_KEY


@dataclass(frozen=True)
class Told:
    """What a refused caller is told; its shape has been checked."""

    reason: Reason
    message: str
    metadata: dict[str, str]
    retry_after: float | None


async def refusal_of(call: Awaitable[object]) -> Told:
    """Have a call refused, with a reason, and under that reason's status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    told = told_by(status_in(caught.value))
    assert caught.value.code() is told.reason.facts.status
    assert caught.value.details() == told.message
    return told


def status_in(error: grpc.aio.AioRpcError) -> Status:
    """Read a status's details."""
    return Status.FromString(dict(error.trailing_metadata())[STATUS_DETAILS_KEY])


def told_by(status: Status) -> Told:
    """Read a status, of a call or of one item of a stream."""
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    waiting_helps = len(status.details) > 1 and status.details[1].Unpack(retry)
    reason = Reason[info.reason]
    assert (info.domain, status.code) == (ERROR_DOMAIN, reason.facts.status.value[0])
    delay = retry.retry_delay.ToMilliseconds() / 1000 if waiting_helps else None
    return Told(reason, status.message, dict(info.metadata), delay)
