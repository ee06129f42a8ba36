"""`python -m tests.testenv.node`: a real node on this machine until Ctrl-C, which ends and removes all of it."""

import shlex
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from tests.testenv.kubectl import KubectlError
from tests.testenv.modules import TestenvError
from tests.testenv.node.running import Node, running_node

_LOOK = 1.0


def main(
    *,
    folder: Annotated[
        Path | None, typer.Option(help="New or empty folder for everything; a temporary one if not given.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Archive of images to load (docker save); may be repeated.")
    ] = None,
) -> None:
    """Run a control plane with one real node in namespaces of its own; needs root.

    Prints what to paste into a shell so that kubectl and helm find it. Ctrl-C ends and removes it.
    """
    chosen = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="byok-node-"))
    if chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        raise typer.BadParameter(f"{chosen} is not an empty folder; name another, or leave it out")
    started = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f}s {text}")

    signal.signal(signal.SIGTERM, _interrupt)
    # A shell has what it starts in the background ignore Ctrl-C; whoever sends it by kill means it all the same.
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with running_node(chosen, say) as node:
            for archive in image or ():
                node.load_image(archive)
                say(f"loaded {archive}")
            say("everything is running")
            _tell(node)
            _wait(node)
    except KeyboardInterrupt:
        typer.echo(f"stopped; nothing is left but logs and configuration in {chosen}")
    except (TestenvError, KubectlError, OSError) as error:
        typer.echo(f"tests.testenv.node: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(node: Node) -> None:
    typer.echo("\nPaste this into another shell:\n")
    for name, value in node.kubectl.environ.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"export PATH={shlex.quote(str(node.kubectl.binary.parent))}:$PATH")
    typer.echo("\nThen try:\n")
    typer.echo("kubectl get nodes,pods --all-namespaces")
    typer.echo(f"\nLogs are in {node.layout.logs}; Ctrl-C ends everything.")


def _wait(node: Node) -> NoReturn:
    while True:
        time.sleep(_LOOK)
        for daemon in node.daemons.values():
            if not daemon.is_running():
                raise TestenvError(f"{daemon.name} has ended: {daemon.tail()}")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
