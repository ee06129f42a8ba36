"""What the API server said of callers, and for how long it counts.

A verdict is asked for again before it is used once it is older than its limit, never after. Only while the API server
cannot be reached an older one that allows still counts: what bounds that is a token's expiry, and the key's staleAfter.
A denial ends it at once, and no older verdict comes back after one. Only that of an API server that was silent within a
minute must be repeated once it is ready, since it may have just started.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from byok_api.errors import Reason, Refusal
from byok_signer.fair_cache import FairCache
from byok_signer.review_desk import ReviewDesk, UnansweredError, unanswered

DENIED_SECONDS = 5.0
"""For a denial to be remembered: short, since whoever is denied is often given the right just then."""
CACHE_LIMIT = 10_000
"""Verdicts remembered, those that allow and those that deny each."""
WAITING_LIMIT = 512
"""Calls of one source that wait for verdicts."""


class Verdict(Protocol):
    """A decision of the API server."""

    @property
    def allowed(self) -> bool:
        """Whether it lets the caller go on."""

    @property
    def at(self) -> float:
        """When it was asked for."""


_Key = TypeVar("_Key")
_Question = TypeVar("_Question")
_Verdict = TypeVar("_Verdict", bound=Verdict)


class Verdicts(Generic[_Key, _Question, _Verdict]):
    """Verdicts of one kind by key: each asked for by one question at a time, whoever waits for it.

    `ask` is given a question and whether its caller is known.
    """

    def __init__(
        self,
        desk: ReviewDesk,
        ask: Callable[[_Question, bool], Awaitable[_Verdict]],
        *,
        kind: str,
        limit: float,
        ahead: float,
    ) -> None:
        """Let verdicts count for `limit` seconds; those in use are asked for again after `ahead`, beside the calls."""
        self._desk = desk
        self._ask = ask
        self._kind = kind
        self._limit = limit
        self._ahead = ahead
        self._allowed: FairCache[_Key, _Verdict] = FairCache(CACHE_LIMIT)
        self._denied: FairCache[_Key, _Verdict] = FairCache(CACHE_LIMIT)
        self._flights: dict[_Key, asyncio.Task[_Verdict | None]] = {}
        self._waiting: Counter[str] = Counter()

    def recall(self, key: _Key) -> _Verdict | None:
        """Give the verdict that counts by now; None if it must be asked for."""
        verdict = self._allowed.get(key)
        if verdict is None:
            denied = self._denied.get(key)
            return denied if denied is not None and self._desk.clock() < denied.at + DENIED_SECONDS else None
        return verdict if self._desk.clock() < verdict.at + self._limit or self._desk.away else None

    async def find(self, key: _Key, question: _Question, *, source: str, whom: str) -> _Verdict:
        """Give the verdict that counts, asking for it if need be.

        Refusal ClusterUnavailable, or CallerLimited where too many calls of the source wait.
        """
        verdict = self.recall(key)
        if verdict is not None:
            if verdict.allowed and self._desk.clock() >= verdict.at + self._ahead:
                self._renew(key, question, source)
            return verdict
        if self._desk.away:
            self._desk.try_again()
            raise unanswered(whom, retry_after=self._desk.retry_after)
        verdict = await self._wait(key, question, source)
        if verdict is None:
            verdict = self.recall(key)
        if verdict is None:
            raise unanswered(whom, retry_after=self._desk.retry_after)
        return verdict

    def _renew(self, key: _Key, question: _Question, source: str) -> None:
        if self._desk.away:
            self._desk.try_again()
        else:
            self._flight(key, question, source)

    def _flight(self, key: _Key, question: _Question, source: str) -> "asyncio.Task[_Verdict | None]":
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = self._desk.spawn(self._fly(key, question, source))
        return flight

    async def _wait(self, key: _Key, question: _Question, source: str) -> _Verdict | None:
        if self._waiting[source] >= WAITING_LIMIT:
            raise _limited(source)
        self._waiting[source] += 1
        try:
            # Nobody's: it serves every call that waits, so the first one's deadline must not end it.
            return await asyncio.shield(self._flight(key, question, source))
        finally:
            self._waiting[source] -= 1
            if not self._waiting[source]:
                del self._waiting[source]

    async def _fly(self, key: _Key, question: _Question, source: str) -> _Verdict | None:
        known, began = self._allowed.get(key) is not None, self._desk.clock()
        outcome = "unanswered"
        try:
            verdict = await self._ask(question, known)
            if known and not verdict.allowed and self._desk.recovering:
                # It ends what worked until now: so it must be the word of an API server that knows everything.
                await self._desk.ready()
                verdict = await self._ask(question, known)
            outcome = "allowed" if verdict.allowed else "denied"
            self._remember(key, verdict, source)
        except UnansweredError:
            return None
        else:
            return verdict
        finally:
            del self._flights[key]
            self._desk.observe(self._kind, outcome, self._desk.clock() - began)

    def _remember(self, key: _Key, verdict: _Verdict, source: str) -> None:
        right, wrong = (self._allowed, self._denied) if verdict.allowed else (self._denied, self._allowed)
        wrong.pop(source, key)
        right.put(source, key, verdict)


def _limited(source: str) -> Refusal:
    return Refusal(
        Reason.CallerLimited,
        f"{WAITING_LIMIT} calls of namespace {source} wait for the API server's answer; call again in a moment",
        retry_after=1.0,
    )
