"""The objects of examples/kubernetes, and what their pods run."""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]


def _pod_of(document: dict[str, Any]) -> dict[str, Any] | None:
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] | None = spec.get("template", {}).get("spec")
    return found


PODS = {document["kind"]: pod for document in OBJECTS if (pod := _pod_of(document)) is not None}
"""Pod specs by the kind of workload that makes them."""


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    """Give the pod's only container."""
    (only,) = pod["containers"]
    container: dict[str, Any] = only
    return container


def variables(container: dict[str, Any]) -> dict[str, Any]:
    """Give its environment: values, and where those that are set in the cluster come from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
