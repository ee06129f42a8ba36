"""Signed requests to AWS: credentials that expired are renewed once, a connection that went stale is replaced once."""
# ruff: noqa: ASYNC109 - the timeout is spent over both

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from byok_api.audit import Attempt, Outcome
from byok_signer.kms.connection import DisconnectedError, NotSentError, TransportError
from byok_signer.kms.endpoints import Endpoint
from byok_signer.kms.errors import EXPIRED_CODES, OUTAGE, Action, Verdict, verdict_for
from byok_signer.kms.http1 import AnswerTooLongError, HttpAnswer
from byok_signer.kms.sigv4 import Credentials, RequestSigner
from byok_signer.kms.transport import Transport


class Identity(Protocol):
    """Whose requests they are."""

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
    """Every time this was sent and not answered well."""

    def record(self, request_id: str | None, outcome: Outcome) -> None:
        """Remember a request that was sent."""
        self.attempts.append(Attempt(request_id, outcome if self.signs else Outcome.FAILED))


class SignedClient:
    """Sends requests over one transport; `clock` yields seconds since the epoch."""

    def __init__(self, transport: Transport, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._clock = clock
        self._signer = RequestSigner()

    async def post(self, request: Request, identity: Identity, *, timeout: float) -> HttpAnswer:
        """Return a good answer, or one with a code of `done_codes`; KmsError as the table says of any other."""
        deadline = asyncio.get_running_loop().time() + timeout
        credentials = await _in_time(request, deadline, identity.get())
        answer = await self._send(request, credentials, deadline)
        code, verdict = _judge(request, answer)
        if code in EXPIRED_CODES:
            credentials = await _in_time(request, deadline, identity.renew(credentials))
            answer = await self._send(request, credentials, deadline)
            code, verdict = _judge(request, answer)
        if verdict is not None:
            raise request.action.refused(verdict, code or f"HTTP status {answer.status}")
        return answer

    async def _send(self, request: Request, credentials: Credentials, deadline: float) -> HttpAnswer:
        try:
            return await self._send_once(request, credentials, deadline)
        except DisconnectedError:
            request.record(None, Outcome.UNKNOWN)
        try:
            return await self._send_once(request, credentials, deadline)
        except DisconnectedError as error:
            request.record(None, Outcome.UNKNOWN)
            raise request.action.refused(OUTAGE, str(error)) from error

    async def _send_once(self, request: Request, credentials: Credentials, deadline: float) -> HttpAnswer:
        endpoint, body = request.endpoint, request.body
        headers = self._signer.sign(endpoint.destination, credentials, body, now=self._clock())
        left = deadline - asyncio.get_running_loop().time()
        try:
            return await self._transport.post(endpoint.url, headers, body, timeout=left)
        except DisconnectedError:
            raise
        except NotSentError as error:
            raise request.action.refused(OUTAGE, str(error)) from error
        except TransportError as error:
            request.record(None, Outcome.UNKNOWN)
            raise request.action.refused(OUTAGE, str(error)) from error
        except AnswerTooLongError as error:
            request.record(None, Outcome.UNKNOWN)
            raise request.action.answer_invalid("the answer is longer than any of KMS's") from error


async def _in_time(request: Request, deadline: float, wanted: Awaitable[Credentials]) -> Credentials:
    try:
        async with asyncio.timeout_at(deadline):
            return await wanted
    except TimeoutError as error:
        raise request.action.refused(OUTAGE, "the signer's credentials did not come in time") from error


def _judge(request: Request, answer: HttpAnswer) -> tuple[str | None, Verdict | None]:
    if answer.status == HTTPStatus.OK:
        return None, None
    code, message = request.error_of(answer)
    if code in request.done_codes:
        return code, None
    verdict = verdict_for(code, message)
    request.record(answer.request_id, verdict.outcome)
    return code, verdict
