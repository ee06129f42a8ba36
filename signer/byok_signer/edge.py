"""Between gRPC and the pipeline: calls in, answers and refusals out, each counted and logged under a request id."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, cast

import grpc
import grpc.aio

from byok_api.errors import Reason, Refusal
from byok_service.logs import request_id
from byok_signer.metrics import Metrics
from byok_signer.rpc_status import STATUS_DETAILS_KEY, status_of
from byok_signer.work import Call

_LOG = logging.getLogger(__name__)
_BEARER = "bearer "
REQUEST_ID_KEY = "x-request-id"
"""Trailing metadata entry of a refusal: by what log and audit trail know the call."""
_STOPPING_RETRY_AFTER = 0.1
"""Seconds."""
_NO_DEADLINE = math.inf
"""For a call whose caller set none; KMS gets far less, streams may last."""

_LOGGED_PER_SECOND = 10
"""Lines about refusals for one reason; a reader of the log that is slow would else hold up all calls."""

Context = grpc.aio.ServicerContext[object, object]


@dataclass
class _Logged:
    """What was logged of one reason."""

    since: float
    lines: int = 0
    left_out: int = 0


class Edge:
    """Runs RPC handlers: what they return is answered, what they refuse becomes a status, all else is `Internal`."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._serving = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._last_call = -math.inf
        self._logged: dict[Reason, _Logged] = {}

    def close(self) -> None:
        """Refuse new calls from now on, so that their callers ask another signer (ShuttingDown)."""
        self._closing = True

    async def idle(self) -> None:
        """Wait until no call is being served."""
        await self._idle.wait()

    @asynccontextmanager
    async def serving(self, method: str, context: Context) -> AsyncIterator[Call]:
        """Count, name and bound one call; a refusal raised inside ends it with its status."""
        call = call_of(context)
        token = request_id.set(call.request_id)
        self.metrics.request_started()
        started, code = time.monotonic(), grpc.StatusCode.OK
        try:
            try:
                self._enter(started)
                try:
                    self.check_open()
                    yield call
                finally:
                    # Before a refusal is sent: that waits for ever for a caller who does not read.
                    self._leave()
            except Refusal as refusal:
                code = refusal.reason.facts.status
                self.refused(refusal)
                await _abort(context, refusal, call)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception:  # noqa: BLE001 - the last stop: the caller is told, the log has the traceback
                code = grpc.StatusCode.INTERNAL
                self.unforeseen(method)
                await _abort(context, internal(call.request_id), call)
        finally:
            self.metrics.request_finished(method, code.name, time.monotonic() - started)
            request_id.reset(token)

    @property
    def quiet_seconds(self) -> float:
        """Since the last call came."""
        return time.monotonic() - self._last_call

    def _enter(self, now: float) -> None:
        self._last_call = now
        self._serving += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._serving -= 1
        if not self._serving:
            self._idle.set()

    def check_open(self) -> None:
        """Refuse (ShuttingDown) once `close` was called."""
        if self._closing:
            raise shutting_down("call again, and another one answers")

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal, of a call or of one item of a stream, and log it; of a flood a few a second."""
        self.metrics.refused(refusal.reason)
        now = time.monotonic()
        log = self._logged.setdefault(refusal.reason, _Logged(now))
        if now - log.since >= 1:
            log.since, log.lines = now, 0
        if log.lines == _LOGGED_PER_SECOND:
            log.left_out += 1
            return
        extra: dict[str, object] = {"reason": refusal.reason.name, "found": refusal.message}
        if log.left_out:
            extra["not_logged_before"] = log.left_out
        log.lines, log.left_out = log.lines + 1, 0
        _LOG.info("refused", extra=extra)

    def unforeseen(self, method: str) -> None:
        """Log the exception being handled: a bug."""
        _LOG.exception("unforeseen error", extra={"method": method})


def shutting_down(what_now: str) -> Refusal:
    """Make the refusal of what comes, or is still open, when the signer stops."""
    return Refusal(Reason.ShuttingDown, f"this signer is about to stop; {what_now}", retry_after=_STOPPING_RETRY_AFTER)


def malformed(method: str) -> Refusal:
    """Make the refusal of a message that cannot be parsed: gRPC alone would answer UNKNOWN, and log a traceback."""
    return Refusal(Reason.InvalidRequest, f"the message is no Protobuf message of {method}; use the published .proto")


def internal(identity: str) -> Refusal:
    """Make the refusal behind which a bug hides; the log tells more under the same request id."""
    return Refusal(Reason.Internal, f"the signer met an unforeseen error; its log has it under request id {identity}")


def call_of(context: Context) -> Call:
    """Read what a call says of itself: bearer token and deadline; the request id is made here, never taken over."""
    token = None
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
            token = value[len(_BEARER) :]
    # The stubs do not know that there is none without a deadline.
    remaining = cast("float | None", context.time_remaining())
    deadline = time.monotonic() + (_NO_DEADLINE if remaining is None else remaining)
    return Call(uuid.uuid4().hex, token, deadline)


async def _abort(context: Context, refusal: Refusal, call: Call) -> NoReturn:
    status = status_of(refusal)
    # The id is no part of the status: two refusals that must not be told apart have the same status.
    trailers = ((STATUS_DETAILS_KEY, status.SerializeToString()), (REQUEST_ID_KEY, call.request_id))
    try:
        await context.abort(refusal.reason.facts.status, status.message, trailers)
    except grpc.aio.AbortError as error:
        when_done(partial(_forget_path, error))
        raise
    raise AssertionError("abort returned")


def when_done(callback: Callable[[object], None]) -> None:
    """Have `callback` called when nothing of the call that is served here is left.

    `context.add_done_callback` would make a cycle of each call, which only the garbage collector ends.
    """
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("calls are served in tasks")
    task.add_done_callback(callback)


def _forget_path(error: BaseException, _: object) -> None:
    # gRPC keeps the error with the call, and the error its frames, and those the call: with thousands of refused calls
    # the garbage collector would hold up all others for tenths of a second.
    path: BaseException | None = error
    while path is not None:
        before = path.__context__
        path.__traceback__ = path.__context__ = None
        path = before
