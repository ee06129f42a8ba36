"""Removes what a node leaves behind that no process holds: control groups, folders, and what commands undo.

Run as a program of its own (`python -I -S sweeper.py`). Its standard input is a pipe from the run: one line of JSON
with `cgroups`, `folders`, `commands` and `limit`, and its end when the run ends, however that happens. What holds them,
the processes in the node's namespaces, is killed by others; so it tries again for `limit` seconds.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_INTERVAL = 0.05


def main() -> int:
    """Wait for the end of the input, then remove; the exit status is 1 if something could not be removed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    order = json.loads(sys.stdin.readline() or "{}")
    sys.stdin.read()
    deadline = time.monotonic() + order.get("limit", 0)
    for command in order.get("commands", ()):
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    left = [Path(path) for path in order.get("cgroups", ())]
    while left := [path for path in left if not _without_cgroup(path)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_INTERVAL)
    # Only then has everything ended that could write there.
    folders = [Path(path) for path in order.get("folders", ())]
    while folders := [path for path in folders if not _without_folder(path)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_INTERVAL)
    for path in (*left, *folders):
        sys.stderr.write(f"testenv: {path} could not be removed\n")
    return 1 if left or folders else 0


def _without_cgroup(path: Path) -> bool:
    for folder, _, _ in os.walk(path, topdown=False):
        # Processes in it, or groups that were made meanwhile.
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not path.exists()


def _without_folder(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


if __name__ == "__main__":
    raise SystemExit(main())
