"""Work in a thread of its own, which its caller's Ctrl-C ends."""

import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from typing import Generic, TypeVar

from byok_client.switch import Switch

_T = TypeVar("_T")


def in_worker(work: Callable[[], _T], switch: Switch) -> _T:
    """Answer what `work` does; what ends the wait, Ctrl-C say, calls `work` off and lets it end first.

    Python tells the main thread only of signals: the native library would swallow them, so it works elsewhere. And
    there they may come between any two steps, so the caller touches no lock that the worker needs: Future, Condition
    and Thread.start, all written in Python, can be left holding theirs.
    """
    worker = _Worker(work, switch)
    try:
        start_new_thread(worker.start, ())
        return worker.result()
    except BaseException:
        switch.call_off()
        worker.wait_if_begun()
        raise


class _Worker(Generic[_T]):
    def __init__(self, work: Callable[[], _T], switch: Switch) -> None:
        self._work = work
        self._switch = switch
        self._begun = False
        self._outcomes: list[_T | BaseException] = []
        self._has_ended = allocate_lock()
        self._has_ended.acquire()

    def start(self) -> None:
        """Run in a thread that has a name, and that the interpreter waits for; called where no signal comes."""
        try:
            threading.Thread(target=self._run, name="byok-sign").start()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._end(error)

    def result(self) -> _T:
        while not self._outcomes:
            self._has_ended.acquire()
        outcome = self._outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def wait_if_begun(self) -> None:
        """Wait for the end; what has not begun when the switch is off does nothing."""
        while self._begun and not self._outcomes:
            self._has_ended.acquire()

    def _run(self) -> None:
        self._begun = True
        try:
            self._switch.check()
            self._end(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._end(error)

    def _end(self, outcome: _T | BaseException) -> None:
        self._outcomes.append(outcome)
        self._has_ended.release()
