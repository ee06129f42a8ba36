"""Ctrl-C between any two steps of the caller: it ends, and the work has ended before it or never begins."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from byok_client.switch import CalledOff, Switch
from byok_client.worker import in_worker

PATIENCE = 10


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Raise KeyboardInterrupt before this step of the interpreter in this thread, whatever Python code it is in."""
    steps = iter(range(step, -1, -1))

    def trace(frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function's own type
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps, None) == 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    # It calls back into Python for what earlier steps left in cycles, where nobody hears of an exception.
    gc.disable()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        gc.enable()


def test_the_answer_is_that_of_the_work() -> None:
    assert in_worker(lambda: threading.current_thread().name, Switch()) == "byok-sign"


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_worker(lambda: 1 // 0, Switch())


def test_a_thread_that_cannot_be_started_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: (_ for _ in ()).throw(RuntimeError("no threads")))
    with pytest.raises(RuntimeError, match="no threads"):
        in_worker(lambda: 1, Switch())


def test_work_that_was_called_off_before_it_began_does_nothing() -> None:
    switch = Switch()
    switch.call_off()
    with pytest.raises(CalledOff):
        in_worker(lambda: pytest.fail("began"), switch)


def test_an_interrupt_between_any_two_steps_ends_the_work_first() -> None:
    for step in range(10_000):
        switch, begun, ended = Switch(), threading.Event(), threading.Event()

        def work(switch: Switch = switch, begun: threading.Event = begun, ended: threading.Event = ended) -> None:
            begun.set()
            try:
                switch.sleep(0.01)
            finally:
                ended.set()

        try:
            with interrupted_at(step):
                in_worker(work, switch)
        except KeyboardInterrupt:
            assert ended.is_set() == begun.is_set()
        else:
            break
    assert step
