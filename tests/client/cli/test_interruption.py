"""What Ctrl-C does, before work begins and after."""

import signal
import subprocess
import sys

import pytest

_BEGINNING = "import signal, sys; from byok_client.cli.interruption import interrupt_on_ctrl_c, leave_to_ctrl_c;"


def ended(program: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", _BEGINNING + program], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("program", "status"),
    [
        pytest.param("leave_to_ctrl_c(); signal.raise_signal(2)", -signal.SIGINT, id="ended-while-modules-load"),
        pytest.param(
            "leave_to_ctrl_c(); interrupt_on_ctrl_c()\n"
            "try: signal.raise_signal(2)\n"
            "except KeyboardInterrupt: sys.exit(3)",
            3,
            id="interrupted-when-work-has-begun",
        ),
        pytest.param(
            "signal.signal(2, signal.SIG_IGN); leave_to_ctrl_c(); interrupt_on_ctrl_c(); signal.raise_signal(2)",
            0,
            id="ignored-where-the-shell-ignores-it",
        ),
    ],
)
def test_ctrl_c(program: str, status: int) -> None:
    assert ended(program) == (status, "")
