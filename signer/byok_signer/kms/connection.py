"""One connection of HTTP/1.1: a request, then its answer, then perhaps the next request."""

import asyncio
from collections.abc import Callable
from typing import cast

from yarl import URL

from byok_signer.kms.http1 import AnswerReader, AnswerTooLongError, HttpAnswer, HttpError


class TransportError(Exception):
    """No answer came, or not all of it; str() says why in a few words.

    TransportError
    +- NotSentError        the request did not leave this process
    +- DisconnectedError   the other side hung up before the first byte of an answer
    """


class NotSentError(TransportError):
    """No connection could be made."""


class DisconnectedError(TransportError):
    """The connection was closed or reset, as kept connections are when they get old."""


class Connection(asyncio.Protocol):
    """One exchange at a time; `lost` is told when the connection has ended, for whatever reason.

    It ends by itself `idle_limit` seconds after a request, if no other was sent meanwhile.
    """

    def __init__(self, origin: URL, lost: "Callable[[Connection], None]", idle_limit: float) -> None:
        self.origin = origin
        self._idle_limit = idle_limit
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._lost = lost
        self._reader = AnswerReader()
        self._waiter: asyncio.Future[HttpAnswer] | None = None
        self._answered = False
        """Whether any byte of an answer has come."""
        self._sent_at = self._due = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Whether another request can be sent: the last one's answer came, and nobody hung up."""
        return self._waiter is None and not self._transport.is_closing()

    def exchange(self, request: bytes, due: float) -> asyncio.Future[HttpAnswer]:
        """Send a request whose answer is due by the loop's clock; TransportError, AnswerTooLongError."""
        self._waiter = waiter = self._loop.create_future()
        self._answered = False
        self._sent_at = self._loop.time()
        self._expect_by(due)
        self._transport.write(request)
        return waiter

    def abort(self) -> None:
        """Close now; an exchange that is under way fails."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)  # a protocol of streams gets no other

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer (asyncio)."""
        waiter = self._waiter
        if waiter is None:
            # Nothing was asked: whatever it is, the next request must not take it for its answer.
            self.abort()
            return
        self._answered = True
        try:
            answer = self._reader.feed(data)
        except HttpError as error:
            self._fail(TransportError(f"what {self.origin.host} answers is not HTTP/1.1: {error}"))
        except AnswerTooLongError as error:
            self._fail(error)
        else:
            if answer is not None:
                self._waiter = None
                self._expect_by(self._sent_at + self._idle_limit)
                if self._reader.closes:
                    self.abort()
                if not waiter.done():
                    waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's; what counts is what came
        """End (asyncio)."""
        if self._answered:
            self._tell(TransportError(f"the answer of {self.origin.host} broke off"))
        else:
            self._tell(DisconnectedError(f"{self.origin.host} closed the connection without an answer"))
        if self._alarm is not None:
            self._alarm.cancel()
        self.ended.set_result(None)
        self._lost(self)

    def _fail(self, error: Exception) -> None:
        self._tell(error)
        self.abort()

    def _tell(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
            waiter.exception()  # retrieved here too, in case the caller has gone

    def _expect_by(self, due: float) -> None:
        """Set the alarm, unless one rings before: to set one for each request would cost more than to ring early."""
        self._due = due
        alarm = self._alarm
        if alarm is None or due < alarm.when():
            if alarm is not None:
                alarm.cancel()
            self._alarm = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._loop.time() < self._due:
            self._expect_by(self._due)
        elif self._waiter is None:
            self.abort()
        else:
            self._fail(TransportError(f"no answer of {self.origin.host} within {self._due - self._sent_at:.1f} s"))
