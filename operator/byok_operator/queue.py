"""The work queue: a subject is in it at most once, one worker has it at a time, and failures come back ever later.

For one event loop; nothing here is called from another thread.
"""

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Subject = TypeVar("Subject", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How failures come back: exponentially for each subject, and so many a second over all of them."""

    first: float = 0.2
    """Seconds until the first retry, before jitter."""
    longest: float = 60.0
    """Seconds that a retry waits at most, jitter and the bound over all subjects aside."""
    per_second: float = 50.0
    burst: float = 100.0


class WorkQueue(Generic[Subject]):
    """Subjects to work on, each as soon as it is due.

    `clock` must be the time of the event loop's timers; `random` gives numbers from 0 to 1.
    """

    def __init__(self, retries: Retries, *, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._retries = retries
        self._clock = clock
        self._random = random
        self._due: dict[Subject, float] = {}
        # Entries whose moment is not that of `_due` any more are skipped when they come up.
        self._heap: list[tuple[float, int, Subject]] = []
        self._order = itertools.count()
        self._active: set[Subject] = set()
        self._again: dict[Subject, float] = {}
        self._failures: dict[Subject, int] = {}
        # When the retries given so far would all have been made at the rate allowed (a leaky bucket).
        self._retried_until = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, subject: Subject, delay: float = 0.0) -> None:
        """Have `subject` worked on in `delay` seconds; the earliest moment asked for wins.

        A subject that is being worked on is worked on again afterwards.
        """
        self._put(subject, self._clock() + delay)

    def add_all(self, subjects: Iterable[Subject]) -> None:
        """Have subjects worked on as soon as may be."""
        for subject in subjects:
            self.add(subject)

    def retry(self, subject: Subject, *, at_least: float = 0.0) -> float:
        """Have a subject that failed worked on again, later each time; gives the seconds until then."""
        failures = self._failures[subject] = self._failures.get(subject, 0) + 1
        # Beyond 2**30 the longest wait has long been reached, and a float would overflow some day.
        backoff = min(self._retries.longest, self._retries.first * 2.0 ** min(failures - 1, 30))
        delay = max(at_least, backoff * (0.5 + self._random() / 2), self._wait_for_turn())
        self.add(subject, delay)
        return delay

    def succeeded(self, subject: Subject) -> None:
        """Forget the failures of a subject."""
        self._failures.pop(subject, None)

    async def get(self) -> Subject:
        """Wait for a subject that is due and take it; `done` must follow."""
        while True:
            subject = self._take()
            if subject is not None:
                self._release()
                return subject
            await self._wait()

    def done(self, subject: Subject) -> None:
        """Give a subject back that `get` gave."""
        self._active.remove(subject)
        again = self._again.pop(subject, None)
        if again is not None:
            self._put(subject, again)

    @property
    def depth(self) -> int:
        """How many subjects are due and wait for a worker."""
        now = self._clock()
        return sum(due <= now for due in self._due.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due and nothing is being worked on."""
        return not self._active and self.depth == 0

    @property
    def age(self) -> float:
        """Seconds for which the subject that waits longest has been due; 0 if none waits."""
        due = self._next_due()
        return 0.0 if due is None else max(0.0, self._clock() - due)

    def _put(self, subject: Subject, due: float) -> None:
        waiting = self._again if subject in self._active else self._due
        if waiting.get(subject, math.inf) <= due:
            return
        waiting[subject] = due
        if waiting is self._due:
            heapq.heappush(self._heap, (due, next(self._order), subject))
            self._release()

    def _take(self) -> Subject | None:
        due = self._next_due()
        if due is None or due > self._clock():
            return None
        _, _, subject = heapq.heappop(self._heap)
        del self._due[subject]
        self._active.add(subject)
        return subject

    def _next_due(self) -> float | None:
        while self._heap:
            due, _, subject = self._heap[0]
            if self._due.get(subject) == due:
                return due
            heapq.heappop(self._heap)
        return None

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._release()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        """Let one who waits look, now or when the next subject is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters and self._waiters[0].done():
            self._waiters.popleft()
        due = self._next_due()
        if due is None or not self._waiters:
            return
        delay = due - self._clock()
        if delay <= 0:
            self._waiters.popleft().set_result(None)
        else:
            self._timer = asyncio.get_running_loop().call_later(delay, self._release)

    def _wait_for_turn(self) -> float:
        now = self._clock()
        self._retried_until = max(self._retried_until, now) + 1 / self._retries.per_second
        return max(0.0, self._retried_until - self._retries.burst / self._retries.per_second - now)
