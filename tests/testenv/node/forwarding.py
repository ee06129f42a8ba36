"""A port of the machine's own loopback address that leads into a node's network."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.testenv.node.namespaces import Namespaces
from tests.testenv.processes import Processes

_RELAY = Path(__file__).with_name("relay.py")
_STOP_LIMIT = 10.0


class Forwarded:
    """A child process that carries connections from 127.0.0.1:`port` to an address within."""

    def __init__(self, namespaces: Namespaces, host: str, port: int, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening, log.open("ab") as output:
            self.port: int = listening.getsockname()[1]
            relay = [sys.executable, "-I", "-S", str(_RELAY), str(listening.fileno()), host, str(port)]
            self._process = subprocess.Popen(
                namespaces.networked(relay),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(listening.fileno(),),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def forward(namespaces: Namespaces, host: str, port: int, log: Path, *, processes: Processes) -> Forwarded:
    """Start one; `processes` has it ended."""
    forwarded = Forwarded(namespaces, host, port, log)
    processes.adopt(forwarded)
    return forwarded
