"""What no process holds is removed when a run ends, however it ends; connections are carried whole."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testenv.modules import TestenvError
from tests.testenv.node import relay
from tests.testenv.node.cleaning import swept
from tests.testenv.ports import refusing_port

CHECKOUT = Path(__file__).parents[3]
DEADLINE = 30.0
RUN = """
import sys, time
from pathlib import Path
from tests.testenv.node.cleaning import swept
folder = Path(sys.argv[1])
with swept(cgroups=[folder / "group"], folders=[folder / "state"], commands=[["touch", str(folder / "told")]]):
    (folder / "group" / "pods").mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "state" / "file").touch()
    (folder / "begun").touch()
    time.sleep(600)
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_what_a_killed_run_made_is_removed(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=CHECKOUT) as run:
        until((tmp_path / "begun").exists)
        assert (tmp_path / "state" / "file").exists()
        run.send_signal(number)
    until(lambda: sorted(path.name for path in tmp_path.iterdir()) == ["begun", "told"])


def test_an_exception_has_everything_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with contextlib.suppress(ZeroDivisionError), swept(folders=[state]):
        state.mkdir()
        raise ZeroDivisionError
    assert not state.exists()


def test_a_group_is_removed_once_its_processes_have_ended(tmp_path: Path) -> None:
    # A file is to a folder what a process is to a control group: it cannot be removed meanwhile.
    process = tmp_path / "group" / "process"
    with swept(cgroups=[tmp_path / "group"]):
        process.parent.mkdir()
        process.touch()
        threading.Timer(0.5, process.unlink).start()
    assert not process.parent.exists()


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    def run() -> None:
        with swept(cgroups=[tmp_path / "group"], limit=0.2):
            (tmp_path / "group").mkdir()
            (tmp_path / "group" / "process").touch()

    with pytest.raises(TestenvError, match="not everything of the run could be removed"):
        run()


def test_a_relay_carries_both_ways_until_the_end() -> None:
    content = b"x" * 300_000
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("127.0.0.1", 0)) as here:
        command = [sys.executable, "-I", "-S", relay.__file__, str(here.fileno()), "127.0.0.1"]
        answering = threading.Thread(target=echo, args=(there,))
        answering.start()
        with subprocess.Popen([*command, str(there.getsockname()[1])], pass_fds=(here.fileno(),)) as process:
            with socket.create_connection(here.getsockname(), DEADLINE) as connection:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: connection.recv(65536), b""))
            process.kill()
        answering.join()
    assert received == content


def echo(listening: socket.socket) -> None:
    """Answer with everything that came, once the other side has ended."""
    connection, _ = listening.accept()
    with connection:
        connection.sendall(b"".join(iter(lambda: connection.recv(65536), b"")))


def test_a_connection_that_nobody_takes_is_ended() -> None:
    with refusing_port() as nobody, socket.create_server(("127.0.0.1", 0)) as here:
        command = [sys.executable, "-I", "-S", relay.__file__, str(here.fileno()), "127.0.0.1", str(nobody)]
        with subprocess.Popen(command, pass_fds=(here.fileno(),)) as process:
            with socket.create_connection(here.getsockname(), DEADLINE) as connection:
                assert connection.recv(1) == b""
            process.kill()
