"""How much is worked on at once: the native library holds much of an asset in memory, some formats whole."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from byok_client.switch import Switch

ASSETS_AT_ONCE = 1024**3
"""Bytes of all assets that one client works on at the same time."""


class Memory:
    """Lets assets in while there is room for them; one that is larger than all the room waits until it is alone."""

    def __init__(self, limit: int = ASSETS_AT_ONCE) -> None:
        self._limit = limit
        self._free = limit
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, size: int, switch: Switch) -> Iterator[None]:
        """Wait for room for `size` bytes, and hold it while inside; CalledOff if the caller gives up meanwhile."""
        needed = min(size, self._limit)
        with switch.ended_by(self._look_again), self._changed:
            self._changed.wait_for(lambda: switch.is_off or self._free >= needed)
            switch.check()
            self._free -= needed
        try:
            yield
        finally:
            with self._changed:
                self._free += needed
                self._changed.notify_all()

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()
