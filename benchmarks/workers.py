"""Processes of the benchmarks' own: each does what it is told, one thing after the other, and tells what came of it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

_T = TypeVar("_T")
_PATIENCE = 300.0
"""Seconds that a process gets for one task."""
_LAST_PATIENCE = 5.0


class WorkerError(Exception):
    """A task that failed, or took too long."""


class Worker:
    """A process that can be given tasks."""

    def __init__(self) -> None:
        here, there = multiprocessing.Pipe()
        # Not forked: gRPC's threads do not survive that.
        self._process = multiprocessing.get_context("spawn").Process(target=_work, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._pipe = here

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process.pid is None:
            raise AssertionError("the process was started")
        return self._process.pid

    def begin(self, task: Callable[[], object]) -> None:
        """Hand over a task, which must be picklable."""
        self._pipe.send(task)

    def end(self) -> Any:  # noqa: ANN401 - what the task returns
        """Wait for the task that was begun; WorkerError."""
        if not self._pipe.poll(_PATIENCE):
            raise WorkerError(f"a task took longer than {_PATIENCE:g} s")
        succeeded, result = self._pipe.recv()
        if not succeeded:
            raise WorkerError(result)
        return result

    def do(self, task: Callable[[], _T]) -> _T:
        """Have a task done."""
        self.begin(task)
        result: _T = self.end()
        return result

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        self._process.join(_LAST_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


@contextmanager
def worker() -> Iterator[Worker]:
    """Run a process for a while."""
    made = Worker()
    try:
        yield made
    finally:
        made.close()


def _work(pipe: Connection) -> None:
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            task = pipe.recv()
            try:
                pipe.send((True, task()))
            except Exception as error:  # noqa: BLE001 - told to the one who gave the task
                pipe.send((False, f"{type(error).__name__}: {error}"))
