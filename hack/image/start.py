#!/usr/bin/env python3
"""Runs a module as process 1 of a container: `start.py byok_signer --help`.

The kernel drops a signal that process 1 has no handler for (pid_namespaces(7)): without this, SIGTERM would be lost
while a program loads, and always by one that sets no handler, as byokctl does. Until a program sets its own, such a
signal ends this process at once, as it ends any other.
"""

import os
import runpy
import signal
import sys
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGHUP, signal.SIGTERM)
USAGE = 2


def main() -> None:
    """Run the module that the first argument names, with the other arguments; exit status 2 if there is none."""
    if len(sys.argv) == 1:
        sys.stderr.write("start.py: expected the name of a module, such as byok_signer\n")
        sys.exit(USAGE)
    for number in ENDING:
        # Whoever has a signal ignored, as nohup does, means it.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # Not sys.exit: what loads may catch that. The status is what a shell reports of a process that a signal ended.
    os._exit(128 + number)


if __name__ == "__main__":
    main()
