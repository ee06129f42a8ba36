"""Whose question is asked next."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from byok_signer.review_turns import AT_ONCE, WAITING_LIMIT, NoTurnError, ReviewTurns
from tests.support.eventually import until


class Asking:
    """Holds turns, and says whose."""

    def __init__(self) -> None:
        self.turns = ReviewTurns()
        self.open: Counter[str] = Counter()
        self.order: list[str] = []
        self.done = asyncio.Semaphore(0)
        self.tasks: set[asyncio.Task[None]] = set()

    def ask(self, source: str, *, known: bool = False, times: int = 1) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._ask(source, known=known)) for _ in range(times)]
        self.tasks.update(tasks)
        return tasks

    async def _ask(self, source: str, *, known: bool) -> None:
        async with self.turns.turn(source, known=known):
            self.open[source] += 1
            self.order.append(source)
            await self.done.acquire()
            self.open[source] -= 1

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    asking = Asking()
    yield asking
    for task in asking.tasks:
        task.cancel()
    await asyncio.gather(*asking.tasks, return_exceptions=True)


async def test_at_most_sixteen_are_asked_at_once(asking: Asking) -> None:
    for source in "abcdefgh":
        asking.ask(source, times=10)
        asking.ask(source, known=True, times=10)
    await asking.settle()
    assert asking.open.total() == AT_ONCE


async def test_of_strangers_no_source_gets_more_than_a_quarter_of_the_places(asking: Asking) -> None:
    asking.ask("flood", times=100)
    await asking.settle()
    assert asking.open["flood"] == AT_ONCE // 4


async def test_strangers_leave_places_to_those_who_are_known_and_these_to_strangers(asking: Asking) -> None:
    for source in "abcdefgh":
        asking.ask(source, times=10)
    await asking.settle()
    assert asking.open.total() == AT_ONCE * 3 // 4
    asking.ask("known", known=True, times=10)
    await asking.settle()
    assert asking.open["known"] == AT_ONCE // 4


async def test_sources_take_turns(asking: Asking) -> None:
    asking.ask("flood", times=50)
    for source in "abcdefgh":
        asking.ask(source, times=2)
    await asking.settle()
    for _ in range(20):
        asking.done.release()
        await asking.settle()
    assert Counter(asking.order[:24]) >= Counter(dict.fromkeys("abcdefgh", 2))


async def test_those_who_are_known_come_first(asking: Asking) -> None:
    for source in "abcdefgh":
        asking.ask(source, times=10)
        asking.ask(f"known-{source}", known=True, times=10)
    await asking.settle()
    before = len(asking.order)
    for _ in range(4):
        asking.done.release()
    await until(lambda: len(asking.order) == before + 4)
    assert all(source.startswith("known") for source in asking.order[before:])


async def test_who_waits_no_longer_leaves_the_line_and_loses_no_place(asking: Asking) -> None:
    first, *others = asking.ask("a", times=AT_ONCE // 4 + 5)
    await asking.settle()
    for task in others[AT_ONCE // 4 - 1 :]:
        task.cancel()
    # A turn that is given to somebody in the very moment in which that one gives up.
    asking.ask("a")
    await asking.settle()
    first.cancel()
    await asking.settle()
    for task in asking.tasks:
        task.cancel()
    await asyncio.gather(*asking.tasks, return_exceptions=True)
    async with AsyncExitStack() as stack:
        for _ in range(AT_ONCE // 4):
            await asyncio.wait_for(stack.enter_async_context(asking.turns.turn("a", known=False)), 1)


async def test_a_turn_given_to_one_who_gives_up_goes_to_the_next(asking: Asking) -> None:
    held = asking.ask("a", times=AT_ONCE // 4)
    await asking.settle()
    waiting = asking.ask("a", times=2)
    await asking.settle()
    # Both in one step of the loop: the turn is given first, and then its holder is gone.
    held[0].cancel()
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(waiting[0].cancel))
    await until(lambda: waiting[0].done() or asking.open["a"] == AT_ONCE // 4)
    asking.done.release()
    await until(lambda: len(asking.order) >= AT_ONCE // 4 + 1)


async def test_what_waits_is_bounded_for_each_source_alone(asking: Asking) -> None:
    asking.ask("flood", times=WAITING_LIMIT + AT_ONCE // 4)
    await asking.settle()
    with pytest.raises(NoTurnError):
        async with asking.turns.turn("flood", known=False):
            raise AssertionError("too many wait")
    asking.ask("quiet")
    await asking.settle()
    assert asking.open["quiet"] == 1
