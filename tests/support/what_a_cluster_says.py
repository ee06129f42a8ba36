"""What a failure in a cluster is understood by, once the cluster is gone: its pods, their logs, events, our objects."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.release import unready
from tests.testenv.kubectl import Kubectl, KubectlError

_EVENTS = 60
_LINES = {"troubled": "60", "well": "12"}
_MOST_TROUBLED = 12
_QUIET = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_PATIENCE = "--request-timeout=10s"


def told(kubectl: Kubectl) -> str:
    """Put together what the cluster says now; what it does not answer is told as such."""
    return "\n".join(_told(kubectl))


def _told(kubectl: Kubectl) -> Iterator[str]:
    yield _said(kubectl, "get", "pods", "--all-namespaces", "--output=wide")
    yield _said(kubectl, "get", "deployments,statefulsets,jobs,pvc", "--all-namespaces")
    yield _said(kubectl, "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp", last=_EVENTS)
    try:
        yield from _objects(kubectl)
        yield from _logs(kubectl)
    except KubectlError as error:
        yield str(error)


def _objects(kubectl: Kubectl) -> Iterator[str]:
    found = kubectl.get("byokkeys,signingrecipes", "--all-namespaces", _PATIENCE)["items"]
    yield "\n".join((f"{len(found)} keys and recipes", *filter(None, map(unready, found)), ""))


def _logs(kubectl: Kubectl) -> Iterator[str]:
    found = kubectl.get("pods", "--all-namespaces", _PATIENCE)["items"]
    pods = [pod for pod in found if pod["metadata"]["namespace"] not in _QUIET]
    troubled = [pod for pod in pods if is_troubled(pod)]
    for pod in troubled[:_MOST_TROUBLED]:
        yield from _log(kubectl, pod, _LINES["troubled"])
    for pod in pods:
        if pod not in troubled:
            yield from _log(kubectl, pod, _LINES["well"])


def is_troubled(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is not as it should be: failed, not ready, or a container of it started again."""
    status = pod["status"]
    if status["phase"] == "Succeeded":
        return False
    ready = [each["status"] for each in status.get("conditions", ()) if each["type"] == "Ready"]
    return ready != ["True"] or _has_restarted(pod)


def _has_restarted(pod: Mapping[str, Any]) -> bool:
    return any(each["restartCount"] for each in pod["status"].get("containerStatuses", ()))


def _log(kubectl: Kubectl, pod: Mapping[str, Any], lines: str) -> Iterator[str]:
    where = (pod["metadata"]["name"], "--namespace", pod["metadata"]["namespace"])
    command = ("logs", *where, "--all-containers", "--prefix", f"--tail={lines}")
    yield _said(kubectl, *command)
    if _has_restarted(pod):
        yield _said(kubectl, *command, "--previous")


def _said(kubectl: Kubectl, *command: str, last: int | None = None) -> str:
    ended = kubectl.attempt(*command, _PATIENCE)
    lines = (ended.out + ended.err).splitlines()
    return "\n".join((f"$ kubectl {' '.join(command)}", *lines[-(last or len(lines)) :], ""))
