"""`python -m tests.testenv.node`: a real node on this machine until Ctrl-C, which ends and removes all of it."""

from pathlib import Path
from typing import Annotated

import typer

from tests.testenv.foreground import empty_folder, end_by_signals, stopwatch, tell_exports, wait_on
from tests.testenv.kubectl import KubectlError
from tests.testenv.modules import TestenvError
from tests.testenv.node.running import Node, running_node


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
    chosen = empty_folder(folder, "byok-node-")
    say = stopwatch()
    end_by_signals()
    try:
        with running_node(chosen, say) as node:
            for archive in image or ():
                node.load_image(archive)
                say(f"loaded {archive}")
            say("everything is running")
            _tell(node)
            wait_on(node.daemons.values())
    except KeyboardInterrupt:
        typer.echo(f"stopped; nothing is left but logs and configuration in {chosen}")
    except (TestenvError, KubectlError, OSError) as error:
        typer.echo(f"tests.testenv.node: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(node: Node) -> None:
    tell_exports(node.kubectl.environ, [node.kubectl.binary.parent])
    typer.echo("\nThen try:\n")
    typer.echo("kubectl get nodes,pods --all-namespaces")
    typer.echo(f"\nLogs are in {node.layout.logs}; Ctrl-C ends everything.")


if __name__ == "__main__":
    typer.run(main)
