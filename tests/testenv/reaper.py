"""Ends what a killed test run leaves behind: holds a handle on each process, and kills them when its input ends.

Run as a program of its own (`python -I -S reaper.py`). Its standard input is a pipe from the run: a process id a line,
and its end when the run ends, however that happens. PR_SET_PDEATHSIG would do the same only for processes that were
started by the main thread.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read process ids until the input ends, then kill those that still run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    handles = []
    for line in sys.stdin:
        with contextlib.suppress(ProcessLookupError):
            # A handle names this process, and never another one that is given its number later (pidfd_open(2)).
            handles.append(os.pidfd_open(int(line)))
    for handle in reversed(handles):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)


if __name__ == "__main__":
    main()
