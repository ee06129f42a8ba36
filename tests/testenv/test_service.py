"""A service is restarted when it ended although it is wanted, and only then."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testenv.modules import TestenvError
from tests.testenv.ports import free_ports
from tests.testenv.processes import Processes
from tests.testenv.service import Service

DEADLINE = 30.0
# Says where it is, and answers every path with 200.
PROGRAM = """
import http.server, os, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
print("in", os.environ["REGION"], file=sys.stderr)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


@contextmanager
def service(folder: Path, *command: str) -> Iterator[Service]:
    (port,) = free_ports(1)
    chosen = command or (sys.executable, "-c", PROGRAM, str(port))
    with Processes() as processes:
        found = Service("service", chosen, folder / "log", {"REGION": "eu-central-1"}, port, processes)
        found.start()
        yield found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_ready_when_its_door_says_so(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.wait_until_ready()
        assert "in eu-central-1" in running.log.read_text()


def test_one_that_ends_before_it_is_ready_is_named(tmp_path: Path) -> None:
    with (
        service(tmp_path, "sh", "-c", "echo bad flag; exit 2") as running,
        pytest.raises(TestenvError, match="bad flag"),
    ):
        running.wait_until_ready()


def test_one_that_was_killed_is_started_again(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.wait_until_ready()
        first = running.daemon
        assert not running.restart_if_ended()
        first.signal(signal.SIGKILL)
        until(running.restart_if_ended)
        assert running.daemon.pid != first.pid
        assert running.restarts == 1
        running.wait_until_ready()


def test_one_that_was_stopped_stays_so_until_it_is_started(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.wait_until_ready()
        running.stop()
        assert not running.restart_if_ended()
        assert not running.is_ready()
        running.start()
        running.wait_until_ready()
        assert running.restarts == 0
