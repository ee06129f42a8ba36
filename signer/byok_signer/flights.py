"""One signature for equal requests: those under way are joined, those answered a moment ago get the same answer again.

A caller that lost an answer and asks again, reaching the same signer, costs KMS nothing. What failed is not remembered.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from byok_api.audit import AuditId
from byok_signer.kms.port import SignAnswer
from byok_signer.work import Identity

REMEMBERED = 30.0
"""Seconds."""
LIMIT = 32_768
"""Signatures remembered, the newest: about 30 s of a whole KMS quota of 1,000 a second, in 30 MB."""

Made = tuple[SignAnswer, AuditId]
"""A signature, and the record of its release."""


class Flight:
    """A signature under way, and those who wait for it."""

    def __init__(self, making: Coroutine[Any, Any, Made], due: float) -> None:
        self.task = asyncio.create_task(making)
        self.due = due
        """When it is given up, by the monotonic clock."""
        self._waiting = 0
        self._revocable = True

    @property
    def open(self) -> bool:
        """Whether it can be joined: not once it has ended, or all have gone and it was called off."""
        return not self.task.done() and (self._waiting > 0 or not self._revocable)

    def commit(self) -> None:
        """Go on from now on even if all who wait go away."""
        self._revocable = False

    async def join(self) -> Made:
        """Wait for the signature; Refusal. Giving up calls it off if nobody else waits and nothing was done yet."""
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if self._revocable and not self._waiting:
                self.task.cancel()


class Flights:
    """The signatures that are under way, and those just made."""

    def __init__(self, *, clock: Callable[[], float], remembered: float = REMEMBERED, limit: int = LIMIT) -> None:
        self._clock = clock
        self._remembered = remembered
        self._limit = limit
        self._flying: dict[Identity, Flight] = {}
        self._under_way: set[asyncio.Task[Made]] = set()
        self._made: OrderedDict[Identity, tuple[float, Made]] = OrderedDict()

    def made(self, identity: Identity) -> Made | None:
        """Recall a signature that was just made."""
        at, made = self._made.get(identity, (0.0, None))
        return made if made is not None and self._clock() < at + self._remembered else None

    def flying(self, identity: Identity) -> Flight | None:
        """Find a signature that can be joined."""
        flight = self._flying.get(identity)
        return flight if flight is not None and flight.open else None

    def start(
        self, identity: Identity, make: Callable[[Callable[[], None]], Coroutine[Any, Any, Made]], due: float
    ) -> Flight:
        """Begin to make a signature; `make` is given what it must call before it does what cannot be undone."""
        # The lambda, since there is no flight yet to take `commit` from.
        flight = Flight(self._remembering(identity, make(lambda: flight.commit())), due)  # noqa: PLW0108
        self._flying[identity] = flight
        self._under_way.add(flight.task)
        flight.task.add_done_callback(lambda _: self._landed(identity, flight))
        return flight

    async def landed(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _remembering(self, identity: Identity, making: Coroutine[Any, Any, Made]) -> Made:
        made = await making
        # Not in the callback: in between a request would find neither flight nor signature.
        now = self._clock()
        self._made.pop(identity, None)
        self._made[identity] = now, made
        while self._made and (len(self._made) > self._limit or self._oldest() <= now - self._remembered):
            self._made.popitem(last=False)
        return made

    def _landed(self, identity: Identity, flight: Flight) -> None:
        self._under_way.discard(flight.task)
        if self._flying.get(identity) is flight:
            del self._flying[identity]
        if not flight.task.cancelled():
            flight.task.exception()  # retrieved here too, in case all callers have gone

    def _oldest(self) -> float:
        at, _ = next(iter(self._made.values()))
        return at
