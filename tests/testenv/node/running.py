"""A real node with its control plane, in namespaces of its own: nothing in it reaches, or is reached from, the network.

etcd, kube-apiserver, kube-controller-manager, kube-scheduler, CoreDNS, containerd, kubelet and kube-proxy run as on any
node; images are loaded from archives. NetworkPolicies are stored, but no plugin here enforces them.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.testenv.api import AdminApi
from tests.testenv.binaries import Binaries, NodeBinaries, control_plane_binaries, node_binaries
from tests.testenv.certificates import Pki
from tests.testenv.control_plane import ISSUER
from tests.testenv.go_toolchain import Say
from tests.testenv.kubectl import Kubectl
from tests.testenv.modules import TestenvError
from tests.testenv.node import cgroups, configuration, one_program, packages
from tests.testenv.node.cleaning import swept
from tests.testenv.node.configuration import API_PORT, API_URL, CONTAINERD_SOCKET, NODE_ADDRESS, NODE_NAME, Layout
from tests.testenv.node.forwarding import forward
from tests.testenv.node.namespaces import Namespaces, refuse_hidden
from tests.testenv.node.volumes import PROVISIONER, STORAGE_CLASS, provisioning
from tests.testenv.processes import Daemon, Processes

_ETCD = "http://127.0.0.1:2379"
_READY_LIMIT = 60.0
_LOAD_LIMIT = 300.0


@dataclass
class Node:
    """A running node."""

    layout: Layout
    cgroup: str
    programs: Binaries
    own: NodeBinaries
    processes: Processes
    namespaces: Namespaces
    pki: Pki
    api: AdminApi
    kubectl: Kubectl
    """Of the cluster's administrator; it works from outside of the namespaces, as helm does with its `environ`."""
    daemons: dict[str, Daemon] = field(default_factory=dict)
    can_stop_api_server: bool = True
    enforces_network_policies: bool = False

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready; it keeps its address over restarts."""
        key, server, client = (
            str(self.pki.token_key),
            self.pki.server,
            self.pki.client(configuration.KUBELET_CLIENT, "testenv"),
        )
        flags = {
            "advertise-address": NODE_ADDRESS,
            "allow-privileged": "true",
            "authorization-mode": "Node,RBAC",
            "cert-dir": str(self.layout.state),
            "client-ca-file": str(self.pki.ca_file),
            "enable-admission-plugins": "NodeRestriction",
            "etcd-servers": _ETCD,
            "kubelet-certificate-authority": str(self.pki.ca_file),
            "kubelet-client-certificate": str(client.certificate),
            "kubelet-client-key": str(client.key),
            "kubelet-preferred-address-types": "InternalIP",
            "secure-port": str(API_PORT),
            "service-account-issuer": ISSUER,
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": configuration.SERVICE_RANGE,
            "tls-cert-file": str(server.certificate),
            "tls-private-key-file": str(server.key),
        }
        daemon = self._networked("kube-apiserver", self.programs.kube_apiserver, flags)
        daemon.wait_until(self.api.is_ready, _READY_LIMIT)

    def stop_api_server(self) -> None:
        """End the API server as a crash would, if it runs; pods go on, and etcd keeps what it stored."""
        daemon = self.daemons["kube-apiserver"]
        if daemon.is_running():
            daemon.kill()
            self.processes.forget(daemon)

    def load_image(self, archive: Path) -> None:
        """Put the images of a docker or OCI archive where the kubelet finds them; TestenvError if it is none."""
        command = [str(self.own.ctr), f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import", "-"]
        with archive.open("rb") as content:
            ended = subprocess.run(
                self.namespaces.inside(command),
                check=False,
                stdin=content,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_LOAD_LIMIT,
            )
        if ended.returncode != 0:
            raise TestenvError(f"{archive} could not be loaded: {ended.stdout.strip()[-1000:]}")

    def is_ready(self) -> bool:
        """Whether the kubelet says that pods can run here."""
        node = self.api.find(f"/api/v1/nodes/{NODE_NAME}") or {"status": {}}
        conditions = node["status"].get("conditions", ())
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def start(self) -> None:
        """Start everything and wait until pods can run; TestenvError names the program that did not."""
        containerd = self._start_containerd()
        flags = {"data-dir": str(self.layout.state / "etcd"), "listen-client-urls": _ETCD}
        # What a power cut would lose is not wanted afterwards.
        self._networked(
            "etcd", self.programs.etcd, {**flags, "advertise-client-urls": _ETCD, "unsafe-no-fsync": "true"}
        )
        self.start_api_server()
        manager = self._start_controllers()
        self.kubectl.apply(*configuration.addons(STORAGE_CLASS, PROVISIONER))
        self._start_dns()
        containerd.wait_until(self._containerd_answers, _READY_LIMIT, interval=0.1)
        self.load_image(self._pause_image())
        kubelet = self._start_kubelet()
        self._start_kube_proxy()
        kubelet.wait_until(self.is_ready, _READY_LIMIT, interval=0.1)
        manager.wait_until(self.api.takes_pods, _READY_LIMIT, interval=0.1)

    def end(self) -> None:
        """End what runs outside of the process namespace at once: what it would still write is thrown away."""
        for daemon in reversed(self.daemons.values()):
            if daemon.is_running():
                daemon.kill()
            self.processes.forget(daemon)

    def _start_containerd(self) -> Daemon:
        (self.layout.configuration / "cni" / "10-byok.conflist").write_text(configuration.network())
        path = self._write("containerd.toml", configuration.containerd(self.layout))
        # It finds its shim on the PATH.
        environ = {"PATH": f"{self.own.containerd_shim_runc_v2.parent}:{packages.PATH}"}
        command = self.namespaces.inside([str(self.own.containerd), f"--config={path}"])
        return self._start("containerd", command, environ)

    def _containerd_answers(self) -> bool:
        command = [str(self.own.ctr), f"--address={CONTAINERD_SOCKET}", "--connect-timeout=1s", "version"]
        ended = subprocess.run(self.namespaces.inside(command), check=False, capture_output=True)
        return ended.returncode == 0

    def _pause_image(self) -> Path:
        archive = self.layout.state / "pause.tar"
        one_program.write(one_program.PAUSE, self.own.pause, archive)
        return archive

    def _start_controllers(self) -> Daemon:
        flags = {
            "allocate-node-cidrs": "false",
            "cluster-cidr": configuration.POD_RANGE,
            "kubeconfig": str(self._kubeconfig("system:kube-controller-manager", "system:kube-controller-manager")),
            "leader-elect": "false",
            # Elsewhere it loses its lease while the API server is away, and judges nodes anew; this one stays, and
            # would take the node for dead.
            "node-monitor-grace-period": "10m",
            "root-ca-file": str(self.pki.ca_file),
            "service-account-private-key-file": str(self.pki.token_key),
            "use-service-account-credentials": "true",
        }
        manager = self._networked("kube-controller-manager", self.programs.kube_controller_manager, flags)
        kubeconfig = self._kubeconfig("system:kube-scheduler", "system:kube-scheduler")
        scheduler = {"kubeconfig": str(kubeconfig), "leader-elect": "false"}
        self._networked("kube-scheduler", self.own.kube_scheduler, scheduler)
        return manager

    def _start_dns(self) -> None:
        kubeconfig = self._kubeconfig("system:coredns", "testenv")
        corefile = self._write("Corefile", configuration.corefile(kubeconfig))
        self._start("coredns", self.namespaces.networked([str(self.own.coredns), "-conf", str(corefile)]))

    def _start_kubelet(self) -> Daemon:
        serving = self.pki.serving("kubelet", (NODE_NAME, NODE_ADDRESS))
        self._write("resolv.conf", "")
        path = self._write(
            "kubelet.json",
            configuration.kubelet(self.layout, cgroup=self.cgroup, serving=serving, ca_file=self.pki.ca_file),
        )
        flags = {
            "config": str(path),
            "hostname-override": NODE_NAME,
            "kubeconfig": str(self._kubeconfig(f"system:node:{NODE_NAME}", "system:nodes")),
            "node-ip": NODE_ADDRESS,
            "root-dir": str(self.layout.state / "kubelet"),
        }
        return self._inside("kubelet", self.own.kubelet, flags)

    def _start_kube_proxy(self) -> None:
        kubeconfig = self._kubeconfig("system:kube-proxy", "system:node-proxier")
        path = self._write("kube-proxy.json", configuration.kube_proxy(kubeconfig))
        self._inside("kube-proxy", self.own.kube_proxy, {"config": str(path)})

    def _kubeconfig(self, user: str, group: str) -> Path:
        text = configuration.kubeconfig(API_URL, self.pki.ca_file, user, self.pki.client(user, group))
        return self._write(f"{user.replace(':', '-')}.kubeconfig", text)

    def _write(self, name: str, text: str) -> Path:
        path = self.layout.configuration / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def _networked(self, name: str, binary: Path, flags: dict[str, str]) -> Daemon:
        return self._start(name, self.namespaces.networked(_command(binary, flags)))

    def _inside(self, name: str, binary: Path, flags: dict[str, str]) -> Daemon:
        return self._start(name, self.namespaces.inside(_command(binary, flags)), {"PATH": packages.PATH})

    def _start(self, name: str, command: list[str], environ: dict[str, str] | None = None) -> Daemon:
        self.daemons[name] = self.processes.start(name, command, self.layout.logs / f"{name}.log", environ)
        return self.daemons[name]


@contextmanager
def running_node(folder: Path, say: Say) -> Iterator[Node]:
    """Start a node in an empty `folder`; on leaving nothing is left but its logs and configuration.

    Needs root; TestenvError says what is missing, or what did not start.
    """
    if os.geteuid() != 0:
        raise TestenvError("a node needs root: for its namespaces, control groups and mounts")
    packages.require(packages.NODE, os.environ, say)
    programs, own = control_plane_binaries(os.environ, say), node_binaries(os.environ, say)
    layout = Layout(folder.absolute())
    refuse_hidden([layout.folder, programs.etcd, programs.kubectl, own.kubelet])
    for path in (layout.state, layout.configuration / "cni", layout.logs):
        path.mkdir(parents=True)
    cgroup = f"byok-node-{secrets.token_hex(4)}"
    groups = cgroups.paths(cgroup)
    with swept(cgroups=groups, folders=[layout.state]), Processes() as processes, ExitStack() as stack:
        cgroups.create(groups)
        namespaces = Namespaces.create(
            layout.state, layout.logs / "namespaces.log", processes, addresses=[NODE_ADDRESS]
        )
        stack.callback(namespaces.end, processes)
        namespaces.wait_until_ready()
        pki = Pki(layout.configuration / "pki", server_names=[NODE_ADDRESS])
        admin = pki.client("admin", "system:masters")
        relay = forward(namespaces, NODE_ADDRESS, API_PORT, layout.logs / "relay.log", processes=processes)
        kubeconfig = layout.configuration / "admin.kubeconfig"
        kubeconfig.touch(mode=0o600)
        url = f"https://127.0.0.1:{relay.port}"
        kubeconfig.write_text(configuration.kubeconfig(url, pki.ca_file, "admin", admin))
        api, kubectl = AdminApi(relay.port, pki.ca_file, admin), Kubectl(programs.kubectl, kubeconfig)
        node = Node(layout, cgroup, programs, own, processes, namespaces, pki, api, kubectl)
        stack.callback(node.end)
        say("starting etcd, the control plane, containerd, kubelet, kube-proxy and CoreDNS")
        node.start()
        stack.enter_context(provisioning(api, layout.volumes))
        yield node


def _command(binary: Path, flags: dict[str, str]) -> list[str]:
    return [str(binary), *(f"--{flag}={value}" for flag, value in flags.items())]
