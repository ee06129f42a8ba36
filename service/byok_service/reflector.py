"""Keeps up with a collection of objects: lists it, then follows its changes; loses none, deletions included.

List-and-replace: whatever may have been missed, the whole collection is listed again, and what it no longer holds is
gone. That is so after a 410; after failures in a row, since an API server that was restored from a backup may never say
410 (it waits for a resourceVersion that does not come); and when it tells of an older resourceVersion than is known.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from byok_service.kubernetes import (
    EXPIRED,
    NOT_FOUND,
    ApiError,
    ApiUnavailable,
    JsonObject,
    KubernetesApi,
    KubernetesError,
    Resource,
    WatchEvent,
)

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_LONGEST_REQUEST = 30.0
"""Seconds that an API server may ask for with Retry-After."""
_LIVED = 0.5
"""A watch that stood for so many seconds was none that fails at once: the next is opened without a pause."""
_TURN = 0.01
"""Seconds for which events are taken in before others have their turn in the event loop."""
_DOUBTFUL = 4
"""After so many failures in a row the collection is listed again."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Sink(Generic[Item]):
    """Where a reflector puts what it reads; called in the event loop, in order."""

    replaced: Callable[[list[Item]], None]
    """The whole collection."""
    changed: Callable[[Item], None]
    """An object that was added or modified."""
    deleted: Callable[[Item], None]
    """An object that is gone, as it last was."""


def pause_after(failures: int, luck: float, *, asked: float | None = None) -> float:
    """Seconds to wait after so many failures in a row: none after the first, then 0.25 s doubling up to 5 s, jittered.

    `luck` is a random number from 0 to 1; `asked` what the API server asks for, heeded up to 30 s.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 2, 10))
    pause = longest * (0.5 + luck / 2) if failures > 1 else 0.0
    return max(pause, min(asked or 0.0, _LONGEST_REQUEST))


class Reflector(Generic[Item]):
    """Follows one collection over all namespaces; `run` it in a task. Never gives up: failures are logged."""

    def __init__(
        self,
        api: KubernetesApi,
        resource: Resource,
        *,
        read: Callable[[JsonObject], Item],
        sink: Sink[Item],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` makes what is held of an object; it must not raise, and is called in a thread for what is listed."""
        self._api = api
        self._resource = resource
        self._read = read
        self._sink = sink
        self._clock = clock
        self._version = ""
        self._failures = 0
        self._gone = False
        self._synced = False
        self._confirmed_at: float | None = None

    @property
    def synced(self) -> bool:
        """Whether the collection was listed once."""
        return self._synced

    @property
    def confirmed_at(self) -> float | None:
        """When, by the clock, the API server last said anything of the collection; None: never."""
        return self._confirmed_at

    async def run(self) -> None:
        """List and follow, forever."""
        while True:
            asked = None
            try:
                if not self._version:
                    await self._list()
                if not await self._follow():
                    self._failures += 1
            except KubernetesError as error:
                asked = error.retry_after if isinstance(error, ApiUnavailable) else None
                self._note(error)
            await asyncio.sleep(pause_after(self._failures, random.random(), asked=asked))  # noqa: S311 - jitter

    def _note(self, error: KubernetesError) -> None:
        self._failures += 1
        expired = isinstance(error, ApiError) and error.status == EXPIRED
        if expired or self._failures >= _DOUBTFUL:
            self._version = ""
        if isinstance(error, ApiError) and error.status == NOT_FOUND:
            self._lose()
        # One that ends now and then is nothing to tell of.
        if self._failures > 1 and not expired:
            details = {"resource": str(self._resource), "cause": str(error), "failures": self._failures}
            _LOG.warning("the API server's objects cannot be followed; what is known stays", extra=details)

    def _lose(self) -> None:
        """Take a collection that the API server does not know for an empty one: its definition was deleted."""
        self._version = ""
        if self._synced and not self._gone:
            self._gone = True
            self._sink.replaced([])

    async def _list(self) -> None:
        items: list[Item] = []
        version = ""
        async with aclosing(self._api.pages(self._resource)) as pages:
            async for page in pages:
                # In a thread: the event loop has signatures to serve.
                items += await asyncio.to_thread(self._read_all, page.items)
                version = page.resource_version
        self._sink.replaced(items)
        self._version = version
        self._gone = False
        self._confirm()
        if not self._synced:
            self._synced = True
            _LOG.info("listed", extra={"resource": str(self._resource), "objects": len(items)})

    def _read_all(self, bodies: list[JsonObject]) -> list[Item]:
        return [self._read(body) for body in bodies]

    async def _follow(self) -> bool:
        """Follow changes until the API server ends it; say whether that was a while."""
        opened = math.inf
        try:
            async with aclosing(self._api.watch(self._resource, self._version)) as events:
                turn = -math.inf
                async for event in events:
                    opened = min(opened, self._clock())
                    if _goes_back(self._version, event.resource_version):
                        self._doubt(event.resource_version)
                        break
                    self._take(event)
                    if self._clock() - turn > _TURN:
                        # Events that came together are read without waiting for anything.
                        await asyncio.sleep(0)
                        turn = self._clock()
        finally:
            lived = self._clock() - opened >= _LIVED
            if lived:
                self._failures = 0
        return lived

    def _take(self, event: WatchEvent) -> None:
        self._confirm()
        match event.type:
            case "ADDED" | "MODIFIED":
                self._sink.changed(self._read(event.object))
            case "DELETED":
                self._sink.deleted(self._read(event.object))
        # Only now: what was not taken in must come again.
        self._version = event.resource_version or self._version

    def _doubt(self, told: str) -> None:
        """Have the collection listed again, as one that has gone back in time may lack what was taken in."""
        details = {"resource": str(self._resource), "known": self._version, "told": told}
        _LOG.warning("the API server has gone back in time; its objects are listed again", extra=details)
        self._version = ""

    def _confirm(self) -> None:
        self._confirmed_at = self._clock()


def _goes_back(known: str, told: str) -> bool:
    """Say whether a resourceVersion is older than another, where both are numbers.

    Those of one resource can be compared, and have no leading zeros (KEP-5504, "Comparable Resource Version").
    """
    return known.isdecimal() and told.isdecimal() and (len(told), told) < (len(known), known)
