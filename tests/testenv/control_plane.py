"""A real control plane on loopback addresses: etcd, kube-apiserver and kube-controller-manager as child processes.

There is no node: Deployments stay at zero pods. Everything else is as in production, RBAC and admission included.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from byok_api.references import ObjectName
from tests.testenv.api import AdminApi
from tests.testenv.binaries import Binaries
from tests.testenv.certificates import Identity, Pki
from tests.testenv.kubectl import Kubectl
from tests.testenv.ports import accepts, free_ports
from tests.testenv.processes import Daemon, Processes

ISSUER = "https://kubernetes.default.svc.cluster.local"
_READY_LIMIT = 60.0
_TOKEN_SECONDS = 3600
# Those that this project's objects meet; each of the others costs start-up time and memory.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "validatingadmissionpolicy-status-controller",
)


@dataclass
class ControlPlane:
    """A running control plane."""

    folder: Path
    binaries: Binaries
    processes: Processes
    pki: Pki
    port: int
    admin: Identity
    etcd_url: str
    api: AdminApi = field(init=False)
    kubeconfig: Path = field(init=False)
    """Of the cluster's administrator."""
    kubectl: Kubectl = field(init=False)
    api_server: Daemon = field(init=False)
    _projected: dict[Path, tuple[ObjectName, str | None]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.api = AdminApi(self.port, self.pki.ca_file, self.admin)
        self.kubeconfig = self._certificate_kubeconfig("admin", self.admin)
        self.kubectl = Kubectl(self.binaries.kubectl, self.kubeconfig)

    @property
    def url(self) -> str:
        """Where the API server is."""
        return f"https://127.0.0.1:{self.port}"

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready; it keeps its address over restarts."""
        key, server = str(self.pki.token_key), self.pki.server
        flags = {
            "advertise-address": "127.0.0.1",
            "allow-privileged": "true",
            "authorization-mode": "RBAC",
            "bind-address": "127.0.0.1",
            "cert-dir": str(self.folder / "pki"),
            "client-ca-file": str(self.pki.ca_file),
            # Endpoints must not be loopback addresses, and no pod looks for the Service named kubernetes.
            "endpoint-reconciler-type": "none",
            "etcd-servers": self.etcd_url,
            "secure-port": str(self.port),
            "service-account-issuer": ISSUER,
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": "10.0.0.0/24",
            "tls-cert-file": str(server.certificate),
            "tls-private-key-file": str(server.key),
        }
        self.api_server = self._start("kube-apiserver", self.binaries.kube_apiserver, flags)
        self.api_server.wait_until(self.api.is_ready, _READY_LIMIT)

    def stop_api_server(self) -> None:
        """End the API server as a crash would, if it runs; etcd keeps what it stored."""
        if self.api_server.is_running():
            self.api_server.kill()
            self.processes.forget(self.api_server)

    def start_controller_manager(self) -> None:
        """Start the controllers that namespaces, garbage collection and aggregated roles need; wait until they work."""
        identity = self.pki.client("system:kube-controller-manager", "system:kube-controller-manager")
        flags = {
            "controllers": ",".join(_CONTROLLERS),
            "kubeconfig": str(self._certificate_kubeconfig("kube-controller-manager", identity)),
            "leader-elect": "false",
            "root-ca-file": str(self.pki.ca_file),
            "secure-port": "0",
            "service-account-private-key-file": str(self.pki.token_key),
            "use-service-account-credentials": "true",
        }
        manager = self._start("kube-controller-manager", self.binaries.kube_controller_manager, flags)
        manager.wait_until(self.api.takes_pods, _READY_LIMIT)

    def token(self, account: ObjectName, *, audience: str | None = None, seconds: int = _TOKEN_SECONDS) -> str:
        """Get a token of a ServiceAccount; without an audience it is one for the API server."""
        return self.api.create_token(account.namespace, account.name, audience=audience, seconds=seconds)

    def write_token(self, account: ObjectName, path: Path, *, audience: str | None = None) -> None:
        """Write a token into a file, as the kubelet does for a pod; `renew_tokens` writes it again."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(self.token(account, audience=audience))
        fresh.replace(path)
        self._projected[path] = (account, audience)

    def renew_tokens(self) -> None:
        """Write fresh tokens into all files, as the kubelet does before they expire."""
        for path, (account, audience) in list(self._projected.items()):
            self.write_token(account, path, audience=audience)

    def kubeconfig_for(self, account: ObjectName, *, api_port: int | None = None) -> Path:
        """Write a kubeconfig that speaks for a ServiceAccount by a token in a file, as a pod does.

        `api_port` is where a relay takes connections to the API server.
        """
        name = f"{account.namespace}.{account.name}"
        token_file = self.folder / f"{name}.token"
        self.write_token(account, token_file)
        return self._kubeconfig(name, {"tokenFile": str(token_file)}, api_port=api_port)

    def kubectl_for(self, account: ObjectName) -> Kubectl:
        """Make a kubectl that speaks for a ServiceAccount."""
        return Kubectl(self.binaries.kubectl, self.kubeconfig_for(account))

    def _certificate_kubeconfig(self, name: str, identity: Identity) -> Path:
        files = {"client-certificate": str(identity.certificate), "client-key": str(identity.key)}
        return self._kubeconfig(name, files)

    def _kubeconfig(self, name: str, user: dict[str, str], *, api_port: int | None = None) -> Path:
        server = f"https://127.0.0.1:{api_port or self.port}"
        cluster = {"server": server, "certificate-authority": str(self.pki.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testenv", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "testenv", "context": {"cluster": "testenv", "user": name}}],
            "current-context": "testenv",
        }
        path = self.folder / (f"{name}.{api_port}.kubeconfig" if api_port else f"{name}.kubeconfig")
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=2))
        return path

    def _start(self, name: str, binary: Path, flags: dict[str, str]) -> Daemon:
        command = [str(binary), *(f"--{flag}={value}" for flag, value in flags.items())]
        return self.processes.start(name, command, self.folder / f"{name}.log")


@contextmanager
def running_control_plane(folder: Path, binaries: Binaries, processes: Processes) -> Iterator[ControlPlane]:
    """Start a control plane in an empty `folder`; on leaving, its processes are gone."""
    pki = Pki(folder / "pki")
    api_port, client_port, peer_port = free_ports(3)
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    etcd = processes.start(
        "etcd",
        [
            str(binaries.etcd),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # What a power cut would lose is not wanted afterwards.
            "--unsafe-no-fsync",
        ],
        folder / "etcd.log",
    )
    etcd.wait_until(lambda: accepts(client_port), _READY_LIMIT)
    admin = pki.client("admin", "system:masters")
    plane = ControlPlane(folder, binaries, processes, pki, api_port, admin, client)
    plane.start_api_server()
    try:
        plane.start_controller_manager()
        yield plane
    finally:
        # It takes a quarter of a minute over an orderly end, for the sake of clients that are ending too.
        plane.stop_api_server()
