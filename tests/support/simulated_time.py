"""Time that passes only when a test lets it: for queues of a quota, and for a whole event loop."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from byok_signer.quota.lane import QUEUE_BOUND, Lane
from byok_signer.quota.turns import Fate, Waiter

_Result = TypeVar("_Result")


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait for its timers: its clock jumps to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select: Callable[[float | None], list[Any]] = self._selector.select  # type: ignore[attr-defined] # of BaseSelectorEventLoop

        def jump(timeout: float | None) -> list[Any]:
            events = select(0)
            if not events and timeout is not None:
                self._now += timeout
            return events if timeout is not None else select(1)

        self._selector.select = jump  # type: ignore[attr-defined] # of BaseSelectorEventLoop

    def time(self) -> float:
        return self._now


def run_simulated(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end, in no time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


@dataclass
class Visit:
    """One who asked a lane for a token."""

    waiter: Waiter
    asked_at: float
    settled_at: float | None = None

    @property
    def namespace(self) -> str:
        return self.waiter.namespace

    @property
    def fate(self) -> Fate:
        return self.waiter.fate

    @property
    def is_granted(self) -> bool:
        return self.waiter.fate is Fate.GRANTED

    @property
    def waited(self) -> float:
        assert self.settled_at is not None
        return self.settled_at - self.asked_at


class Road:
    """A lane, the moment it is at, and all who came to it. `late` tells when a timer for a moment goes off."""

    def __init__(self, rate: float, *, late: Callable[[float], float] = float) -> None:
        self.lane = Lane(rate)
        self.now = 0.0
        self._late = late
        self.visits: list[Visit] = []
        self.on_grant: Callable[[float], None] = lambda _moment: None
        self._open: dict[Waiter, Visit] = {}

    def come(self, namespace: str = "a", *, patience: float = QUEUE_BOUND) -> Visit:
        visit = Visit(Waiter(namespace, self.now + patience), self.now)
        self.visits.append(visit)
        self._open[visit.waiter] = visit
        self._note(self.lane.offer(visit.waiter, self.now))
        return visit

    def empty(self) -> None:
        """Take all that can be had at once."""
        while self.lane.take(self.now):
            pass

    def pass_time(self, until: float) -> None:
        """Wake the lane whenever it wants to be woken, up to and with `until`."""
        while (wake_at := self.lane.wake_at()) is not None and self._late(wake_at) <= until:
            self.now = max(self.now, self._late(wake_at))
            self._note(self.lane.advance(self.now))
            assert (self.lane.wake_at() or math.inf) > self.now  # or an event loop would spin
        self.now = max(self.now, until)

    def finish(self) -> None:
        """Let all be settled."""
        self.pass_time(self.now + 3600)

    def drive(self, arrivals: Iterable[tuple[float, str]]) -> None:
        """Let namespaces come at their moments, in order, and all be settled."""
        for moment, namespace in arrivals:
            self.pass_time(moment)
            self.come(namespace)
        self.finish()

    def granted(self, namespace: str | None = None) -> list[Visit]:
        """List those who got a token, in the order in which they got it."""
        mine = (visit for visit in self.visits if namespace in (None, visit.namespace) and visit.is_granted)
        return sorted(mine, key=lambda visit: (visit.settled_at, visit.asked_at))

    def _note(self, settled: list[Waiter]) -> None:
        for waiter in settled:
            self._open.pop(waiter).settled_at = self.now
            if waiter.fate is Fate.GRANTED:
                self.on_grant(self.now)


def every(interval: float, namespace: str, *, until: float, start: float = 0.0) -> list[tuple[float, str]]:
    """List arrivals of a namespace at equal distances."""
    return [(start + step * interval, namespace) for step in range(round((until - start) / interval))]


def merged(*streams: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Put arrivals in order of time; at the same moment in the order of the streams."""
    return sorted((arrival for stream in streams for arrival in stream), key=lambda arrival: arrival[0])
