"""Has what a run leaves in the machine removed when it ends, even if it is killed."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.testenv.modules import TestenvError

_LIMIT = 60.0
_SWEEPER = Path(__file__).with_name("sweeper.py")


@contextmanager
def swept(
    *,
    cgroups: Sequence[Path] = (),
    folders: Sequence[Path] = (),
    commands: Sequence[Sequence[str]] = (),
    limit: float = _LIMIT,
) -> Iterator[None]:
    """Remove on leaving, or at the end of this process, and run commands.

    TestenvError if on leaving something cannot be removed within `limit` seconds.
    """
    order = {
        "cgroups": [str(path) for path in cgroups],
        "folders": [str(path) for path in folders],
        "commands": [list(command) for command in commands],
        "limit": limit,
    }
    # A session of its own: Ctrl-C is for the run.
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", _SWEEPER], stdin=subprocess.PIPE, start_new_session=True, text=True
    )
    with sweeper:
        if sweeper.stdin is not None:
            sweeper.stdin.write(f"{json.dumps(order)}\n")
            sweeper.stdin.flush()
        yield
        if sweeper.stdin is not None:
            sweeper.stdin.close()
        sweeper.wait()
    if sweeper.returncode != 0:
        raise TestenvError("not everything of the run could be removed; what is left is named above")
