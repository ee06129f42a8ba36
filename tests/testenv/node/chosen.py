"""The cluster of the end-to-end tier: the one that a kubeconfig names, kind where Docker is, else a node of our own."""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.testenv.binaries import control_plane_binaries, node_binaries
from tests.testenv.go_toolchain import Say
from tests.testenv.kubectl import Kubectl
from tests.testenv.modules import TestenvError
from tests.testenv.node.cleaning import swept
from tests.testenv.node.packages import NODE, require
from tests.testenv.node.running import running_node

CLUSTER_VARIABLE = "BYOK_E2E_CLUSTER"
"""Names the kind of cluster to use; without it, the first that can be had."""
KUBECONFIG_VARIABLE = "BYOK_E2E_KUBECONFIG"
"""Names a kubeconfig. KUBECONFIG alone is not heeded: a shell may have it for a cluster that must not be tested on."""
LOAD_VARIABLE = "BYOK_E2E_LOAD_IMAGE"
"""A command that puts an image archive, its last argument, onto the nodes of that cluster."""
_ANSWER_LIMIT = 20.0


class Chosen(Protocol):
    """What the tests need to know of a cluster."""

    @property
    def kubectl(self) -> Kubectl:
        """The cluster's administrator; its `environ` is for helm."""

    @property
    def can_stop_api_server(self) -> bool:
        """Whether `stop_api_server` can be called."""

    @property
    def enforces_network_policies(self) -> bool:
        """Whether NetworkPolicies have an effect."""

    def load_image(self, archive: Path) -> None:
        """Put the images of a docker or OCI archive where pods find them."""

    def stop_api_server(self) -> None:
        """End the API server as a crash would; TestenvError where that cannot be done."""

    def start_api_server(self) -> None:
        """Start it again and wait until it is ready."""


@dataclass(frozen=True)
class Foreign:
    """A cluster that somebody else runs; what its network enforces is not known."""

    kubectl: Kubectl
    load: tuple[str, ...]
    can_stop_api_server: bool = False
    enforces_network_policies: bool = False

    def load_image(self, archive: Path) -> None:
        """Run the command for it; TestenvError if there is none, or it fails."""
        if not self.load:
            raise TestenvError(
                f"{archive} cannot be put onto the nodes: set {LOAD_VARIABLE} to a command that takes an archive, such "
                "as 'minikube image load'"
            )
        ended = subprocess.run([*self.load, str(archive)], check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        if ended.returncode != 0:
            raise TestenvError(f"{shlex.join(self.load)} {archive} failed; what it said is above")

    def stop_api_server(self) -> None:
        """Refuse: it is not ours to stop."""
        raise TestenvError("only the API server of a node of our own can be stopped")

    def start_api_server(self) -> None:
        """Refuse, as it cannot have been stopped."""
        raise TestenvError("only the API server of a node of our own can be started")


def kind_of_cluster(environ: Mapping[str, str]) -> str:
    """Choose among `kubeconfig`, `kind` and `node`; TestenvError for another word."""
    chosen = environ.get(CLUSTER_VARIABLE)
    if chosen:
        if chosen not in _OPENED:
            raise TestenvError(f"{CLUSTER_VARIABLE}={chosen[:40]}: expected one of {', '.join(_OPENED)}")
        return chosen
    if environ.get(KUBECONFIG_VARIABLE):
        return "kubeconfig"
    return "kind" if _has_kind(environ) else "node"


def prepare(environ: Mapping[str, str], say: Say) -> None:
    """Find, build or install what the cluster needs, which may take minutes; TestenvError says what is missing."""
    kind = kind_of_cluster(environ)
    control_plane_binaries(environ, say)
    if kind == "node":
        require(NODE, environ, say)
        node_binaries(environ, say)


@contextmanager
def chosen_cluster(folder: Path, say: Say) -> Iterator[Chosen]:
    """Open the cluster; what was made for it is removed on leaving, and when this process is killed."""
    kind = kind_of_cluster(os.environ)
    say(f"the cluster: {kind}")
    folder.mkdir(parents=True, exist_ok=True)
    with _OPENED[kind](folder, say) as cluster:
        yield cluster


@contextmanager
def own_namespace(kubectl: Kubectl, *, pod_security: str = "restricted") -> Iterator[str]:
    """Make a namespace of another name each time, under a level of pod security; it is deleted on leaving."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": pod_security}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def _has_kind(environ: Mapping[str, str]) -> bool:
    path = environ.get("PATH")
    docker = shutil.which("docker", path=path)
    if docker is None or shutil.which("kind", path=path) is None:
        return False
    try:
        ended = subprocess.run([docker, "info"], check=False, capture_output=True, timeout=_ANSWER_LIMIT)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


@contextmanager
def _given(folder: Path, say: Say) -> Iterator[Chosen]:
    named = os.environ.get(KUBECONFIG_VARIABLE)
    if not named or not Path(named).is_file():
        raise TestenvError(f"{KUBECONFIG_VARIABLE}={named or ''}: expected the path of a kubeconfig")
    # A copy, as kubectl keeps its cache beside it, with what it names: paths in it are relative to where it was.
    binary, kubeconfig = control_plane_binaries(os.environ, say).kubectl, folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(Kubectl(binary, Path(named))("config", "view", "--raw", "--flatten"))
    try:
        yield Foreign(Kubectl(binary, kubeconfig), tuple(shlex.split(os.environ.get(LOAD_VARIABLE, ""))))
    finally:
        kubeconfig.unlink()


@contextmanager
def _kind(folder: Path, say: Say) -> Iterator[Chosen]:
    kind = shutil.which("kind") or "kind"
    name, kubeconfig = f"byok-e2e-{secrets.token_hex(3)}", folder / "kubeconfig"
    own = (f"--name={name}", f"--kubeconfig={kubeconfig}")
    with swept(commands=[[kind, "delete", "cluster", *own]]):
        ended = subprocess.run(
            [kind, "create", "cluster", *own, "--wait=120s"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        if ended.returncode != 0:
            raise TestenvError(f"kind made no cluster (what it said is above); {CLUSTER_VARIABLE}=node does without")
        kubectl = Kubectl(control_plane_binaries(os.environ, say).kubectl, kubeconfig)
        yield Foreign(kubectl, (kind, "load", "image-archive", f"--name={name}"))


@contextmanager
def _node(folder: Path, say: Say) -> Iterator[Chosen]:
    with running_node(folder, say) as node:
        yield node


_OPENED = {"kubeconfig": _given, "kind": _kind, "node": _node}
