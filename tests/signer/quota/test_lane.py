"""The queue before one quota, moment by moment."""

import pytest

from byok_signer.quota.lane import Lane, Level
from byok_signer.quota.turns import Fate, Waiter
from tests.support.simulated_time import Road, every

MS = 0.001


@pytest.fixture
def road() -> Road:
    """A quota of 1,000 a second that has just been used up."""
    road = Road(1000)
    road.empty()
    return road


def test_after_a_pause_one_token_and_those_of_50_ms_are_there_at_once() -> None:
    lane = Lane(1000)
    assert sum(lane.take(7.0) for _ in range(100)) == 51


def test_a_rate_below_one_has_one_token_at_once_and_the_next_when_it_is_due() -> None:
    road = Road(0.5)
    assert road.come().is_granted
    assert not road.lane.take(1.9)
    assert road.lane.take(2.0 - 0.05 + MS)


def test_those_who_wait_are_served_as_the_tokens_come(road: Road) -> None:
    waiting = [road.come() for _ in range(5)]
    road.finish()
    assert [visit.waited for visit in waiting] == pytest.approx([1 * MS, 2 * MS, 3 * MS, 4 * MS, 5 * MS], abs=1e-6)


def test_the_queue_holds_100_ms_worth_of_tokens(road: Road) -> None:
    visits = [road.come() for _ in range(103)]
    road.finish()
    assert [visit.fate for visit in visits] == [Fate.GRANTED] * 100 + [Fate.REFUSED] * 3
    assert max(visit.waited for visit in visits) == pytest.approx(0.1, abs=1e-6)


def test_at_a_small_rate_the_queue_holds_one() -> None:
    road = Road(20)
    road.empty()
    first, second, third = road.come(), road.come(), road.come()
    assert [first.fate, second.fate, third.fate] == [Fate.WAITING, Fate.WAITING, Fate.REFUSED]
    road = Road(3)
    road.empty()
    assert [road.come().fate, road.come().fate] == [Fate.WAITING, Fate.REFUSED]


def test_nobody_takes_a_token_past_those_who_wait(road: Road) -> None:
    waiting = road.come()
    road.now = 5 * MS  # The event loop is late: several tokens are there, and nobody has been told.
    assert not road.lane.take(road.now)
    late = road.come()
    assert (waiting.is_granted, late.is_granted) == (True, True)
    assert road.granted() == [waiting, late]


def test_one_waits_no_longer_than_it_has_time(road: Road) -> None:
    visits = [road.come(patience=patience) for patience in (3.5 * MS, 0.5 * MS, 0, 2.5 * MS, 90 * MS)]
    road.finish()
    assert [visit.fate for visit in visits] == [Fate.GRANTED, Fate.EXPIRED, Fate.EXPIRED, Fate.GRANTED, Fate.GRANTED]
    assert [visit.waited for visit in visits] == pytest.approx([1 * MS, 0.5 * MS, 0, 2 * MS, 3 * MS], abs=1e-6)


def test_one_without_time_gets_a_token_that_is_there() -> None:
    assert Road(1000).come(patience=0).is_granted


def test_a_token_that_comes_too_late_for_one_goes_to_the_next(road: Road) -> None:
    hasty, patient = road.come(patience=2 * MS), road.come()
    road.now = 4 * MS
    assert road.lane.advance(road.now) == [hasty.waiter, patient.waiter]
    assert (hasty.fate, patient.fate) == (Fate.EXPIRED, Fate.GRANTED)
    assert road.lane.level(road.now).tokens == pytest.approx(3, abs=1e-4)


def test_a_late_event_loop_catches_up_on_50_ms() -> None:
    road = Road(1000)
    road.empty()
    for _ in range(100):
        road.come()
    road.now = 80 * MS
    assert len(road.lane.advance(road.now)) == 51


def test_one_who_goes_away_leaves_the_token_to_the_others(road: Road) -> None:
    first, second = road.come(), road.come()
    road.lane.withdraw(first.waiter)
    road.finish()
    assert first.fate is Fate.WITHDRAWN
    assert second.waited == pytest.approx(1 * MS, abs=1e-6)


def test_going_away_twice_or_too_late_does_nothing(road: Road) -> None:
    first, second = road.come(), road.come()
    road.lane.withdraw(first.waiter)
    road.lane.withdraw(first.waiter)
    road.finish()
    road.lane.withdraw(second.waiter)
    assert (first.fate, second.fate) == (Fate.WITHDRAWN, Fate.GRANTED)


