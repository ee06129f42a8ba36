"""`make cluster`: the whole system on a real control plane, to play with; Ctrl-C ends every process."""

import shlex
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from byok_sandbox import shipped
from byok_sandbox.filling import FIRST
from byok_sandbox.processes import ChildError
from tests.testenv.kubectl import KubectlError
from tests.testenv.modules import TestenvError
from tests.testenv.system import Cluster, running_cluster

_LOOK = 1.0


def main(
    *,
    folder: Annotated[
        Path | None, typer.Option(help="New or empty folder for everything; a temporary one if not given.")
    ] = None,
) -> None:
    """Run etcd, kube-apiserver, kube-controller-manager, an emulated KMS, the signer and the operator on this machine.

    Prints what to paste into a shell so that kubectl, byokctl and boto3 find them. Ctrl-C ends every process.
    """
    chosen = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="byok-cluster-"))
    if chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        raise typer.BadParameter(f"{chosen} is not an empty folder; name another, or leave it out")
    started = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f}s {text}")

    signal.signal(signal.SIGTERM, _interrupt)
    # A shell has what it starts in the background ignore Ctrl-C; whoever sends it by kill means it all the same.
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with running_cluster(chosen, say) as cluster:
            say("everything is running")
            _tell(cluster)
            _wait(cluster)
    except KeyboardInterrupt:
        typer.echo("stopped; every process that was started has ended")
    except (TestenvError, ChildError, KubectlError, OSError) as error:
        typer.echo(f"make cluster: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(cluster: Cluster) -> None:
    photo = shipped.examples() / "media" / "landscape.jpg"
    key, recipe = cluster.around.filled.keys[FIRST], cluster.around.filled.recipes[FIRST]["photo-v1"]
    typer.echo("\nPaste this into another shell:\n")
    for name, value in cluster.exports.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    folders = ":".join(shlex.quote(str(folder)) for folder in cluster.programs)
    typer.echo(f"export PATH={folders}:$PATH")
    typer.echo("\nThen try:\n")
    for command in (
        f"kubectl apply -f {cluster.manifests}",
        "kubectl get byokkeys,signingrecipes --all-namespaces",
        f"byokctl sign {photo} --recipe {recipe} --metadata digital_source_type=digitalCreation --output signed.jpg",
        f"byokctl verify signed.jpg --trust-anchors {cluster.around.trust_anchors}",
        f"kubectl describe byokkey {key.name} --namespace {key.namespace}",
        f"python -m tests.testenv.grant remove {cluster.around.key.arn}   # then sign again, and look at the key",
        f"python -m tests.testenv.grant give {cluster.around.key.arn}",
        f"BYOK_SIGNER_TOKEN_FILE={cluster.owner_token} byokctl key probe {key}",
    ):
        typer.echo(command)
    typer.echo(f"\nLogs are in {cluster.folder / 'logs'} and {cluster.plane.folder}; Ctrl-C ends everything.")


def _wait(cluster: Cluster) -> NoReturn:
    watched = (cluster.plane.api_server, cluster.signer.daemon)
    while True:
        time.sleep(_LOOK)
        for daemon in watched:
            if not daemon.is_running():
                raise TestenvError(f"{daemon.name} has ended: {daemon.tail()}")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
