"""What one caller may have under way, and what that leaves to others."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.errors import Reason, Refusal
from byok_signer.limits import Callers, Limits, Patience, Place

LIMITS = Limits(
    calls=5, calls_per_caller=3, streams_per_caller=2, bytes_per_caller=100, message_bytes=50, idle_seconds=300
)


def refused(callers: Callers, caller: str, *, stream: bool = False) -> bool:
    try:
        callers.admit(caller, stream=stream)
    except Refusal as refusal:
        return refusal.reason is Reason.CallerLimited and refusal.retry_after is not None
    return False


def filled(callers: Callers, caller: str, calls: int) -> list[Place]:
    return [callers.admit(caller, stream=False) for _ in range(calls)]


def test_a_caller_has_so_many_calls_and_takes_none_from_others() -> None:
    callers = Callers(LIMITS)
    places = filled(callers, "a", 3)
    assert (refused(callers, "a"), refused(callers, "b")) == (True, False)
    places[0].leave()
    assert [refused(callers, "a") for _ in range(2)] == [False, True]


def test_streams_are_calls_with_a_limit_of_their_own() -> None:
    callers = Callers(LIMITS)
    places = [callers.admit("a", stream=True) for _ in range(2)]
    assert [refused(callers, "a", stream=stream) for stream in (True, False, False)] == [True, False, True]
    places[0].leave()
    assert not refused(callers, "a", stream=True)


def test_when_the_signer_is_full_a_caller_still_gets_its_first_call() -> None:
    callers = Callers(LIMITS)
    filled(callers, "a", 3)
    filled(callers, "b", 2)
    assert [refused(callers, caller) for caller in ("b", "c", "c")] == [True, False, True]


def test_leaving_twice_counts_once() -> None:
    callers = Callers(LIMITS)
    first, *_ = filled(callers, "a", 3)
    first.leave()
    first.leave()
    assert [refused(callers, "a") for _ in range(2)] == [False, True]


async def test_bytes_are_waited_for_in_turn() -> None:
    callers = Callers(LIMITS)
    holder, large, small = filled(callers, "a", 3)
    await holder.hold(70)
    turns = [asyncio.create_task(place.hold(size)) for place, size in ((large, 60), (small, 10))]
    await asyncio.sleep(0)
    assert [turn.done() for turn in turns] == [False, False]
    holder.release(30)
    assert await turns[0] == 60
    assert not turns[1].done()
    large.release(60)
    assert await turns[1] == 10


async def test_who_waits_no_more_lets_those_behind_pass() -> None:
    callers = Callers(LIMITS)
    holder, large, small = filled(callers, "a", 3)
    await holder.hold(70)
    given_up, turn = asyncio.create_task(large.hold(60)), asyncio.create_task(small.hold(10))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await turn == 10


async def test_what_was_given_to_one_who_just_gave_up_is_not_lost() -> None:
    callers = Callers(LIMITS)
    holder, large, small = filled(callers, "a", 3)
    await holder.hold(100)
    given_up = asyncio.create_task(large.hold(100))
    await asyncio.sleep(0)
    holder.leave()
    given_up.cancel()
    assert await small.hold(100) == 100


async def test_a_message_larger_than_all_that_is_allowed_waits_until_it_is_alone() -> None:
    callers = Callers(LIMITS)
    holder, large, _ = filled(callers, "a", 3)
    await holder.hold(1)
    turn = asyncio.create_task(large.hold(1000))
    await asyncio.sleep(0)
    assert not turn.done()
    holder.leave()
    assert await turn == 100


async def test_who_left_gives_back_nothing_more() -> None:
    callers = Callers(LIMITS)
    first, second, _ = filled(callers, "a", 3)
    await first.hold(100)
    first.leave()
    first.release(100)
    await second.hold(100)
    turn = asyncio.create_task(filled(callers, "a", 1)[0].hold(1))
    await asyncio.sleep(0)
    assert not turn.done()
    turn.cancel()


STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 120), st.booleans()), max_size=40)


@given(STEPS)
async def test_whatever_comes_and_goes_the_bound_holds_and_nothing_is_lost(
    steps: list[tuple[str, bool, int, bool]],
) -> None:
    callers = Callers(LIMITS)
    opened: list[tuple[str, Place, asyncio.Task[int]]] = []
    for caller, stream, size, leaves in steps:
        if leaves and opened:
            _, place, holding = opened.pop(0)
            holding.cancel()
            await asyncio.wait((holding,))
            place.leave()
        with contextlib.suppress(Refusal):
            place = callers.admit(caller, stream=stream)
            opened.append((caller, place, asyncio.create_task(place.hold(size))))
        await asyncio.sleep(0)
        for name in "ab":
            assert sum(task.result() for who, _, task in opened if who == name and task.done()) <= 100
    for _, place, holding in opened:
        holding.cancel()
        await asyncio.wait((holding,))
        place.leave()
    for name in "ab":
        assert await filled(callers, name, 2)[0].hold(100) == 100


async def test_patience_ends_what_takes_too_long_and_nothing_else() -> None:
    patience, never = Patience(0.01), asyncio.Event()
    assert await patience.wait_for(asyncio.sleep(0, "quick")) == "quick"
    with pytest.raises(TimeoutError):
        await patience.wait_for(never.wait())
    assert await Patience(3600).wait_for(asyncio.sleep(0, "quick")) == "quick"


async def test_patience_lets_a_cancellation_through() -> None:
    patience = Patience(3600)
    waiting = asyncio.create_task(patience.wait_for(asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_patience_waits_for_each_just_as_long() -> None:
    patience, began = Patience(0.2), asyncio.get_running_loop().time()

    async def ended_after(delay: float) -> float:
        await asyncio.sleep(delay)
        with pytest.raises(TimeoutError):
            await patience.wait_for(asyncio.Event().wait())
        return asyncio.get_running_loop().time() - began - delay

    assert all(waited >= 0.2 for waited in await asyncio.gather(*map(ended_after, (0, 0.1, 0.3))))


def test_limits_can_be_told_apart_by_what_is_refused() -> None:
    told = []
    for limits, stream in ((replace(LIMITS, calls_per_caller=0), False), (replace(LIMITS, streams_per_caller=0), True)):
        with pytest.raises(Refusal) as caught:
            Callers(limits).admit("a", stream=stream)
        told.append(caught.value.message)
    assert ["calls" in told[0], "streams" in told[1]] == [True, True]
