"""The work queue, in simulated time."""

import asyncio
from collections.abc import Coroutine

import pytest

from byok_operator.queue import Retries, WorkQueue
from tests.support.simulated_time import run_simulated

_RETRIES = Retries(first=1.0, longest=8.0, per_second=10.0, burst=20.0)


def _queue(retries: Retries = _RETRIES, *, random: float = 1.0) -> WorkQueue[str]:
    return WorkQueue(retries, clock=asyncio.get_running_loop().time, random=lambda: random)


async def _take(queue: WorkQueue[str]) -> tuple[float, str]:
    subject = await queue.get()
    queue.done(subject)
    return asyncio.get_running_loop().time(), subject


def _run(main: Coroutine[None, None, None]) -> None:
    run_simulated(main)


def test_a_subject_added_many_times_is_worked_on_once() -> None:
    async def main() -> None:
        queue = _queue()
        for _ in range(3):
            queue.add("a")
        assert await _take(queue) == (0, "a")
        assert queue.depth == 0

    _run(main())


def test_the_earliest_moment_asked_for_wins() -> None:
    async def main() -> None:
        queue = _queue()
        queue.add("a", 600)
        queue.add("a", 5)
        queue.add("a", 60)
        assert await _take(queue) == (5, "a")
        queue.add("b", 700)
        assert await _take(queue) == (705, "b")  # the moments of "a" that were overtaken are gone

    _run(main())


def test_subjects_due_come_in_the_order_in_which_they_became_due() -> None:
    async def main() -> None:
        queue = _queue()
        for subject, delay in (("late", 2), ("first", 0), ("second", 0), ("soon", 1)):
            queue.add(subject, delay)
        assert [(await _take(queue))[1] for _ in range(4)] == ["first", "second", "soon", "late"]

    _run(main())


def test_a_subject_under_work_is_given_to_nobody_else_and_comes_again_afterwards() -> None:
    async def main() -> None:
        queue = _queue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a", 3)
        queue.add("a")
        other = asyncio.create_task(queue.get())
        await asyncio.sleep(10)
        assert not other.done()
        queue.done("a")
        assert await other == "a"
        assert asyncio.get_running_loop().time() == 10

    _run(main())


def test_a_waiting_worker_is_woken_by_what_is_added_later_and_due_earlier() -> None:
    async def main() -> None:
        queue = _queue()
        queue.add("later", 100)
        worker = asyncio.create_task(_take(queue))
        await asyncio.sleep(1)
        queue.add("now")
        assert await worker == (1, "now")

    _run(main())


def test_a_worker_that_goes_away_takes_no_subject_with_it() -> None:
    async def main() -> None:
        queue = _queue()
        gone, other = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")  # wakes the first, which goes before it can take
        gone.cancel()
        assert await asyncio.wait_for(other, 1) == "a"

    _run(main())


def test_every_worker_is_woken_when_several_subjects_are_due() -> None:
    async def main() -> None:
        queue = _queue()
        workers = [asyncio.create_task(_take(queue)) for _ in range(3)]
        for subject in "abc":
            queue.add(subject, 7)
        assert await asyncio.gather(*workers) == [(7, "a"), (7, "b"), (7, "c")]

    _run(main())


def test_failures_come_back_ever_later_up_to_a_bound_until_one_succeeds() -> None:
    async def main() -> None:
        queue = _queue()
        assert [queue.retry("a") for _ in range(6)] == [1, 2, 4, 8, 8, 8]
        assert queue.retry("b") == 1
        queue.succeeded("a")
        assert queue.retry("a") == 1

    _run(main())


def test_a_retry_waits_as_long_as_it_was_asked_to() -> None:
    async def main() -> None:
        queue = _queue()
        assert queue.retry("a", at_least=30) == 30
        assert await _take(queue) == (30, "a")

    _run(main())


@pytest.mark.parametrize(("random", "delay"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_retries_are_spread_over_half_of_their_wait(random: float, delay: float) -> None:
    async def main() -> None:
        assert _queue(random=random).retry("a") == delay

    _run(main())


def test_ten_thousand_failures_at_once_come_back_at_the_rate_allowed() -> None:
    async def main() -> None:
        queue = _queue(Retries(first=1.0, longest=8.0, per_second=10.0, burst=20.0))
        delays = [queue.retry(str(number)) for number in range(1000)]
        for second in range(2, 98):
            assert sum(second <= delay < second + 1 for delay in delays) in range(9, 12)

    _run(main())


def test_a_thousand_failures_of_one_subject_overflow_nothing() -> None:
    async def main() -> None:
        queue = _queue(Retries(per_second=1e9, burst=1e9))
        assert [queue.retry("a") for _ in range(2000)][-1] == Retries().longest

    _run(main())


def test_depth_and_age_count_what_is_due_and_not_what_is_planned() -> None:
    async def main() -> None:
        queue = _queue()
        queue.add("planned", 600)
        assert (queue.depth, queue.age) == (0, 0)
        queue.add("due")
        queue.add("soon", 10)
        await asyncio.sleep(30)
        assert (queue.depth, queue.age) == (2, 30)
        await _take(queue)
        assert (queue.depth, queue.age) == (1, 20)

    _run(main())
