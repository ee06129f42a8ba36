"""What is heard on another thread is taken in order, a few at a time."""

import asyncio
import threading

from byok_operator.inbox import AT_ONCE, Inbox
from tests.support.eventually import until

EVENTS = 10_000


async def test_all_that_a_thread_hears_is_taken_in_order() -> None:
    taken: list[str | None] = []
    inbox = Inbox(lambda _kind, event, _document: taken.append(event))
    numbers = [str(number) for number in range(EVENTS)]

    def hear() -> None:
        for number in numbers:
            inbox.hear("ByokKey", number, {})

    thread = threading.Thread(target=hear)
    thread.start()
    await until(lambda: len(taken) == EVENTS)
    assert taken == numbers
    thread.join()


async def test_others_have_their_turn_in_between() -> None:
    taken: list[str | None] = []
    inbox = Inbox(lambda _kind, event, _document: taken.append(event))
    for _ in range(EVENTS):
        inbox.hear("ByokKey", "ADDED", {})
    most = before = 0
    while len(taken) < EVENTS:
        await asyncio.sleep(0)
        most, before = max(most, len(taken) - before), len(taken)
    assert most == AT_ONCE


async def test_what_is_heard_while_events_are_taken_is_taken_too() -> None:
    taken: list[str | None] = []

    def take(_kind: object, event: str | None, _document: object) -> None:
        taken.append(event)
        if len(taken) < AT_ONCE * 3:
            inbox.hear("ByokKey", "ADDED", {})

    inbox = Inbox(take)
    inbox.hear("ByokKey", "ADDED", {})
    await until(lambda: len(taken) == AT_ONCE * 3)
