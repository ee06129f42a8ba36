"""Nothing that the test environment starts outlives it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testenv.modules import TestenvError
from tests.testenv.processes import Processes

CHECKOUT = Path(__file__).parents[2]
DEADLINE = 30.0
SLEEP = ["sleep", "600"]
RUN = """
import sys, time
from pathlib import Path
from tests.testenv.processes import Processes
with Processes() as processes:
    folder = Path(sys.argv[1])
    pids = [processes.start(str(n), ["sleep", "600"], folder / "log").pid for n in range(2)]
    (folder / "fresh").write_text(" ".join(map(str, pids)))
    (folder / "fresh").rename(folder / "pids")
    time.sleep(600)
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_children_of_a_run_that_is_killed_are_killed_too(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL, cwd=CHECKOUT) as run:
        until((tmp_path / "pids").exists)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(map(runs, pids))
        run.send_signal(number)
    until(lambda: not any(map(runs, pids)))


def test_an_exception_ends_every_child(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), Processes() as processes:
        child = processes.start("sleep", SLEEP, tmp_path / "log")
        raise ZeroDivisionError
    assert not child.is_running()


def test_a_frozen_child_is_ended(tmp_path: Path) -> None:
    with Processes() as processes:
        child = processes.start("sleep", SLEEP, tmp_path / "log")
        child.signal(signal.SIGSTOP)
    assert not child.is_running()


def test_a_child_that_ends_early_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes() as processes:
        child = processes.start("talker", ["sh", "-c", "echo no such flag; exit 3"], tmp_path / "log")
        with pytest.raises(TestenvError, match=r"talker ended with status 3.*no such flag"):
            child.wait_until(lambda: False, DEADLINE)


def test_a_child_that_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    with Processes() as processes:
        child = processes.start("slow", SLEEP, tmp_path / "log")
        with pytest.raises(TestenvError, match="slow was not ready within 0 s"):
            child.wait_until(lambda: False, 0)


def test_the_users_own_aws_account_and_cluster_do_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "KUBECONFIG", "BYOK_SIGNER_ADDRESS"):
        monkeypatch.setenv(name, "mine")
    with Processes() as processes:
        child = processes.start("env", ["env"], tmp_path / "log", {"AWS_REGION": "eu-central-1"})
        until(lambda: not child.is_running())
    assert "mine" not in (tmp_path / "log").read_text()
    assert "AWS_REGION=eu-central-1" in (tmp_path / "log").read_text()
