"""Quotas for the event loop: whoever asks waits on a future, and one timer for each quota lets its queue move on."""
# ruff: noqa: ASYNC109 - a timeout here is a bound on the queue, told to it beforehand; a cancel scope is not

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from byok_api.byokkey import RateLimit
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_signer.quota.bucket import Appointments, Bucket
from byok_signer.quota.demands import Demand, QuotaKey
from byok_signer.quota.lane import QUEUE_BOUND, Lane, Level
from byok_signer.quota.turns import Fate, Waiter

_SWEEP_FROM = 64
"""Buckets that are kept without looking whether they are still of use."""


@dataclass
class QuotaCounts:
    """What has happened since the start."""

    granted: int = 0
    queued: int = 0
    """Of all, those that were not granted or refused at once."""
    refused: int = 0
    evicted: int = 0
    expired: int = 0
    key_limited: int = 0
    throttled: int = 0


class Quotas:
    """Grants tokens of AWS's quotas, of this signer's share in them, fairly to the callers' namespaces.

    `replicas` tells how many signers share a quota, now. `clock` gives seconds that never go back, as the event loop's.
    Must be used from one event loop.
    """

    def __init__(self, *, per_second: float, replicas: Callable[[], int], clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._replicas = replicas
        self._clock = clock
        self.counts = QuotaCounts()
        self._queues: _Kept[QuotaKey, _Queue] = _Kept()
        self._limiters: _Kept[ObjectName, _Limiter] = _Kept()

    async def acquire(self, demand: Demand, *, timeout: float) -> None:
        """Take a token of the key's limit and one of the account's quota; for the latter wait up to 100 ms, or less.

        Refusal KeyRateLimited or QuotaExceeded, with the delay after which to try again; no token is taken then, nor
        by a caller who is cancelled.
        """
        now, replicas = self._clock(), max(1, self._replicas())
        self._take_of_key(demand, replicas, now)
        try:
            queue = self._queue_for(demand.quota, replicas, now)
            if not queue.lane.take(now):
                await self._wait(queue, demand, timeout)
        except (Refusal, asyncio.CancelledError):
            self._give_back_to_key(demand)
            raise
        self.counts.granted += 1

    def give_back(self, demand: Demand) -> None:
        """Put back what `acquire` took, because KMS was not asked."""
        self._give_back_to_key(demand)
        queue = self._queues.get(demand.quota)
        if queue is not None:
            queue.lane.give_back()
            queue.move_on()

    def throttled(self, quota: QuotaKey) -> None:
        """Take note that KMS refused a call for want of quota."""
        self.counts.throttled += 1
        queue = self._queues.get(quota)
        if queue is not None:
            queue.lane.throttle(self._clock())

    def levels(self) -> Mapping[QuotaKey, Level]:
        """Describe the quotas in use; one that was not used for a while may be missing, and is at rest."""
        now = self._clock()
        return {quota: queue.lane.level(now) for quota, queue in self._queues.items()}

    def _queue_for(self, quota: QuotaKey, replicas: int, now: float) -> "_Queue":
        queue = self._queues.get(quota)
        if queue is None:
            queue = _Queue(Lane(self._per_second / replicas), self._clock, self._share)
            self._queues.keep(quota, queue, now)
        else:
            queue.set_rate(self._per_second / replicas, now)
        return queue

    def _share(self) -> float:
        return self._per_second / max(1, self._replicas())

    async def _wait(self, queue: "_Queue", demand: Demand, timeout: float) -> None:
        waiter = Waiter(demand.namespace, self._clock() + max(0.0, min(timeout, QUEUE_BOUND)))
        queue.offer(waiter)
        if waiter.fate is Fate.WAITING:
            self.counts.queued += 1
            await queue.settled(waiter)
        if waiter.fate is not Fate.GRANTED:
            self._refuse(queue.lane, demand, waiter.fate)

    def _refuse(self, lane: Lane, demand: Demand, fate: Fate) -> NoReturn:
        match fate:
            case Fate.REFUSED:
                self.counts.refused += 1
                found = f"its queue is full, and no namespace has more in it than {demand.namespace}"
            case Fate.EVICTED:
                self.counts.evicted += 1
                found = f"its queue is full, and {demand.namespace} has more in it than others who ask"
            case _:
                self.counts.expired += 1
                found = "the time to wait for it is over"
        raise Refusal(
            Reason.QuotaExceeded,
            f"key {demand.key}: this signer's share of {demand.quota}, {lane.rate:g} signatures a second, is used up: "
            f"{found}; retry after the given delay",
            retry_after=lane.turn_away(self._clock()),
            metadata={
                "key": str(demand.key),
                "account": demand.quota.account,
                "region": demand.quota.region,
                "family": str(demand.quota.family),
            },
        )

    def _take_of_key(self, demand: Demand, replicas: int, now: float) -> None:
        limit = demand.limit
        if limit is None:
            return
        limiter = self._limiters.get(demand.key)
        if limiter is None:
            limiter = _Limiter(limit, replicas)
            self._limiters.keep(demand.key, limiter, now)
        if limiter.take(limit, replicas, now):
            return
        self.counts.key_limited += 1
        raise Refusal(
            Reason.KeyRateLimited,
            f"key {demand.key}: its spec.rateLimit of {limit.signatures_per_second} signatures a second, over all "
            "signers, is used up; retry after the given delay",
            retry_after=limiter.turn_away(now),
            metadata={"key": str(demand.key)},
        )

    def _give_back_to_key(self, demand: Demand) -> None:
        limiter = self._limiters.get(demand.key)
        if demand.limit is not None and limiter is not None:
            limiter.give_back()


class _Queue:
    """A lane, its timer, and the futures of those who wait."""

    def __init__(self, lane: Lane, clock: Callable[[], float], rate: Callable[[], float]) -> None:
        self.lane = lane
        self._clock = clock
        self._rate = rate
        self._futures: dict[Waiter, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def set_rate(self, rate: float, now: float) -> None:
        if rate != self.lane.rate:
            self.lane.change_rate(rate, now)

    def offer(self, waiter: Waiter) -> None:
        now = self._clock()
        self._wake(self.lane.offer(waiter, now))
        self._set_timer(now)

    async def settled(self, waiter: Waiter) -> None:
        """Wait until the waiter's fate is settled; a caller who is cancelled leaves no token taken."""
        future = self._futures[waiter] = asyncio.get_running_loop().create_future()
        try:
            await future
        except asyncio.CancelledError:
            if waiter.fate is Fate.GRANTED:
                self.lane.give_back()
                self.move_on()
            else:
                self._futures.pop(waiter, None)
                self.lane.withdraw(waiter)
            raise

    def move_on(self) -> None:
        """Let the queue go on to the present moment."""
        now = self._clock()
        self.set_rate(self._rate(), now)
        self._wake(self.lane.advance(now))
        self._set_timer(now)

    def is_idle(self, now: float) -> bool:
        return self._timer is None and self.lane.is_idle(now)

    def _wake(self, settled: list[Waiter]) -> None:
        for waiter in settled:
            future = self._futures.pop(waiter, None)
            if future is not None and not future.done():
                future.set_result(None)

    def _set_timer(self, now: float) -> None:
        wake_at = self.lane.wake_at()
        if self._timer is not None:
            if wake_at is not None and self._timer_at <= wake_at:
                return  # It goes off early enough, and is set again then.
            self._timer.cancel()
            self._timer = None
        if wake_at is not None:
            self._timer_at = wake_at
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake_at - now), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.move_on()


class _Limiter:
    """A key's own limit. Nobody waits for it: who asks for more than the key's owner allows is told so at once."""

    def __init__(self, limit: RateLimit, replicas: int) -> None:
        self._limit, self._replicas = limit, replicas
        rate, slack = _rate_and_slack(limit, replicas)
        self._bucket = Bucket(rate, slack=slack)
        self._appointments = Appointments()

    def take(self, limit: RateLimit, replicas: int, now: float) -> bool:
        """Take a token under these terms, which may be others than before."""
        if (limit is not self._limit and limit != self._limit) or replicas != self._replicas:
            rate, slack = _rate_and_slack(limit, replicas)
            self._bucket.change(rate, slack=slack, now=now)
            self._replicas = replicas
        self._limit = limit
        return self._bucket.take(now)

    def give_back(self) -> None:
        self._bucket.give_back()

    def turn_away(self, now: float) -> float:
        return self._appointments.make(now, free_at=self._bucket.free_at, interval=self._bucket.interval)

    def is_idle(self, now: float) -> bool:
        return self._bucket.is_full(now) and self._appointments.are_over(now)


def _rate_and_slack(limit: RateLimit, replicas: int) -> tuple[float, float]:
    """Divide a limit among the replicas; each can make at least one signature at once."""
    rate = limit.signatures_per_second / replicas
    burst = max(1.0, (limit.burst or limit.signatures_per_second) / replicas)
    return rate, (burst - 1) / rate


class _Perishable(Protocol):
    def is_idle(self, now: float) -> bool:
        """Tell whether a new one would behave alike."""
        ...


_Key = TypeVar("_Key")
_Value = TypeVar("_Value", bound=_Perishable)


class _Kept(dict[_Key, _Value]):
    """What is in use, and not much more: whenever it has doubled, what is idle is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self._sweep_at = _SWEEP_FROM

    def keep(self, key: _Key, value: _Value, now: float) -> None:
        if len(self) >= self._sweep_at:
            for idle in [name for name, kept in self.items() if kept.is_idle(now)]:
                del self[idle]
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self))
        self[key] = value