def test_a_token_given_back_goes_to_the_first_who_waits(road: Road) -> None:
    first, second = road.come(), road.come()
    road.lane.give_back()
    assert road.lane.advance(road.now) == [first.waiter]
    assert second.fate is Fate.WAITING


def test_one_who_has_more_waiting_makes_room(road: Road) -> None:
    many = [road.come("a") for _ in range(100)]
    quiet = road.come("b")
    assert (many[-1].fate, quiet.fate) == (Fate.EVICTED, Fate.WAITING)
    assert [visit.fate for visit in many[:-1]] == [Fate.WAITING] * 99
    road.finish()
    assert quiet.waited == pytest.approx(2 * MS, abs=1e-6)  # a came before it


def test_nobody_makes_room_for_one_who_has_no_time_to_wait(road: Road) -> None:
    many = [road.come("a") for _ in range(100)]
    assert road.come("b", patience=0).fate is Fate.EXPIRED
    assert {visit.fate for visit in many} == {Fate.WAITING}


def test_more_replicas_slow_down_those_who_wait_already(road: Road) -> None:
    visits = [road.come() for _ in range(3)]
    road.lane.change_rate(100, road.now)
    road.finish()
    assert [visit.waited for visit in visits] == pytest.approx([10 * MS, 20 * MS, 30 * MS], abs=1e-4)


def test_fewer_replicas_speed_up_those_who_wait_already() -> None:
    road = Road(100)
    road.empty()
    visits = [road.come() for _ in range(10)]
    road.lane.change_rate(1000, road.now)
    assert road.lane.advance(road.now) == [visit.waiter for visit in visits]


def test_those_who_are_too_many_at_a_smaller_rate_wait_until_their_time_is_up(road: Road) -> None:
    visits = [road.come() for _ in range(50)]
    road.lane.change_rate(100, road.now)
    road.finish()
    assert [visit.fate for visit in visits] == [Fate.GRANTED] * 10 + [Fate.EXPIRED] * 40
    assert visits[-1].waited == pytest.approx(0.1)


def test_who_is_turned_away_is_told_when_all_those_before_it_are_served(road: Road) -> None:
    for _ in range(100):
        road.come()
    told = [road.lane.turn_away(road.now) for _ in range(3)]
    assert told == pytest.approx([101 * MS, 102 * MS, 103 * MS], abs=1e-6)


def test_a_queue_that_rests_is_as_good_as_new(road: Road) -> None:
    assert not road.lane.is_idle(road.now)
    road.come()
    road.finish()
    assert road.lane.is_idle(road.now)
    assert road.lane.wake_at() is None


def test_one_that_was_turned_away_is_remembered_until_it_was_to_come_back(road: Road) -> None:
    road.lane.turn_away(0)
    assert not road.lane.is_idle(MS / 2)
    assert road.lane.is_idle(0.2)


def test_the_level_tells_what_is_there(road: Road) -> None:
    for name in "aab":
        road.come(name)
    busy = road.lane.level(road.now)
    road.finish()
    idle = road.lane.level(road.now)
    assert [busy.tokens, idle.tokens] == pytest.approx([0, 51], abs=1e-4)
    assert busy == Level(1000, busy.tokens, waiting=3, namespaces=2)
    assert idle == Level(1000, idle.tokens, waiting=0, namespaces=0)


def test_what_was_settled_is_not_kept(road: Road) -> None:
    for _ in range(3):
        visits = [road.come() for _ in range(100)]
        for visit in visits:
            road.lane.withdraw(visit.waiter)
    assert road.lane.level(0).waiting == 0
    road.finish()
    assert road.lane._deadlines == []  # noqa: SLF001 - that it is empty shows nowhere else


def test_a_waiter_says_what_became_of_it() -> None:
    waiter = Waiter("a", 1)
    assert Lane(1).offer(waiter, 0) == [waiter]
    assert waiter.fate is Fate.GRANTED


@pytest.mark.parametrize("rate", [20, 100, 300])
def test_under_steady_overload_the_rate_is_exact(rate: float) -> None:
    road = Road(rate)
    road.drive(every(1 / (1.5 * rate), "a", until=10))
    within = [visit for visit in road.granted() if visit.settled_at is not None and visit.settled_at <= 10]
    assert len(within) == pytest.approx(10 * rate + 0.05 * rate + 1, abs=1)
