"""What tenants get of an overloaded quota, and how long they wait for it."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_signer.quota.lane import SLACK
from byok_signer.quota.turns import Fate
from tests.support.simulated_time import Road, Visit, every, merged

SECONDS = 3


def share_granted(visits: list[Visit]) -> float:
    return sum(visit.is_granted for visit in visits) / len(visits)


def poisson(rate: float, namespace: str, *, until: float, seed: int) -> list[tuple[float, str]]:
    chance, now, arrivals = random.Random(seed), 0.0, []  # noqa: S311 - a test's arrivals are the same each time
    while (now := now + chance.expovariate(rate)) < until:
        arrivals.append((now, namespace))
    return arrivals


@pytest.mark.parametrize("overload", [1.5, 3, 10])
@pytest.mark.parametrize(
    "arrive", [lambda rate: every(1 / rate, "a", until=SECONDS), lambda rate: poisson(rate, "a", until=SECONDS, seed=1)]
)
def test_overload_leaves_no_token_unused_and_nobody_waits_beyond_the_bound(
    overload: float, arrive: Callable[[float], list[tuple[float, str]]]
) -> None:
    road = Road(300)
    road.drive(arrive(300 * overload))
    waits = sorted(visit.waited for visit in road.visits)
    assert len(road.granted()) >= 0.99 * 300 * SECONDS
    assert waits[-1] <= 0.1 + 1e-9


def late(moment: float) -> float:
    """Say when a timer goes off in a loop that is a millisecond late, and stands still for 50 of them each second."""
    return moment + max(0.001, 0.05 - moment % 1)


@pytest.mark.parametrize(("slack", "least", "most"), [(SLACK, 0.99, 1.02), (0, 0.5, 0.8)])
def test_a_late_event_loop_loses_little_because_it_may_catch_up(
    slack: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_signer.quota.lane.SLACK", slack)
    road = Road(1000, late=late)
    for moment, namespace in poisson(1500, "a", until=SECONDS, seed=1):
        if late(moment) > moment + 0.001:
            continue  # Nobody comes while the loop stands still; those who would have are too many already.
        road.pass_time(moment)
        road.come(namespace)
    assert least * 1000 * SECONDS <= len(road.granted()) <= most * 1000 * SECONDS


def test_the_refused_are_refused_at_once_when_the_queue_is_full() -> None:
    road = Road(500)
    road.drive(every(1 / 1500, "a", until=2))
    refused = [visit for visit in road.visits if visit.fate is Fate.REFUSED]
    assert len(refused) > 1900
    assert {visit.waited for visit in refused} == {0}


@pytest.mark.parametrize(
    ("rate", "others", "overload"),
    [(300, 1, 1.5), (300, 1, 20), (300, 5, 3), (300, 60, 1.5), (300, 60, 10), (20, 1, 20), (100, 200, 20)],
)
def test_a_quiet_tenant_gets_all_it_asks_for(rate: float, others: int, overload: float) -> None:
    turn = (others + 1) / rate
    end = max(SECONDS, 5 * turn)
    loud = [poisson(rate * overload / others, f"loud{n}", until=end, seed=n) for n in range(others)]
    quiet = every(1.1 * turn, "quiet", start=turn, until=end)
    road = Road(rate)
    road.drive(merged(*loud, quiet))
    asked = [visit for visit in road.visits if visit.namespace == "quiet"]
    assert share_granted(asked) == 1
    assert len(road.granted()) >= 0.95 * rate * end


def test_a_quiet_tenant_waits_for_a_few_tokens_however_many_others_wait() -> None:
    loud = [poisson(50, f"loud{n}", until=SECONDS, seed=n) for n in range(60)]
    road = Road(500)
    road.drive(merged(*loud, every(0.25, "quiet", start=0.5, until=SECONDS)))
    assert max(visit.waited for visit in road.visits if visit.namespace == "quiet") <= 5 / 500


@pytest.mark.parametrize(
    ("loads", "shares"),
    [
        pytest.param({"a": 2500, "b": 350, "c": 200}, {"a": 100, "b": 100, "c": 100}, id="equal shares"),
        pytest.param({"a": 2500, "b": 2500, "c": 30}, {"a": 135, "b": 135, "c": 30}, id="what one leaves is shared"),
    ],
)
def test_a_tenant_gets_what_it_asks_for_or_as_much_as_any_other(loads: dict[str, int], shares: dict[str, int]) -> None:
    road = Road(300)
    road.drive(merged(*(poisson(load, name, until=SECONDS, seed=5) for name, load in loads.items())))
    granted = {name: len(road.granted(name)) / SECONDS for name in loads}
    assert granted == pytest.approx(shares, rel=0.1)


def test_no_tenant_starves_while_new_ones_keep_coming() -> None:
    crowd = [(at, f"new{n % 300}") for n, (at, _) in enumerate(every(1 / 400, "", until=SECONDS))]
    road = Road(500)
    road.drive(merged(every(1 / 1000, "old", until=SECONDS), crowd))
    assert len(road.granted("old")) >= 0.95 * 100 * SECONDS


arrivals_of_tenants = st.lists(
    st.tuples(st.floats(0, 0.02), st.sampled_from("abcd"), st.floats(0, 0.1), st.booleans()), max_size=120
)


@settings(max_examples=200)
@given(rate=st.floats(1, 2000), arrivals=arrivals_of_tenants)
def test_laws_of_the_queue(rate: float, arrivals: list[tuple[float, str, float, bool]]) -> None:
    road = Road(rate)
    for pause, namespace, patience, goes_away in arrivals:
        road.pass_time(road.now + pause)
        visit = road.come(namespace, patience=patience)
        if goes_away:
            road.lane.withdraw(visit.waiter)
    road.finish()
    assert all(visit.fate is not Fate.WAITING for visit in road.visits)
    granted = road.granted()
    # What is granted is what there was.
    for first, begin in enumerate(granted):
        for count, end in enumerate(granted[first:], start=1):
            assert count <= rate * ((end.settled_at or 0) - (begin.settled_at or 0) + 0.05) + 1 + 1e-4
    for visit in road.visits:
        # Nobody waits beyond the bound.
        if visit.fate is not Fate.WITHDRAWN:
            assert visit.waited <= visit.waiter.deadline - visit.asked_at + 1e-9
    for name in "abcd":
        # Within a namespace, of those who stayed, the first to come was the first to be served.
        moments = [visit.settled_at or 0 for visit in road.visits if visit.namespace == name and visit.is_granted]
        assert moments == sorted(moments)
    assert (road.lane.level(road.now).waiting, road.lane.wake_at()) == (0, None)
    assert math.isclose(road.lane.level(road.now).tokens, 1 + 0.05 * rate, rel_tol=1e-5)
