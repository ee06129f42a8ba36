"""How much one caller may have under way, and for how long anybody is waited for.

A caller is a ServiceAccount, whatever the number of its pods. What is counted belongs to calls that are open, so the
memory is bounded by them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TypeVar

from byok_api.errors import Reason, Refusal
from byok_signer.settings import Settings

_RETRY_AFTER = 0.5
"""Seconds; a signature takes some ten milliseconds."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The signer's limits."""

    calls: int
    """Of all callers; a caller that has none under way gets one beyond it."""
    calls_per_caller: int
    """Streams included."""
    streams_per_caller: int
    bytes_per_caller: int
    """Of messages that are read or worked on. A stream reads its next message before that is counted."""
    message_bytes: int
    """Of the largest message, which a call may send once it is admitted."""
    message_seconds: float = 10.0
    """For a call's message to follow its headers."""
    answer_seconds: float = 30.0
    """For a stream's answer to be taken."""
    idle_seconds: float
    """For a stream to have nothing under way."""
    open_calls: int = 64
    """Of those that need no token, unary ones and streams each."""
    watches: int = 64
    """Of keys' health, of all callers; a caller that has none gets one beyond it."""
    watches_per_caller: int = 4

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Take what an installation chooses."""
        return cls(
            calls=settings.max_concurrent_calls,
            calls_per_caller=settings.max_calls_per_caller,
            streams_per_caller=settings.max_streams_per_caller,
            bytes_per_caller=settings.max_bytes_per_caller,
            message_bytes=settings.max_message_bytes,
            idle_seconds=settings.idle_seconds,
        )

    def of_watches(self) -> "Limits":
        """Bound watches as calls are bounded."""
        most = self.watches_per_caller
        return replace(self, calls=self.watches, calls_per_caller=most, streams_per_caller=most)


class Callers:
    """Who has what under way."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open = 0
        self._usages: dict[str, _Usage] = {}

    def admit(self, caller: str, *, stream: bool) -> "Place":
        """Let a call in; Refusal CallerLimited if it is one too many."""
        limits, usage = self.limits, self._usages.get(caller) or _Usage()
        if usage.calls >= limits.calls_per_caller:
            raise limited(f"the caller has {usage.calls} calls under way; at most {limits.calls_per_caller} are taken")
        if stream and usage.streams >= limits.streams_per_caller:
            raise limited(f"the caller has {usage.streams} streams open; at most {limits.streams_per_caller} are taken")
        # The others' calls must not keep a caller out altogether.
        if usage.calls and self._open >= limits.calls:
            raise limited(f"this signer serves {self._open} calls; at most {limits.calls} are taken")
        self._usages[caller] = usage
        self._open += 1
        usage.calls += 1
        usage.streams += stream
        return Place(self, caller, usage, stream=stream)

    def leave(self, caller: str, *, stream: bool) -> None:
        """Count a call out; `Place.leave` does."""
        usage = self._usages[caller]
        self._open -= 1
        usage.calls -= 1
        usage.streams -= stream
        if not usage.calls:
            del self._usages[caller]


class Place:
    """One open call's part of what its caller may have."""

    __slots__ = ("_caller", "_callers", "_held", "_stream", "_usage", "limits")

    def __init__(self, callers: Callers, caller: str, usage: "_Usage", *, stream: bool) -> None:
        self.limits = callers.limits
        self._callers: Callers | None = callers
        self._caller = caller
        self._usage = usage
        self._stream = stream
        self._held = 0

    async def hold(self, size: int) -> int:
        """Wait until the caller may have `size` bytes more, in turn; return what `release` is to be told.

        A message larger than all that a caller may have is waited for as if it were just that.
        """
        size, usage = min(size, self.limits.bytes_per_caller), self._usage
        if not usage.waiting and usage.held + size <= self.limits.bytes_per_caller:
            usage.held += size
        else:
            await usage.wait(size, self.limits.bytes_per_caller)
        self._held += size
        return size

    def release(self, size: int) -> None:
        """Give bytes back; nothing after `leave`, which gave back all."""
        if self._callers is not None:
            self._held -= size
            self._usage.release(size, self.limits.bytes_per_caller)

    def leave(self, _context: object = None) -> None:
        """Give back everything; to be called when nothing of the call is left."""
        if self._callers is not None:
            self.release(self._held)
            self._callers.leave(self._caller, stream=self._stream)
            self._callers = None


class _Usage:
    """What one caller has."""

    __slots__ = ("calls", "held", "streams", "waiting")

    def __init__(self) -> None:
        self.calls = 0
        self.streams = 0
        self.held = 0
        self.waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def wait(self, size: int, limit: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Those behind may fit where this one did not.
                self.release(0, limit)
            else:
                self.release(size, limit)
            raise

    def release(self, size: int, limit: int) -> None:
        self.held -= size
        while self.waiting:
            wanted, turn = self.waiting[0]
            if not turn.cancelled():
                if self.held + wanted > limit:
                    return
                self.held += wanted
                turn.set_result(None)
            self.waiting.popleft()


class Patience:
    """Waits for many things, for each just as long, with one timer: one for each costs as much as its token's check."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Task[object], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait_for(self, waited_for: Awaitable[_Answer]) -> _Answer:
        """Wait; TimeoutError when the time is over."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise AssertionError("only tasks wait")
        cancelling = task.cancelling()
        self._waiting[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)
        try:
            return await waited_for
        except asyncio.CancelledError:
            # As asyncio.timeout does: it is ours, unless somebody else wants the task to end too.
            if task not in self._waiting and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._waiting.pop(task, None)

    def lose(self) -> None:
        """Wait no longer for anything that is waited for now."""
        for task in self._waiting:
            task.cancel()
        self._waiting.clear()

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting:
            # The first has waited longest.
            task, until = next(iter(self._waiting.items()))
            if loop.time() < until:
                self._timer = loop.call_at(until, self._look)
                return
            del self._waiting[task]
            task.cancel()


def limited(what: str) -> Refusal:
    """Refuse what is too much for now."""
    return Refusal(Reason.CallerLimited, f"{what}; call again in a moment", retry_after=_RETRY_AFTER)
