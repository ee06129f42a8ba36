"""Process 1 of a container heeds SIGTERM, which the kernel would drop; each test is a real process 1."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
START = REPOSITORY / "hack/image/start.py"
DEADLINE = 20.0
MODULES = {
    "deaf": "import time\nprint('up', flush=True)\ntime.sleep(600)\n",
    "orderly": (
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nprint('up', flush=True)\n"
        "signal.pause()\n"
    ),
    "stubborn": (
        "import time\nprint('up', flush=True)\ntry:\n    time.sleep(600)\nexcept BaseException:\n    time.sleep(600)\n"
    ),
    "telling": "import sys\nprint(__name__, sys.argv[1:], flush=True)\n",
}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@contextmanager
def first_process(modules: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python as process 1 of a process namespace; its parent, unshare, ends as it does."""
    unshare = shutil.which("unshare")
    assert unshare is not None, "util-linux's unshare is needed"
    # Without privileges a user namespace of one's own gives the right to make the other.
    namespaces = ["--pid", "--fork", "--kill-child", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    environ = {**os.environ, "PYTHONPATH": str(modules)}
    process = subprocess.Popen(
        [unshare, *namespaces, sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ended_by(number: int, process: subprocess.Popen[str]) -> int:
    """Send a signal to process 1 and wait for the status of its end."""
    send(number, process)
    return process.wait(DEADLINE)


@pytest.fixture(autouse=True)
def _heeds_hangups() -> Iterator[None]:
    """Undo for the processes begun here what nohup does to a session of tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number: int, process: subprocess.Popen[str]) -> None:
    """Send a signal to process 1, once it says that it is up."""
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["deaf", "stubborn"])
def test_module_that_handles_no_signal_is_ended(modules: Path, module: str, number: signal.Signals) -> None:
    with first_process(modules, str(START), module) as process:
        assert ended_by(number, process) == 128 + number


def test_modules_own_handler_wins(modules: Path) -> None:
    with first_process(modules, str(START), "orderly") as process:
        assert ended_by(signal.SIGTERM, process) == 7


def test_without_it_the_kernel_drops_the_signal(modules: Path) -> None:
    with first_process(modules, "-m", "deaf") as process:
        send(signal.SIGTERM, process)

        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)


def test_module_runs_as_main_with_the_other_arguments(modules: Path) -> None:
    with first_process(modules, str(START), "telling", "--help", "x") as process:
        assert process.stdout is not None
        assert process.stdout.read() == "__main__ ['--help', 'x']\n"
        assert process.wait(DEADLINE) == 0


def test_no_module_is_answered_with_what_is_expected() -> None:
    done = subprocess.run([sys.executable, START], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == "start.py: expected the name of a module, such as byok_signer\n"
