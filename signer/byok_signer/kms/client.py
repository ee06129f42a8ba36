"""Signed requests to AWS: credentials that expired are renewed once, a connection that went stale is replaced once."""
# ruff: noqa: ASYNC109 - the timeout is spent over both

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from byok_api.audit import Attempt, Outcome
from byok_signer.kms.connection import DisconnectedError, NotSentError, TransportError
from byok_signer.kms.endpoints import Endpoint
from byok_signer.kms.errors import EXPIRED_CODES, OUTAGE, VERDICTS, Action, Verdict, verdict_for
from byok_signer.kms.http1 import AnswerTooLongError, HttpAnswer
from byok_signer.kms.port import OnLost
from byok_signer.kms.sigv4 import Credentials, RequestSigner
from byok_signer.kms.transport import Transport

_OK = 200

Observe = Callable[[str, str, float], None]
"""Told of each request: its operation, such as kms:Sign; how it ended; after how many seconds.

It ended `ok`, with an error code of AWS's that is known here, with `other` for any other answer, or without an answer:
`not_sent`, `disconnected`, `no_answer`, `too_long`, `cancelled`.
"""


class Identity(Protocol):
    """Whose requests they are."""

    def ready(self) -> Credentials | None:
        """Return credentials that should be valid, unless they have to be waited for."""
        ...

    async def get(self) -> Credentials:
        """Return credentials that should be valid; KmsError."""
        ...

    async def renew(self, stale: Credentials) -> Credentials:
        """Replace credentials that AWS says have expired; KmsError."""
        ...


@dataclass(slots=True)  # not frozen: one is made for every signature, and freezing doubles the cost
class Request:
    """One POST, and what is needed to tell of its failure."""

    action: Action
    endpoint: Endpoint
    body: bytes
    error_of: Callable[[HttpAnswer], tuple[str | None, str]]
    signs: bool = False
    """Whether it may leave a signature behind."""
    done_codes: frozenset[str] = frozenset()
    """Error codes that are the wanted answer."""
    attempts: list[Attempt] = field(default_factory=list)
    """Every time that this was sent; those that `on_lost` was told of are gone."""
    on_lost: OnLost | None = None

    def record(self, request_id: str | None, outcome: Outcome) -> None:
        """Remember a request that was sent."""
        self.attempts.append(Attempt(request_id, outcome if self.signs else Outcome.FAILED))

    async def tell_lost(self) -> None:
        """Tell `on_lost` if what was sent may have left a signature; what that raises comes out."""
        if self.on_lost is not None and any(attempt.outcome is Outcome.UNKNOWN for attempt in self.attempts):
            await self.on_lost(tuple(self.attempts))
            self.attempts.clear()


@dataclass(slots=True)
class _Answered:
    answer: HttpAnswer
    code: str | None = None
    verdict: Verdict | None = None
    """None for a wanted answer."""


class SignedClient:
    """Sends requests over one transport; `clock` yields seconds since the epoch."""

    def __init__(self, transport: Transport, clock: Callable[[], float], observe: Observe) -> None:
        self._transport = transport
        self._clock = clock
        self._observe = observe
        self._signer = RequestSigner()

    async def post(self, request: Request, identity: Identity, *, timeout: float) -> HttpAnswer:
        """Return a good answer, or one with a code of `done_codes`; KmsError as the table says of any other."""
        deadline = asyncio.get_running_loop().time() + timeout
        credentials = identity.ready()
        if credentials is None:
            credentials = await _in_time(request, deadline, identity.get())
        answered = await self._send(request, credentials, deadline)
        if answered.code in EXPIRED_CODES:
            credentials = await _in_time(request, deadline, identity.renew(credentials))
            answered = await self._send(request, credentials, deadline)
        if answered.verdict is not None:
            raise request.action.refused(answered.verdict, answered.code or f"HTTP status {answered.answer.status}")
        return answered.answer

    async def _send(self, request: Request, credentials: Credentials, deadline: float) -> _Answered:
        try:
            return await self._send_once(request, credentials, deadline, fresh=False)
        except DisconnectedError:
            pass  # Perhaps the connection was only old.
        try:
            return await self._send_once(request, credentials, deadline, fresh=True)
        except DisconnectedError as error:
            raise request.action.refused(OUTAGE, str(error)) from error

    async def _send_once(
        self, request: Request, credentials: Credentials, deadline: float, *, fresh: bool
    ) -> _Answered:
        """Send, observe and record; KmsError if no answer came, but DisconnectedError as it is."""
        if request.attempts:
            await request.tell_lost()
        time, endpoint, body = asyncio.get_running_loop().time, request.endpoint, request.body
        head = self._signer.sign(endpoint.destination, credentials, body, now=self._clock())
        began, outcome = time(), "cancelled"
        try:
            answer = await self._transport.post(endpoint.url, head, body, timeout=deadline - began, fresh=fresh)
            answered = _judge(request, answer)
            outcome = _told(request, answered)
        except NotSentError as error:
            outcome = "not_sent"
            raise request.action.refused(OUTAGE, str(error)) from error
        except DisconnectedError:
            outcome = "disconnected"
            request.record(None, Outcome.UNKNOWN)
            raise
        except TransportError as error:
            outcome = "no_answer"
            request.record(None, Outcome.UNKNOWN)
            raise request.action.refused(OUTAGE, str(error)) from error
        except AnswerTooLongError as error:
            outcome = "too_long"
            request.record(None, Outcome.UNKNOWN)
            raise request.action.answer_invalid("the answer is longer than any of KMS's") from error
        finally:
            self._observe(request.action.operation, outcome, time() - began)
        return answered


async def _in_time(request: Request, deadline: float, wanted: Awaitable[Credentials]) -> Credentials:
    try:
        async with asyncio.timeout_at(deadline):
            return await wanted
    except TimeoutError as error:
        raise request.action.refused(OUTAGE, "the signer's credentials did not come in time") from error


def _judge(request: Request, answer: HttpAnswer) -> _Answered:
    if answer.status == _OK:
        return _Answered(answer)
    code, message = request.error_of(answer)
    if code in request.done_codes:
        return _Answered(answer, code)
    verdict = verdict_for(code, message)
    request.record(answer.request_id, verdict.outcome)
    return _Answered(answer, code, verdict)


def _told(request: Request, answered: _Answered) -> str:
    """Name the end of an exchange, by no word that only the other side chose."""
    code = answered.code
    if code is None and answered.verdict is None:
        return "ok"
    return code if code is not None and (code in VERDICTS or code in request.done_codes) else "other"
