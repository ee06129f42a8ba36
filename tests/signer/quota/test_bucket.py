"""The token bucket, to the token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_signer.quota.bucket import Appointments, Bucket


def take_all(bucket: Bucket, now: float) -> int:
    taken = 0
    while bucket.take(now):
        taken += 1
    return taken


def bucket_of(rate: float, burst: float) -> Bucket:
    return Bucket(rate, slack=(burst - 1) / rate)


@pytest.mark.parametrize("burst", [1, 2, 7, 51, 1000])
@pytest.mark.parametrize("rate", [0.1, 3, 1000, 99_999])
@pytest.mark.parametrize("now", [0, 1.7e6])
def test_a_full_bucket_holds_its_burst(rate: float, burst: int, now: float) -> None:
    assert take_all(bucket_of(rate, burst), now) == burst


@pytest.mark.parametrize("rate", [0.3, 10, 1000, 12_345.6])
def test_the_next_token_is_there_when_it_is_said_to_be_and_not_before(rate: float) -> None:
    bucket = bucket_of(rate, 5)
    take_all(bucket, 1000.0)
    for _ in range(2000):
        free_at = bucket.free_at
        assert not bucket.take(free_at - 1e-3 / rate)
        assert bucket.take(free_at)


@pytest.mark.parametrize("rate", [1000, 1000 / 3, 7])
def test_over_a_long_time_the_rate_is_exact(rate: float) -> None:
    bucket = bucket_of(rate, 1 + 0.05 * rate)
    take_all(bucket, 0)
    begin = bucket.free_at
    for _ in range(200_000):
        assert bucket.take(bucket.free_at)
    assert bucket.free_at - begin == pytest.approx(200_000 / rate, abs=1e-6, rel=0)


def test_tokens_are_counted_in_fractions() -> None:
    bucket = bucket_of(10, 5)
    assert bucket.tokens(0) == pytest.approx(5)
    take_all(bucket, 0)
    assert [bucket.tokens(at) for at in (0.05, 0.1, 0.25, 9)] == pytest.approx([0.5, 1, 2.5, 5], abs=1e-5)


def test_a_token_given_back_can_be_taken_again() -> None:
    bucket = bucket_of(10, 5)
    take_all(bucket, 0)
    bucket.give_back()
    assert take_all(bucket, 0) == 1


def test_more_given_back_than_it_holds_is_lost() -> None:
    bucket = bucket_of(10, 5)
    bucket.give_back()
    assert take_all(bucket, 0) == 5


def test_a_drained_bucket_has_its_next_token_at_that_moment() -> None:
    bucket = bucket_of(10, 5)
    bucket.drain(3)
    assert not bucket.take(2.999)
    assert take_all(bucket, 3) == 1


@pytest.mark.parametrize(
    ("rate", "burst", "left"),
    [
        pytest.param(100, 100, 90, id="raised: what was taken stays taken"),
        pytest.param(10, 10, 0, id="the same"),
        pytest.param(2, 4, 0, id="lowered: empty, not in debt"),
    ],
)
def test_another_rate_holds_at_once(rate: float, burst: int, left: int) -> None:
    bucket = bucket_of(10, 10)
    assert take_all(bucket, 50) == 10
    bucket.change(rate, slack=(burst - 1) / rate, now=50)
    assert take_all(bucket, 50) == left
    assert not bucket.take(50 + 0.99 / rate)
    assert bucket.take(50 + 1.01 / rate)


def test_a_token_that_is_there_stays_there_at_a_smaller_rate() -> None:
    bucket = bucket_of(10, 10)
    take_all(bucket, 0)
    bucket.change(2, slack=1, now=0.15)
    assert bucket.take(0.15)
    assert bucket.free_at == pytest.approx(0.15 + 0.5 / 2, abs=1e-3)


def test_a_full_bucket_is_full_at_another_rate() -> None:
    bucket = bucket_of(10, 10)
    bucket.take(0)
    bucket.change(100, slack=0.2, now=90)
    assert take_all(bucket, 90) == 21
    assert not bucket.is_full(90.2)
    assert bucket.is_full(90.22)


def test_a_slower_pace_is_that_of_the_tokens_to_come() -> None:
    bucket = bucket_of(10, 1)
    bucket.pace(0.5)
    assert bucket.take(0)
    assert bucket.free_at == pytest.approx(0.2)


@given(
    rate=st.floats(0.01, 1e5),
    burst=st.floats(1, 1000),
    pauses=st.lists(st.floats(0, 20), min_size=1, max_size=60),
    tries=st.integers(1, 20),
)
def test_no_stretch_of_time_yields_more_than_its_rate_and_the_burst(
    rate: float, burst: float, pauses: list[float], tries: int
) -> None:
    bucket, now, taken = bucket_of(rate, burst), 0.0, []
    for pause in pauses:
        now += pause / rate
        taken += [now for _ in range(tries) if bucket.take(now)]
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= rate * (taken[last] - begin) + burst + 1e-4


def test_those_turned_away_come_back_one_after_the_other() -> None:
    appointments = Appointments()
    told = [appointments.make(5, free_at=5.1, interval=0.01) for _ in range(4)]
    assert told == pytest.approx([0.1, 0.11, 0.12, 0.13])
    assert appointments.make(6, free_at=6.1, interval=0.01) == pytest.approx(0.1)


def test_nobody_is_told_to_come_back_after_more_than_ten_seconds() -> None:
    appointments = Appointments()
    told = [appointments.make(0, free_at=0.1, interval=0.01) for _ in range(2000)]
    assert max(told) == told[-1] == 10
    assert appointments.are_over(10)
    assert not appointments.are_over(9.9)
