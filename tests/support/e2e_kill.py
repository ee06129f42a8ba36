"""SIGKILL for a container's main process, as the kernel's OOM killer sends it.

Not from inside of the container: what is process 1 of its own namespace is spared there (pid_namespaces(7)). So a pod
that shares the node's process namespace finds the process by its control group, which is named after the container.
"""

from collections.abc import Mapping
from typing import Any

from tests.support.client_pods import PYTHON, run_to_its_end
from tests.support.release import until
from tests.testenv.kubectl import Kubectl
from tests.testenv.node.chosen import own_namespace
from tests.testenv.node.images import Image

_WITHIN = 60.0
_PROGRAM = """
import os, pathlib, signal, sys
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        groups, pids = (folder / "cgroup").read_text(), (folder / "status").read_text()
    except OSError:
        continue
    inner = next(line for line in pids.splitlines() if line.startswith("NSpid:")).split()[-1]
    if sys.argv[1] in groups and inner == "1":
        os.kill(int(folder.name), signal.SIGKILL)
        sys.exit()
sys.exit("no process 1 of container " + sys.argv[1])
"""


def kill(kubectl: Kubectl, image: Image, namespace: str, name: str) -> None:
    """Kill the main process of a pod's only container, and wait until the kubelet has noticed; `image` has Python."""
    victim = kubectl.get("pod", name, "--namespace", namespace)
    (container,) = victim["status"]["containerStatuses"]
    with own_namespace(kubectl, pod_security="privileged") as own:
        killer = _killer(image, victim["spec"]["nodeName"], container["containerID"].rpartition("/")[2], own)
        ended = run_to_its_end(kubectl, killer)
        assert ended.status == 0, ended.said

    def is_restarted() -> bool:
        count = restarts(kubectl.get("pod", name, "--namespace", namespace))
        assert count > container["restartCount"], count
        return True

    until(is_restarted, "the container is restarted", _WITHIN)


def restarts(pod: Mapping[str, Any]) -> int:
    """Tell how often a pod's only container was restarted."""
    (container,) = pod["status"]["containerStatuses"]
    count: int = container["restartCount"]
    return count


def _killer(image: Image, node: str, container_id: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "killer", "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "killer",
                    "image": image.reference,
                    "imagePullPolicy": "IfNotPresent",
                    "command": [PYTHON, "-c", _PROGRAM, container_id],
                    "securityContext": {"runAsUser": 0},
                }
            ],
            "hostPID": True,
            "nodeName": node,
            "restartPolicy": "Never",
        },
    }
