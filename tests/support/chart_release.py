"""The chart as a release on a control plane without a node: installed by helm, looked at as it is stored."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chart.rendering import CHART, NAMESPACE, RELEASE
from tests.support.helm import run_helm
from tests.testenv.binaries import Binaries, say_on_stderr
from tests.testenv.control_plane import ControlPlane, running_control_plane
from tests.testenv.foreign_crds import foreign_crds
from tests.testenv.kubectl import Kubectl
from tests.testenv.processes import Processes

CRDS = frozenset(
    {"CustomResourceDefinition byokkeys.byok.dev", "CustomResourceDefinition signingrecipes.byok.dev"},
)
_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("audit", "enforce", "warn")}
_KINDS = (
    "certificate,clusterrole,clusterrolebinding,configmap,customresourcedefinition,deployment,horizontalpodautoscaler,"
    "lease,networkpolicy,pod,poddisruptionbudget,prometheusrule,role,rolebinding,secret,service,serviceaccount,"
    "servicemonitor,statefulset,validatingadmissionpolicy,validatingadmissionpolicybinding"
)
# Of what is stored, what helm or the API server wrote about it and not of it.
_BESIDE = frozenset(
    {"annotations", "creationTimestamp", "finalizers", "generation", "managedFields", "resourceVersion", "uid"}
)
_GIVEN = frozenset({"status", "secrets"})
# Addresses that the API server gives, to each anew.
_ADDRESSES = frozenset({"clusterIP", "clusterIPs"})


@contextmanager
def plane_for_releases(folder: Path, binaries: Binaries) -> Iterator[ControlPlane]:
    """Run a control plane on which nothing of ours is installed, with others' CRDs and restricted namespaces."""
    with Processes() as processes, running_control_plane(folder, binaries, processes) as plane:
        crds = str(foreign_crds(os.environ, say_on_stderr))
        plane.kubectl("apply", "--server-side", "-f", crds)
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", crds)
        for name in (NAMESPACE, "media", "brand-keys"):
            metadata = {"name": name, "labels": _RESTRICTED}
            plane.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
            # A pod whose ServiceAccount has not been made yet is refused.
            plane.kubectl("wait", "--for=create", "--timeout=30s", "serviceaccount/default", "--namespace", name)
        yield plane


def helm(kubectl: Kubectl, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
    """Run helm in the release's namespace and return what it prints; AssertionError says what it complained of."""
    ended = run_helm(kubectl, *arguments, values=values)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def install(kubectl: Kubectl, values: Mapping[str, Any]) -> str:
    """Make the release, and return what helm says to its user."""
    return helm(kubectl, "install", RELEASE, str(CHART), values=values)


def upgrade(kubectl: Kubectl, values: Mapping[str, Any]) -> None:
    """Upgrade the release, to these values and no others."""
    helm(kubectl, "upgrade", RELEASE, str(CHART), "--reset-values", values=values)


def uninstall(kubectl: Kubectl) -> None:
    """Take the release away if it is there."""
    if json.loads(helm(kubectl, "list", "-o", "json")):
        helm(kubectl, "uninstall", RELEASE)


def stored(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    """Every object of the release as it is stored, by kind and name; pods and what helm keeps for itself left out."""
    found = kubectl.get(_KINDS, "-A", "-l", f"app.kubernetes.io/instance={RELEASE},!pod-template-hash")
    return {f"{item['kind']} {item['metadata']['name']}": item for item in found["items"]}


def content(kubectl: Kubectl) -> dict[str, Any]:
    """The same without what was written about the objects, to compare two installations."""
    return {name: _content(item) for name, item in stored(kubectl).items()}


def versions(kubectl: Kubectl) -> dict[str, str]:
    """The version of each object, which any write changes; of workloads, whose status controllers write, the spec's."""
    return {
        name: str(item["metadata"].get("generation") or item["metadata"]["resourceVersion"])
        for name, item in stored(kubectl).items()
    }


def _content(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in item["metadata"].items() if key not in _BESIDE}
    rest = {key: value for key, value in item.items() if key not in _GIVEN}
    if item["kind"] == "Service":
        rest["spec"] = {key: value for key, value in item["spec"].items() if key not in _ADDRESSES}
    return {**rest, "metadata": metadata}
