"""Whose question to the API server is asked next, when more wait than may be asked at once."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

AT_ONCE = 16
"""Questions."""
WAITING_LIMIT = 512
"""Questions of one source that wait for a turn; each source has its own, so that no other loses by it."""


class NoTurnError(Exception):
    """Too many questions of the source wait already."""


@dataclass
class _Line:
    """Questions of one kind: how many are asked, and those that wait, by source."""

    most: int
    most_of_one: int
    asked: Counter[str] = field(default_factory=Counter)
    waiting: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)
    """The source whose turn it is comes first."""

    def has_room(self, source: str) -> bool:
        return self.asked.total() < self.most and self.asked[source] < self.most_of_one

    def begin_next(self) -> bool:
        """Begin the next that may be asked; false if there is none."""
        for source, turns in self.waiting.items():
            if not self.has_room(source):
                continue
            turn = turns.popleft()
            # The other sources come first now.
            self.waiting.move_to_end(source)
            if not turns:
                del self.waiting[source]
            if not turn.done():
                self.asked[source] += 1
                turn.set_result(None)
            return True
        return False

    def end(self, source: str) -> None:
        self.asked[source] -= 1
        if not self.asked[source]:
            del self.asked[source]

    def leave(self, source: str, turn: asyncio.Future[None]) -> None:
        """Wait no longer, if it still does."""
        turns = self.waiting.get(source, deque())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self.waiting[source]


class ReviewTurns:
    """Shares out the places: a quarter is always left to callers who are known, a quarter to those who are not.

    A source is a namespace: who can make tokens for one ServiceAccount of it can often make them for others.
    """

    def __init__(self) -> None:
        self._known = _Line(most=AT_ONCE * 3 // 4, most_of_one=AT_ONCE // 2)
        self._strangers = _Line(most=AT_ONCE * 3 // 4, most_of_one=AT_ONCE // 4)

    @asynccontextmanager
    async def turn(self, source: str, *, known: bool) -> AsyncIterator[None]:
        """Wait for a place and hold it; NoTurnError."""
        line = self._known if known else self._strangers
        if self._is_free and line.has_room(source) and source not in line.waiting:
            line.asked[source] += 1
        else:
            await self._wait(line, source)
        try:
            yield
        finally:
            self._end(line, source)

    @property
    def _is_free(self) -> bool:
        return self._known.asked.total() + self._strangers.asked.total() < AT_ONCE

    async def _wait(self, line: _Line, source: str) -> None:
        turns = line.waiting.setdefault(source, deque())
        if len(turns) >= WAITING_LIMIT:
            raise NoTurnError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                line.leave(source, turn)
            else:
                self._end(line, source)
            raise

    def _end(self, line: _Line, source: str) -> None:
        line.end(source)
        # Those who are known first: they keep going what works.
        while self._is_free and (self._known.begin_next() or self._strangers.begin_next()):
            pass
