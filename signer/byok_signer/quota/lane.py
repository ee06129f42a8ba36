"""The queue before one quota, as a state machine: what happens is told by the caller, with the moment of it.

What it decides is in the waiters' fates; who hears of them, and when it is called again, is the caller's business.
"""

import heapq
import math
from dataclasses import dataclass
from itertools import count

from byok_signer.quota.bucket import Appointments, Bucket
from byok_signer.quota.turns import Fate, Turns, Waiter

QUEUE_BOUND = 0.1
"""Seconds that one may wait; so many tokens' worth of waiters the queue holds."""
SLACK = 0.05
"""Seconds whose tokens may be caught up on, so that a late event loop loses nothing.

KMS counts by the second, so what is caught up on can be too much for one second: after a pause, 5 % of it. Simulated
at 1.5 times the quota with timers a millisecond late: without slack 66 % of the quota is used; with 50 ms all of it,
even if the loop stands still for 50 ms every second.
"""
PAUSE = 0.02
"""Seconds without a token after KMS has throttled: its count starts anew each second, so this saves a few calls."""
PENALTY = 10.0
"""Tokens a second that a throttled call takes off the rate, but at most half of it."""
RECOVERY = 30.0
"""Seconds in which a rate grows back from nothing to what it should be."""
LEAST = 0.05
"""Part of the rate that is left in any case."""
_GRAIN = 1e-9


@dataclass(frozen=True)
class Level:
    """What there is to see of a queue."""

    rate: float
    """Tokens a second, after what throttling took off."""
    tokens: float
    waiting: int
    namespaces: int
    """Those that have somebody waiting."""


class Lane:
    """One quota: a bucket, and a fair queue for when it is empty."""

    def __init__(self, rate: float) -> None:
        self._bucket = Bucket(rate, slack=SLACK)
        self._turns = Turns()
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._serial = count()
        self._appointments = Appointments()
        self._factor = 1.0
        self._factor_at = -math.inf

    @property
    def rate(self) -> float:
        """Tokens a second when KMS does not throttle."""
        return self._bucket.rate

    def change_rate(self, rate: float, now: float) -> None:
        """Go on at another rate, because there are more replicas, or fewer."""
        self._bucket.change(rate, slack=SLACK, now=now)
        self._pace(now)

    def take(self, now: float) -> bool:
        """Take a token if there is one and nobody waits: all that most calls need."""
        if self._turns.waiting or self._factor < 1.0:
            return False
        return self._bucket.take(now)

    def offer(self, waiter: Waiter, now: float) -> list[Waiter]:
        """Let one ask for a token; return those whose fate that has settled, itself among them unless it waits."""
        settled = self.advance(now)
        if self._turns.waiting == 0 and self._bucket.take(now):
            waiter.fate = Fate.GRANTED
        elif waiter.deadline <= now:
            waiter.fate = Fate.EXPIRED
        elif self._turns.waiting >= self._room():
            evicted = self._turns.evict_for(waiter.namespace)
            if evicted is None:
                waiter.fate = Fate.REFUSED
            else:
                evicted.fate = Fate.EVICTED
                settled.append(evicted)
        if waiter.fate is not Fate.WAITING:
            settled.append(waiter)
            return settled
        self._turns.add(waiter)
        heapq.heappush(self._deadlines, (waiter.deadline, next(self._serial), waiter))
        return settled

    def advance(self, now: float) -> list[Waiter]:
        """Let time pass; return those who got their token, or whose time is up."""
        settled: list[Waiter] = []
        self._pace(now)
        # Before any token is given out: one that comes too late would be lost to the others.
        self._expire(math.nextafter(now, -math.inf), settled)
        while now >= self._bucket.free_at and (waiter := self._turns.take_next()) is not None:
            self._bucket.take(now)
            waiter.fate = Fate.GRANTED
            settled.append(waiter)
        self._expire(now, settled)
        self._tidy()
        return settled

    def withdraw(self, waiter: Waiter) -> None:
        """Let one go who no longer wants to wait."""
        if waiter.fate is Fate.WAITING:
            waiter.fate = Fate.WITHDRAWN
            self._turns.remove(waiter)
            self._tidy()

    def give_back(self) -> None:
        """Put back a token that was granted and not used; `advance` then gives it to whoever waits."""
        self._bucket.give_back()

    def throttle(self, now: float) -> None:
        """Slow down, because KMS has refused a call for want of quota: others use it too, or it is smaller.

        Throttled calls take off the rate what they are in number, and time gives it back: the rate settles where about
        rate / (RECOVERY * PENALTY) calls a second are throttled, which at 1,000 a second is 3.
        """
        factor = self._factor_of(now)
        self._factor = max(LEAST, factor / 2, factor - PENALTY / self.rate)
        self._factor_at = now
        self._bucket.drain(now + PAUSE)
        self._pace(now)

    def wake_at(self) -> float | None:
        """Tell when `advance` is due; None if nobody waits."""
        if not self._turns.waiting:
            return None
        while self._deadlines[0][2].fate is not Fate.WAITING:
            heapq.heappop(self._deadlines)
        return min(self._bucket.free_at, self._deadlines[0][0])

    def turn_away(self, now: float) -> float:
        """Tell one who is refused, in how many seconds to try again: behind all who wait or were told so before."""
        interval = self._bucket.interval
        served = max(self._bucket.free_at, now) + self._turns.waiting * interval
        return self._appointments.make(now, free_at=served, interval=interval)

    def level(self, now: float) -> Level:
        """Describe the present state."""
        rate = self.rate * self._factor_of(now)
        return Level(rate, self._bucket.tokens(now), self._turns.waiting, self._turns.namespaces)

    def is_idle(self, now: float) -> bool:
        """Tell whether it can be forgotten: a new one would grant and refuse alike."""
        is_quiet = not self._turns.waiting and self._appointments.are_over(now)
        return is_quiet and self._bucket.is_full(now) and self._factor_of(now) >= 1.0

    def _room(self) -> int:
        return max(1, math.floor(QUEUE_BOUND / self._bucket.interval + _GRAIN))

    def _expire(self, now: float, settled: list[Waiter]) -> None:
        """Settle those whose deadline is `now` or before."""
        while self._deadlines and self._deadlines[0][0] <= now:
            waiter = heapq.heappop(self._deadlines)[2]
            if waiter.fate is Fate.WAITING:
                waiter.fate = Fate.EXPIRED
                self._turns.remove(waiter)
                settled.append(waiter)

    def _tidy(self) -> None:
        """Forget the deadlines of waiters whose fate is settled, if it is that of all."""
        if not self._turns.waiting:
            self._deadlines.clear()

    def _factor_of(self, now: float) -> float:
        if self._factor >= 1.0:
            return 1.0
        return min(1.0, self._factor + max(0.0, now - self._factor_at) / RECOVERY)

    def _pace(self, now: float) -> None:
        """Have the next token take as long as it should by now."""
        if self._factor < 1.0:
            factor = self._factor_of(now)
            self._bucket.pace(factor)
            if factor >= 1.0:
                self._factor = 1.0
