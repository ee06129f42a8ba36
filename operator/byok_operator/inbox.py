"""From kopf's thread to the operator's event loop: events in order, and never so many at once that others wait."""

import asyncio
from collections import deque
from collections.abc import Callable

from byok_operator.store import Kind
from byok_service.kubernetes import JsonObject

AT_ONCE = 25
"""Events taken before others have their turn, the renewal of the Lease among them: each takes a millisecond or two."""


class Inbox:
    """Gives to `take`, on the event loop it is made on, what `hear` is told on any thread."""

    def __init__(self, take: Callable[[Kind, str | None, JsonObject], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[Kind, str | None, JsonObject]] = deque()
        self._is_scheduled = False

    def hear(self, kind: Kind, event: str | None, document: JsonObject) -> None:
        """Take in an event, as handlers.Hear; RuntimeError once the loop is closed."""
        self._events.append((kind, event, document))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        # First, so that what is heard from now on is not left lying: being called once too often does no harm.
        self._is_scheduled = False
        for _ in range(min(AT_ONCE, len(self._events))):
            self._take(*self._events.popleft())
        if self._events and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._empty)
