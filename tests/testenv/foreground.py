"""What the commands have in common that run until Ctrl-C: an empty folder, what they say, how they wait and end."""

import shlex
import signal
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from tests.testenv.go_toolchain import Say
from tests.testenv.modules import TestenvError
from tests.testenv.processes import Daemon

_LOOK = 1.0


def empty_folder(folder: Path | None, prefix: str) -> Path:
    """Give the folder that was asked for, which must be new or empty, or a temporary one."""
    chosen = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix=prefix))
    if chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        raise typer.BadParameter(f"{chosen} is not an empty folder; name another, or leave it out")
    return chosen


def stopwatch() -> Say:
    """Say things with the seconds since this call."""
    started = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f}s {text}")

    return say


def end_by_signals() -> None:
    """Have SIGTERM and SIGINT raise KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, _interrupt)
    # A shell has what it starts in the background ignore Ctrl-C; whoever sends it by kill means it all the same.
    signal.signal(signal.SIGINT, _interrupt)


def tell_exports(exports: Mapping[str, str], programs: Collection[Path]) -> None:
    """Print what to paste into a shell; `programs` are folders for its PATH."""
    typer.echo("\nPaste this into another shell:\n")
    for name, value in exports.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    folders = ":".join(shlex.quote(str(folder)) for folder in programs)
    typer.echo(f"export PATH={folders}:$PATH")


def wait_on(daemons: Collection[Daemon]) -> NoReturn:
    """Wait until a signal comes; TestenvError with the end of its log if one of them ends by itself."""
    while True:
        time.sleep(_LOOK)
        for daemon in daemons:
            if not daemon.is_running():
                raise TestenvError(f"{daemon.name} has ended: {daemon.tail()}")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
