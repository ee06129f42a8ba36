"""How a call is called off: one switch for all of its steps, whatever thread they run in."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CalledOff(Exception):  # noqa: N818 - the caller's wish, not an error
    """The caller gave up: Ctrl-C, or a cancelled task. It never leaves the client."""


class Switch:
    """Ends what is under way; safe to use from several threads."""

    def __init__(self) -> None:
        self._off = threading.Event()
        self._lock = threading.Lock()
        self._enders: list[Callable[[], object]] = []

    @property
    def is_off(self) -> bool:
        """Whether the caller gave up."""
        return self._off.is_set()

    def check(self) -> None:
        """Raise CalledOff if the caller gave up."""
        if self._off.is_set():
            raise CalledOff

    def sleep(self, seconds: float) -> None:
        """Wait; CalledOff if the caller gives up meanwhile."""
        if self._off.wait(seconds):
            raise CalledOff

    def call_off(self) -> None:
        """End what is under way."""
        with self._lock:
            self._off.set()
            enders = [*self._enders]
        for end in enders:
            end()

    @contextmanager
    def ended_by(self, end: Callable[[], object]) -> Iterator[None]:
        """While inside, calling off also calls `end`; if that has happened already, `end` is called and CalledOff."""
        with self._lock:
            is_off = self.is_off
            if not is_off:
                self._enders.append(end)
        if is_off:
            end()
            raise CalledOff
        try:
            yield
        finally:
            with self._lock:
                self._enders.remove(end)
