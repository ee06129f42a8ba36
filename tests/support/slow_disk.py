"""`byok-signer` as a process on a disk that takes its time to sync, and tells how much would outlive a loss of power.

The process is forked, since most of a start is its imports, and this module imports little, since each fork does.
"""

import multiprocessing
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from byok_signer.__main__ import main

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["byok_signer.__main__"])
_SLOWEST = 0.01
"""Seconds: network volumes sync in 1 to 10 ms, and more when they are busy."""


@dataclass(frozen=True)
class Start:
    """How a signer is started."""

    flags: dict[str, str]
    credentials: dict[str, str]
    log: Path
    synced: Path
    """Where the disk tells the size that the audit file had when it was last synced."""
    seed: int


def run(start: Start) -> None:
    """Be the signer."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "BYOK_"))]:
        del os.environ[name]
    os.environ.update(start.credentials)
    with start.log.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    _slow_down(start)
    sys.argv = ["byok-signer", *(f"--{name}={value}" for name, value in start.flags.items())]
    main()


def _slow_down(start: Start) -> None:
    """Replace the one call that makes an audit record durable (fdatasync(2))."""
    chance = random.Random(start.seed)  # noqa: S311 - no secret
    told = os.open(start.synced, os.O_WRONLY | os.O_CREAT)

    def fdatasync(fd: int) -> None:
        # What is written meanwhile is not synced with it.
        size = os.fstat(fd).st_size
        time.sleep(chance.uniform(0, _SLOWEST))
        os.pwrite(told, b"%020d" % size, 0)

    os.fdatasync = fdatasync  # type: ignore[assignment]  # takes no objects that have a descriptor
