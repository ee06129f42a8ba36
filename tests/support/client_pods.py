"""Pods that ask the signer, or keep media for those that do, with as few rights as those of examples/kubernetes."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.release import ACCOUNT, until
from tests.testenv.kubectl import Kubectl

FOLDER = "/var/run/secrets/byok-signer"
"""Where token and CA are."""
PICTURES = "/pictures"
PYTHON = "/opt/byok/bin/python"
USER = 65532
_ENDED_WITHIN = 90.0
_STARTED_WITHIN = 60.0
_WAITS = "import signal; signal.sigwait([signal.SIGTERM, signal.SIGINT])"
_LIMITED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
_ENVIRON = [
    {"name": "BYOK_SIGNER_ADDRESS", "valueFrom": {"configMapKeyRef": {"name": "byok-signer", "key": "address"}}},
    {"name": "BYOK_SIGNER_CA_FILE", "value": f"{FOLDER}/ca.crt"},
    {"name": "BYOK_SIGNER_TOKEN_FILE", "value": f"{FOLDER}/token"},
]
_PROJECTED = {
    "sources": [
        {"serviceAccountToken": {"audience": "byok-signer", "path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "byok-signer", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
}


def restricted_pod(name: str, namespace: str, container: Mapping[str, Any], **spec: object) -> dict[str, Any]:
    """Write a pod of one container that restricted pod security admits, without a token for the API server."""
    security = {"fsGroup": USER, "runAsGroup": USER, "runAsNonRoot": True, "runAsUser": USER}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {"name": "main", "imagePullPolicy": "IfNotPresent", "securityContext": _LIMITED, **container}
            ],
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 2,
            **spec,
        },
    }


def client_pod(
    name: str, namespace: str, container: Mapping[str, Any], *, account: str = ACCOUNT, pictures: str | None = None
) -> dict[str, Any]:
    """Write a pod with what a job has: a token for the signer, its address and CA, and a /tmp.

    `pictures` is a ConfigMap of media, which are then in PICTURES.
    """
    mounts = [
        {"name": "byok-signer", "mountPath": FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "byok-signer", "projected": _PROJECTED},
        {"name": "tmp", "emptyDir": {}},
    ]
    if pictures:
        mounts.append({"name": "pictures", "mountPath": PICTURES, "readOnly": True})
        volumes.append({"name": "pictures", "configMap": {"name": pictures}})
    whole = {"env": _ENVIRON, "volumeMounts": mounts, **container}
    return restricted_pod(name, namespace, whole, serviceAccountName=account, volumes=volumes)


def pictures(name: str, namespace: str, *files: Path) -> dict[str, Any]:
    """Write a ConfigMap of small media."""
    data = {path.name: base64.b64encode(path.read_bytes()).decode() for path in files}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": data}


@dataclass(frozen=True)
class Studio:
    """A pod that keeps volumes of media, in which files are put and looked at."""

    kubectl: Kubectl
    namespace: str
    name: str = "studio"

    def open(self, image: str, claims: Mapping[str, str], pictures: str) -> None:
        """Start it: `claims` by the path at which each is mounted, and a ConfigMap of PICTURES."""
        volumes = [
            *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims.values()),
            {"name": "pictures", "configMap": {"name": pictures}},
        ]
        mounts = [
            *({"name": claim, "mountPath": path} for path, claim in claims.items()),
            {"name": "pictures", "mountPath": PICTURES, "readOnly": True},
        ]
        container = {"image": image, "command": [PYTHON, "-c", _WAITS], "volumeMounts": mounts}
        self.kubectl.apply(restricted_pod(self.name, self.namespace, container, volumes=volumes))
        wait_until_running(self.kubectl, self.namespace, self.name)

    def put(self, picture: str, path: str) -> None:
        """Copy one of PICTURES to a path, where it appears whole."""
        folder, _, name = path.rpartition("/")
        self._run("mkdir", "-p", folder)
        self._run("cp", f"{PICTURES}/{picture}", f"{folder}/.{name}")
        self._run("mv", f"{folder}/.{name}", path)

    def read(self, path: str) -> bytes:
        """Read a file; KubectlError if there is none."""
        return base64.b64decode(self._run("base64", path))

    def names(self, folder: str) -> list[str]:
        """List a folder."""
        return self._run("ls", folder).split()

    def _run(self, *command: str) -> str:
        return self.kubectl("exec", self.name, "--namespace", self.namespace, "--", *command)


def wait_until_running(kubectl: Kubectl, namespace: str, name: str) -> None:
    """Wait until a pod is ready; AssertionError says what it is instead."""

    def is_ready() -> bool:
        status = kubectl.get("pod", name, "--namespace", namespace)["status"]
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        assert conditions.get("Ready") == "True", f"{status['phase']}: {conditions}"
        return True

    until(is_ready, f"pod {namespace}/{name} is ready", _STARTED_WITHIN)


@dataclass(frozen=True)
class EndedPod:
    """How the only container of a pod ended."""

    status: int
    said: str
    """Standard output and standard error, as they came."""


def run_to_its_end(kubectl: Kubectl, pod: Mapping[str, Any], within: float = _ENDED_WITHIN) -> EndedPod:
    """Make a pod and wait for its end; it stays, for its log."""
    kubectl.apply(pod)
    return ended_pod(kubectl, pod, within)


def ended_pod(kubectl: Kubectl, pod: Mapping[str, Any], within: float = _ENDED_WITHIN) -> EndedPod:
    """Wait for the end of a pod; AssertionError says what it does instead."""
    where = (pod["metadata"]["name"], "--namespace", pod["metadata"]["namespace"])

    def ended() -> dict[str, Any]:
        status = kubectl.get("pod", *where)["status"]
        states = [each["state"] for each in status.get("containerStatuses", ())]
        assert states, f"{status['phase']}: {status.get('conditions')}"
        assert "terminated" in states[0], f"{states[0]}"
        found: dict[str, Any] = states[0]["terminated"]
        return found

    state = until(ended, f"pod {where[0]} has ended", within)
    return EndedPod(state["exitCode"], kubectl("logs", *where))
