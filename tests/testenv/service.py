"""A program of ours that runs as a service: it may be killed, frozen, stopped and started again, on the same ports."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testenv.ports import answers_ok
from tests.testenv.processes import Daemon, Processes

_READY_LIMIT = 60.0


@dataclass
class Service:
    """A service, wanted or not; whoever keeps the cluster restarts it when it is wanted and has ended."""

    name: str
    command: Sequence[str]
    log: Path
    environ: Mapping[str, str]
    http_port: int
    processes: Processes
    address: str = ""
    """HOST:PORT of a signer's gRPC API."""
    restarts: int = field(default=0, init=False)
    """How often it was started again because it had ended by itself, or was killed."""
    daemon: Daemon = field(init=False)
    _wanted: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self) -> None:
        """Start it, if it does not run."""
        with self._lock:
            if not self._wanted:
                self._wanted = True
                self.daemon = self.processes.start(self.name, self.command, self.log, self.environ)

    def stop(self) -> None:
        """End it in an orderly way, and leave it so."""
        with self._lock:
            self._wanted = False
            self.daemon.stop()
            self.processes.forget(self.daemon)

    def restart_if_ended(self) -> bool:
        """Start it again if it should run and does not; True if that was so."""
        with self._lock:
            if not self._wanted or self.daemon.is_running():
                return False
            self.processes.forget(self.daemon)
            self.daemon = self.processes.start(self.name, self.command, self.log, self.environ)
            self.restarts += 1
            return True

    def is_ready(self) -> bool:
        """Whether /readyz is answered with 200."""
        return answers_ok(self.http_port, "/readyz")

    def wait_until_ready(self) -> None:
        """Wait for /readyz; TestenvError with the end of its log if it ends or takes over a minute."""
        self.daemon.wait_until(self.is_ready, _READY_LIMIT)
