"""Child processes of the test environment: started with their output in files, and ended whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.testenv.modules import TestenvError

_STOP_LIMIT = 15.0
_REAPER = Path(__file__).with_name("reaper.py")


class Stoppable(Protocol):
    """A child process, of whatever class."""

    @property
    def pid(self) -> int:
        """Process id."""

    def stop(self) -> None:
        """End it, if it has not ended."""


class Daemon:
    """A running program, or one that has ended."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the run only, which ends the others in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; SIGSTOP freezes the process, SIGCONT lets it go on."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process with SIGTERM, or SIGKILL if it does not heed that."""
        if self.is_running():
            # One that is frozen would not see SIGTERM.
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(_STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def wait_until(self, condition: Callable[[], bool], limit: float, *, interval: float = 0.02) -> None:
        """Wait for a condition; TestenvError with the end of the log if the process ends or takes too long."""
        deadline = time.monotonic() + limit
        while not condition():
            if not self.is_running():
                raise TestenvError(f"{self.name} ended with status {self._process.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise TestenvError(f"{self.name} was not ready within {limit:.0f} s: {self.tail()}")
            time.sleep(interval)

    def tail(self) -> str:
        """The end of its log."""
        return f"{self.log}: {self.log.read_text(errors='replace')[-1500:] or 'it logged nothing'}"


class Processes:
    """All children of one run: ended in the reverse order on leaving, and killed if the run itself is killed."""

    def __init__(self) -> None:
        self._children: list[Stoppable] = []
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", _REAPER], stdin=subprocess.PIPE, start_new_session=True, env={}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for child in reversed(self._children):
                child.stop()
        finally:
            # At the end of its input the reaper kills what still runs, and ends.
            if self._reaper.stdin is not None:
                self._reaper.stdin.close()
            self._reaper.wait()

    def start(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> Daemon:
        """Start a program; it sees of the environment only what is given and what any program needs."""
        child = Daemon(name, command, log, {**_inherited(), **(environ or {})})
        self._watch(child.pid)
        self._children.append(child)
        return child

    def adopt(self, child: Stoppable) -> None:
        """Have a process that was started elsewhere ended like the others."""
        self._watch(child.pid)
        self._children.append(child)

    def forget(self, child: Daemon) -> None:
        """Leave out a process that has ended."""
        if child in self._children:
            self._children.remove(child)

    def _watch(self, pid: int) -> None:
        if self._reaper.stdin is not None:
            self._reaper.stdin.write(f"{pid}\n".encode())
            self._reaper.stdin.flush()


def _inherited() -> dict[str, str]:
    # Neither the user's own AWS account, nor the user's signer or cluster may leak in.
    ours = ("AWS_", "BYOK_", "KUBE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
