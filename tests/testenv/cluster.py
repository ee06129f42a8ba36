"""`make cluster`: the whole system on a real control plane, to play with; Ctrl-C ends every process."""

from pathlib import Path
from typing import Annotated

import typer

from byok_sandbox import shipped
from byok_sandbox.filling import FIRST
from byok_sandbox.processes import ChildError
from tests.testenv.foreground import empty_folder, end_by_signals, stopwatch, tell_exports, wait_on
from tests.testenv.kubectl import KubectlError
from tests.testenv.modules import TestenvError
from tests.testenv.system import Cluster, running_cluster


def main(
    *,
    folder: Annotated[
        Path | None, typer.Option(help="New or empty folder for everything; a temporary one if not given.")
    ] = None,
) -> None:
    """Run etcd, kube-apiserver, kube-controller-manager, an emulated KMS, the signer and the operator on this machine.

    Prints what to paste into a shell so that kubectl, byokctl and boto3 find them. Ctrl-C ends every process.
    """
    chosen = empty_folder(folder, "byok-cluster-")
    say = stopwatch()
    end_by_signals()
    try:
        with running_cluster(chosen, say) as cluster:
            say("everything is running")
            _tell(cluster)
            wait_on((cluster.plane.api_server, cluster.signer.daemon))
    except KeyboardInterrupt:
        typer.echo("stopped; every process that was started has ended")
    except (TestenvError, ChildError, KubectlError, OSError) as error:
        typer.echo(f"make cluster: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(cluster: Cluster) -> None:
    photo = shipped.examples() / "media" / "landscape.jpg"
    key, recipe = cluster.around.filled.keys[FIRST], cluster.around.filled.recipes[FIRST]["photo-v1"]
    tell_exports(cluster.exports, cluster.programs)
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


if __name__ == "__main__":
    typer.run(main)
