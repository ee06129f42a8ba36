"""Who is next, and who has to go: the namespace served longest ago is next, and the longest queue gives way.

While all have somebody waiting, that is round robin. It also holds across pauses: a namespace that asks for less than
its share was always served longer ago than those that ask for more, so it waits for a token or two, however many of the
others wait, and where the queue is full, one of theirs makes room.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Generic, TypeVar

MEMORY = 1024
"""Namespaces of which it is remembered when they were last served; any other counts as served before them all."""


class Fate(Enum):
    """What became of one who asked for a token."""

    WAITING = auto()
    GRANTED = auto()
    REFUSED = auto()
    """At once: the queue is full, and no other namespace has more in it."""
    EVICTED = auto()
    """It waited, and made room for a namespace that has fewer waiting."""
    EXPIRED = auto()
    """It waited for as long as it might."""
    WITHDRAWN = auto()
    """It went away itself."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One who asks for a token."""

    namespace: str
    deadline: float
    """The last moment at which a token is of use, by the clock of the queue."""
    fate: Fate = Fate.WAITING


@dataclass(eq=False, slots=True)
class _Space:
    """A namespace that has somebody waiting."""

    name: str
    served: int
    """The number of its last service; 0 if that is not remembered."""
    waiters: "OrderedDict[Waiter, None]" = field(default_factory=OrderedDict)

    @property
    def burden(self) -> tuple[int, int]:
        """What it is up to, before others: smaller for a longer queue, then for a later service."""
        return -len(self.waiters), -self.served


class Turns:
    """The waiters by namespace. Each operation takes the logarithm of the number of namespaces that wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self._spaces: dict[str, _Space] = {}
        self._next: _Ranking[int] = _Ranking()
        self._longest: _Ranking[tuple[int, int]] = _Ranking()
        self._served: OrderedDict[str, int] = OrderedDict()
        self._services = count(1)

    @property
    def namespaces(self) -> int:
        """Count the namespaces that have somebody waiting."""
        return len(self._spaces)

    def add(self, waiter: Waiter) -> None:
        """Put a waiter behind the others of its namespace."""
        space = self._spaces.get(waiter.namespace)
        if space is None:
            space = self._spaces[waiter.namespace] = self._new_space(waiter.namespace)
            self._next.put(space, space.served)
        space.waiters[waiter] = None
        self.waiting += 1
        self._longest.put(space, space.burden)

    def take_next(self) -> Waiter | None:
        """Take out whose turn it is; None if nobody waits."""
        space = self._next.first()
        if space is None:
            return None
        space.served = self._served[space.name] = next(self._services)
        self._served.move_to_end(space.name)
        if len(self._served) > MEMORY:
            self._served.popitem(last=False)
        self._next.put(space, space.served)
        waiter = next(iter(space.waiters))
        self.remove(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out, wherever it stands; that costs its namespace no turn."""
        space = self._spaces[waiter.namespace]
        del space.waiters[waiter]
        self.waiting -= 1
        if space.waiters:
            self._longest.put(space, space.burden)
        else:
            del self._spaces[space.name]
            self._next.drop(space)
            self._longest.drop(space)

    def evict_for(self, namespace: str) -> Waiter | None:
        """Take out the newest of the longest queue; None if with one more `namespace` would have the longest.

        Of queues of the same length that of the namespace served last counts as the longest; of those never served,
        the one that has been of its length for the longest time, and none gives way to another.
        """
        space = self._longest.first()
        own = self._spaces.get(namespace) or self._new_space(namespace)
        if space is None or space.burden >= (-len(own.waiters) - 1, -own.served):
            return None
        waiter = next(reversed(space.waiters))
        self.remove(waiter)
        return waiter

    def _new_space(self, namespace: str) -> _Space:
        return _Space(namespace, self._served.get(namespace, 0))


_Rank = TypeVar("_Rank", int, tuple[int, int])


class _Ranking(Generic[_Rank]):
    """Spaces by rank, the smallest first, then the one that has had its rank for the longest time.

    A heap in which outdated entries stay until they come up, or are as many as the others.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[_Rank, int, _Space]] = []
        self._valid: dict[_Space, int] = {}
        self._serial = count()

    def put(self, space: _Space, rank: _Rank) -> None:
        """Add a space, or change its rank."""
        serial = self._valid[space] = next(self._serial)
        heapq.heappush(self._heap, (rank, serial, space))
        if len(self._heap) > 2 * len(self._valid) + 16:
            self._heap = [entry for entry in self._heap if self._valid.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def drop(self, space: _Space) -> None:
        """Leave a space out."""
        del self._valid[space]

    def first(self) -> _Space | None:
        """Return the space with the smallest rank."""
        while self._heap:
            _, serial, space = self._heap[0]
            if self._valid.get(space) == serial:
                return space
            heapq.heappop(self._heap)
        return None
