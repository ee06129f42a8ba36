"""What the programs of a node are configured with, as text of their files; pure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testenv.certificates import Identity
from tests.testenv.node.one_program import PAUSE
from tests.testenv.node.packages import PLUGINS

NODE_NAME = "byok-node"
NODE_ADDRESS = "10.89.0.1"
POD_RANGE = "10.88.0.0/16"
SERVICE_RANGE = "10.0.0.0/24"
DNS_ADDRESS = "10.0.0.10"
CLUSTER_DOMAIN = "cluster.local"
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
"""User as which the API server asks the kubelet, for logs and exec."""
API_PORT = 6443
API_URL = f"https://{NODE_ADDRESS}:{API_PORT}"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
"""As seen from within the node's namespaces, which have a /run of their own."""

_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Layout:
    """Where the files of a node are."""

    folder: Path

    @property
    def state(self) -> Path:
        """What is removed when the node ends; it is large."""
        return self.folder / "state"

    @property
    def configuration(self) -> Path:
        """What the programs read."""
        return self.folder / "configuration"

    @property
    def logs(self) -> Path:
        """What the programs said."""
        return self.folder / "logs"

    @property
    def volumes(self) -> Path:
        """A folder for each persistent volume."""
        return self.state / "volumes"


def containerd(layout: Layout) -> str:
    """Write containerd's config.toml, version 3; plugins of Debian, no AppArmor, no raised limits.

    Some machines lack CAP_SYS_RESOURCE, and all containers share one kernel that may have no AppArmor.
    """

    def quoted(path: Path) -> str:
        return json.dumps(str(path))

    return f"""version = 3
root = {quoted(layout.state / "containerd")}
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = {quoted(CONTAINERD_SOCKET)}

[plugins."io.containerd.internal.v1.opt"]
  path = {quoted(layout.state / "opt")}

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  ignore_rlimit = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{quoted(PLUGINS)}]
    conf_dir = {quoted(layout.configuration / "cni")}
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def network() -> str:
    """Write the CNI configuration: a veth pair for each pod, routed, so that Services work without br_netfilter."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    return json.dumps({"cniVersion": "1.0.0", "name": "byok", "plugins": plugins}, indent=2)


def kubelet(layout: Layout, *, cgroup: str, serving: Identity, ca_file: Path) -> str:
    """Write the kubelet's configuration, as JSON, which is YAML."""
    return _object(
        "kubelet.config.k8s.io/v1beta1",
        "KubeletConfiguration",
        {
            "address": NODE_ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(ca_file)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup}",
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            # No resources are reserved for others: the node shares the machine.
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi"},
            "failCgroupV1": False,
            "failSwapOn": False,
            # Images were loaded and cannot be pulled again.
            "imageGCHighThresholdPercent": 100,
            "oomScoreAdj": 0,
            "resolvConf": str(layout.configuration / "resolv.conf"),
            # How long a changed Secret or ConfigMap may take to reach a pod's files.
            "syncFrequency": "10s",
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "volumePluginDir": str(layout.state / "volume-plugins"),
        },
    )


def kube_proxy(kubeconfig: Path) -> str:
    """Write kube-proxy's configuration, which leaves the machine's connection tracking as it is."""
    return _object(
        "kubeproxy.config.k8s.io/v1alpha1",
        "KubeProxyConfiguration",
        {
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": POD_RANGE,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "hostnameOverride": NODE_NAME,
            "mode": "iptables",
            "oomScoreAdj": 0,
        },
    )


def corefile(kubeconfig: Path) -> str:
    """Write CoreDNS's configuration: the cluster's names, and no others."""
    return f"""{CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
  bind {NODE_ADDRESS}
  errors
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
  }}
  cache 5
}}
.:53 {{
  bind {NODE_ADDRESS}
  errors
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def kubeconfig(server: str, ca_file: Path, user: str, identity: Identity) -> str:
    """Write a kubeconfig for a client certificate."""
    cluster = {"server": server, "certificate-authority": str(ca_file)}
    credentials = {"client-certificate": str(identity.certificate), "client-key": str(identity.key)}
    return _object(
        "v1",
        "Config",
        {
            "clusters": [{"name": "node", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
            "current-context": "node",
        },
    )


def addons(storage_class: str, provisioner: str) -> list[dict[str, Any]]:
    """What a cluster needs beside its programs: DNS's Service and rights, and a StorageClass, the default one."""
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    dns = {"name": "kube-dns", "namespace": "kube-system"}
    reads = {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["list", "watch"]}
    slices = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    role = {"name": "system:coredns"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": dns, "spec": {"clusterIP": DNS_ADDRESS, "ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**dns, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [NODE_ADDRESS]}],
        },
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": role, "rules": [reads, slices]},
        _bound("system:coredns", "system:coredns"),
        _bound(KUBELET_CLIENT, "system:kubelet-api-admin"),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": storage_class,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": provisioner,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    ]


def _bound(user: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
    }


def _object(version: str, kind: str, fields: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, **fields}, indent=2)
