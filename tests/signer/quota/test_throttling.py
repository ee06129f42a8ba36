"""What becomes of a quota that others use too, or that is smaller than was said: simulated against KMS.

KMS counts the calls of an account in each second and refuses all further ones in that second (KMS Developer Guide,
Throttling AWS KMS requests). Its seconds begin when they like, and calls take some milliseconds to get there.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from byok_signer.quota.lane import LEAST, PAUSE, Lane
from tests.support.simulated_time import Road

SECONDS = 20
WARM = 8
"""Seconds that are not counted."""


@dataclass
class Account:
    """An account's quota as KMS keeps it, used by a signer that is asked for too much and by somebody else."""

    quota: float
    told: float = 1000
    """The quota according to the signer's setting."""
    load: float = 1500
    others: Callable[[float], float] = lambda _moment: 0
    """Calls a second of somebody else."""
    signed: int = 0
    throttled: int = 0
    others_served: int = 0
    others_throttled: int = 0
    _counts: dict[int, int] = field(default_factory=dict)
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.road = Road(self.told)
        self.chance = random.Random(7)  # noqa: S311 - a test's arrivals are the same each time
        self.road.on_grant = lambda moment: self.at(moment + 0.005 + self.chance.expovariate(250), self.sign)
        self.at(0, self.arrive)
        self.at(0, self.other)

    def at(self, moment: float, event: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, event))

    def run(self) -> "Account":
        while (moment := self._events[0][0]) < SECONDS:
            self.road.pass_time(moment)
            heapq.heappop(self._events)[2](moment)
            self.road.visits.clear()
        return self

    def arrive(self, moment: float) -> None:
        self.road.come()
        self.at(moment + self.chance.expovariate(self.load), self.arrive)

    def other(self, moment: float) -> None:
        rate = self.others(moment)
        self.at(moment + (self.chance.expovariate(rate) if rate else 0.05), self.other)
        if rate:
            served = self.admits(moment)
            self.others_served += served and moment > WARM
            self.others_throttled += not served and moment > WARM

    def sign(self, moment: float) -> None:
        if self.admits(moment):
            self.signed += moment > WARM
        else:
            self.throttled += moment > WARM
            self.at(moment + 0.005, self.road.lane.throttle)

    def admits(self, moment: float) -> bool:
        second = int(moment + 0.37)
        self._counts[second] = self._counts.get(second, 0) + 1
        return self._counts[second] <= self.quota

    @property
    def goodput(self) -> float:
        """Signatures a second."""
        return self.signed / (SECONDS - WARM)

    @property
    def waste(self) -> float:
        """Part of the signer's calls that KMS refused."""
        return self.throttled / max(1, self.signed + self.throttled)


@pytest.mark.parametrize("load", [1500, 3000])
def test_a_signer_alone_uses_its_quota_and_wastes_nothing(load: float) -> None:
    account = Account(quota=1000, load=load).run()
    assert account.goodput >= 0.96 * 1000
    assert account.waste <= 0.002


@pytest.mark.parametrize(("quota", "told"), [(500, 1000), (60, 100), (900, 1000)])
def test_a_quota_that_is_smaller_than_was_said_is_found(quota: float, told: float) -> None:
    account = Account(quota=quota, told=told, load=1.5 * told).run()
    assert account.goodput >= 0.9 * quota
    assert account.waste <= 0.015


def test_another_user_of_the_account_keeps_what_it_uses() -> None:
    account = Account(quota=1000, others=lambda _moment: 500).run()
    assert account.goodput >= 0.9 * 500
    assert account.waste <= 0.015
    assert account.others_throttled <= 0.05 * account.others_served


def test_when_the_other_user_has_gone_its_part_is_taken_over() -> None:
    account = Account(quota=1000, others=lambda moment: 700 if moment < WARM else 0).run()
    assert account.road.lane.level(WARM).rate <= 0.35 * 1000
    assert account.road.lane.level(SECONDS).rate >= 0.6 * 1000
    assert account.waste == 0


def test_a_throttled_call_costs_20_ms_and_ten_calls_a_second() -> None:
    lane = Lane(1000)
    lane.throttle(5)
    assert lane.level(5).rate == 990
    assert [lane.level(moment).tokens for moment in (5, 5 + PAUSE)] == pytest.approx([0, 1], abs=1e-5)


def test_the_rate_grows_back_by_a_thirtieth_each_second() -> None:
    lane = Lane(1000)
    for _ in range(50):
        lane.throttle(5)
    assert [lane.level(5 + seconds).rate for seconds in (0, 3, 15, 16)] == pytest.approx([500, 600, 1000, 1000])
    assert lane.is_idle(20.1)
    assert not lane.is_idle(19.9)


def test_a_small_rate_is_halved_at_most_and_something_is_always_left() -> None:
    lane = Lane(10)
    lane.throttle(0)
    assert lane.level(0).rate == 5
    for _ in range(10):
        lane.throttle(0)
    assert lane.level(0).rate == 10 * LEAST


def test_tokens_come_at_the_slower_rate() -> None:
    road = Road(1000)
    for _ in range(50):
        road.lane.throttle(0)
    visits = [road.come() for _ in range(3)]
    road.finish()
    assert [visit.settled_at for visit in visits] == pytest.approx([0.02, 0.022, 0.024], abs=1e-4)


def test_a_slower_queue_holds_less() -> None:
    road = Road(1000)
    for _ in range(50):
        road.lane.throttle(0)
    fates = [road.come().fate.name for _ in range(52)]
    assert fates == ["WAITING"] * 50 + ["REFUSED"] * 2


def test_more_replicas_and_throttling_add_up() -> None:
    lane = Lane(1000)
    for _ in range(50):
        lane.throttle(0)
    lane.change_rate(200, 0)
    assert lane.level(0).rate == pytest.approx(100)
