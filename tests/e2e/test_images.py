"""The images of this checkout start on a node under restricted pod security."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.testenv.kubectl import Kubectl
from tests.testenv.node.images import TARGETS, Image

DEADLINE = 60.0
# The sandbox's image holds several programs, and is told which.
HELP = {"sandbox": ["byok_client.cli", "sandbox", "--help"]}
ENDS = ("Succeeded", "Failed")


def pod(name: str, image: str, arguments: list[str]) -> dict[str, Any]:
    """A pod that asks a program for its help, with nothing writable but /tmp; its user is the image's."""
    limited = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {"name": "help", "image": image, "imagePullPolicy": "Never", "args": arguments}
    writable = {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}  # noqa: S108 - the container's own
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{**container, **writable, "securityContext": limited}],
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_its_own_user_on_a_read_only_root(
    kubectl: Kubectl, namespace: str, images: Mapping[str, Image], target: str
) -> None:
    document = pod(target, images[target].reference, HELP.get(target, ["--help"]))
    kubectl.apply({**document, "metadata": {"name": target, "namespace": namespace}})
    ended = until_ended(kubectl, namespace, target)
    printed = kubectl("logs", target, "--namespace", namespace)
    assert ended == "Succeeded", printed
    assert "usage" in printed.lower()


def until_ended(kubectl: Kubectl, namespace: str, name: str) -> str:
    """Wait for a pod's end; its phase."""
    deadline = time.monotonic() + DEADLINE
    while (status := kubectl.get("pod", name, "--namespace", namespace)["status"])["phase"] not in ENDS:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return str(status["phase"])
