"""The whole system on a real control plane: emulated KMS, signer and operator as processes, with production's RBAC.

Signer and operator speak to the API server by ServiceAccount tokens in files, which are renewed as the kubelet does it.
Everything lives in one folder: `manifests/` (the filled-in examples, to be applied), `client/` (what jobs and key
owners need), `control-plane/`, `logs/`, `audit.jsonl`, `kms-events.jsonl` (as CloudTrail has them).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byok_api.references import ObjectName
from byok_client import ClientSettings
from byok_sandbox import shipped
from tests.testenv.binaries import control_plane_binaries
from tests.testenv.control_plane import ControlPlane, running_control_plane
from tests.testenv.deployment import AUDIENCE, Deployment
from tests.testenv.go_toolchain import Say
from tests.testenv.installed import Installation, install, shipped_presets
from tests.testenv.keeper import kept
from tests.testenv.processes import Processes
from tests.testenv.service import Service
from tests.testenv.surroundings import Starting, Surroundings

JOB = ObjectName("media", "media-job")
OWNER = ObjectName("brand-keys", "byok-key-owner")
_FOLDERS = ("manifests", "client", "signer", "operator", "tsa", "logs", "control-plane")


@dataclass(frozen=True)
class Cluster:
    """A running system, in which nothing has been applied yet but what the platform team applies."""

    folder: Path
    deployment: Deployment
    """Makes further signers and operators."""
    signer: Service
    operator: Service

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return self.deployment.plane

    @property
    def around(self) -> Surroundings:
        """AWS, and what the key's owner has there."""
        return self.deployment.around

    @property
    def client(self) -> ClientSettings:
        """What the job JOB needs to call the signer."""
        token_file = self.folder / "client" / "token"
        return ClientSettings(address=self.signer.address, ca_file=self.deployment.ca_file, token_file=token_file)

    @property
    def manifests(self) -> Path:
        """Folder of the filled-in examples."""
        return self.folder / "manifests"

    @property
    def audit(self) -> Path:
        """The signer's audit trail."""
        return self.folder / "audit.jsonl"

    @property
    def owner_token(self) -> Path:
        """Token of OWNER for the signer: it may probe and certify the keys of its namespace."""
        return self.folder / "client" / "owner-token"

    @property
    def programs(self) -> tuple[Path, Path]:
        """Folders to put on the PATH: of kubectl, and of byokctl."""
        return self.plane.binaries.kubectl.parent, Path(sys.executable).parent

    @property
    def exports(self) -> dict[str, str]:
        """Environment variables by which kubectl, byokctl, the SDK and boto3 find their way."""
        access = self.around.owner.access
        return {
            **self.plane.kubectl.environ,
            "BYOK_SIGNER_ADDRESS": self.client.address,
            "BYOK_SIGNER_CA_FILE": str(self.client.ca_file),
            "BYOK_SIGNER_TOKEN_FILE": str(self.client.token_file),
            "AWS_ENDPOINT_URL": access.endpoint,
            # boto3 reads the second, the AWS command line and other SDKs the first.
            "AWS_REGION": access.region,
            "AWS_DEFAULT_REGION": access.region,
            "AWS_ACCESS_KEY_ID": access.access_key_id,
            "AWS_SECRET_ACCESS_KEY": access.secret_access_key,
        }


@contextmanager
def running_cluster(folder: Path, say: Say) -> Iterator[Cluster]:
    """Start everything in an empty `folder`, and end every process on leaving; TestenvError if that cannot be done."""
    binaries = control_plane_binaries(os.environ, say)
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    with Processes() as processes:
        say("starting etcd, kube-apiserver, kube-controller-manager, the emulated KMS and a time-stamp authority")
        starting = Starting.begin(folder, processes)
        with running_control_plane(folder / "control-plane", binaries, processes) as plane:
            cluster = _set_up(folder, plane, starting, processes, say=say)
            try:
                with kept(plane, cluster.operator, say):
                    cluster.signer.wait_until_ready()
                    cluster.operator.wait_until_ready()
                    yield cluster
            finally:
                # Before the control plane, whose end they would only log.
                cluster.operator.stop()
                cluster.signer.stop()


def _set_up(folder: Path, plane: ControlPlane, starting: Starting, processes: Processes, *, say: Say) -> Cluster:
    say("applying crds/, roles and admission policies")
    installation = Installation(preset_names=shipped_presets())
    install(plane, installation)
    plane.kubectl("apply", "-f", str(shipped.examples() / "1-namespaces.yaml"))
    plane.kubectl.apply(*_account(JOB, "byok-signer-user"), *_account(OWNER, "byok-key-owner"))
    deployment = Deployment(folder, plane, installation, starting.wait(), processes)
    say("starting the signer and the operator")
    signer = deployment.signer()
    operator = deployment.operator(signers=signer.address)
    for service in (signer, operator):
        service.start()
    cluster = Cluster(folder, deployment, signer, operator)
    plane.write_token(JOB, cluster.client.token_file, audience=AUDIENCE)
    plane.write_token(OWNER, cluster.owner_token, audience=AUDIENCE)
    return cluster


def _account(account: ObjectName, role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a ServiceAccount, and give it a role in its own namespace."""
    metadata = {"name": account.name, "namespace": account.namespace}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, binding
