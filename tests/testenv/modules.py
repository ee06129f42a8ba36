"""The pinned Go modules that the cluster tier's programs are built from, each in a folder beside this file."""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_VERSION = "k8s.io/component-base/version"
KUBERNETES_VARIABLE = "TESTENV_KUBERNETES"
"""Names the minor release of Kubernetes to test on."""
KUBERNETES_MINORS = ("1.36", "1.35")
"""Releases that have a module here; the first one is the default."""


class TestenvError(Exception):
    """The test environment cannot be set up; str() says what is missing and what to do."""

    __test__ = False  # pytest: not a class of tests


@dataclass(frozen=True)
class Module:
    """A Go module whose `tool` lines name the programs to build."""

    folder: Path
    programs: Mapping[str, str]
    """Package of each program, by the name of the program."""
    link_flags: str = ""
    """For `go build -ldflags`: kubectl and helm stumble over a program that does not know its version."""
    tags: str = ""
    """For `go build -tags`."""

    @property
    def name(self) -> str:
        """Name of its folder, such as `kubernetes-1.36`."""
        return self.folder.name

    @property
    def go_version(self) -> tuple[int, ...]:
        """The oldest Go that builds it, from the `go` line of go.mod."""
        found = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", (self.folder / "go.mod").read_text(), re.MULTILINE)
        if found is None:
            raise TestenvError(f"{self.folder / 'go.mod'}: expected a line such as 'go 1.26.0'")
        return tuple(int(part or 0) for part in found.groups())

    @property
    def cache_key(self) -> str:
        """Changes with every pin, source of our own, flag and kind of machine."""
        digest = hashlib.sha256()
        files = (self.folder / "go.mod", self.folder / "go.sum", *sorted(self.folder.rglob("*.go")))
        parts = (path.read_bytes() for path in files)
        flags = f"{self.link_flags} -tags={self.tags}" if self.tags else self.link_flags
        for part in (*parts, flags.encode(), f"{platform.system()}-{platform.machine()}".encode()):
            digest.update(hashlib.sha256(part).digest())
        return f"{self.name}-{digest.hexdigest()[:16]}"


ETCD = Module(_HERE / "etcd", {"etcd": "go.etcd.io/etcd/server/v3"})
HELM = Module(
    _HERE / "helm",
    {"helm": "helm.sh/helm/v4/cmd/helm"},
    "-X helm.sh/helm/v4/internal/version.version=v4.2.4",
)
# Without service discovery, which rules need nothing of: it is nine tenths of what there is to build.
PROMTOOL = Module(
    _HERE / "promtool", {"promtool": "github.com/prometheus/prometheus/cmd/promtool"}, tags="remove_all_sd"
)
_CONTAINERD = "github.com/containerd/containerd/v2"
CONTAINERD = Module(
    _HERE / "containerd",
    {name: f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    f"-X {_CONTAINERD}/version.Version=v2.4.2",
)
COREDNS = Module(_HERE / "coredns", {"coredns": "github.com/coredns/coredns"})
PODS = Module(
    _HERE / "pods",
    {name: f"byok.dev/testenv/pods/{name}" for name in ("pause", "visitor")},
    # Static, as there is no other file in their images.
    tags="netgo,osusergo",
)
"""Programs of our own that run in pods."""
_CONTROL_PLANE_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl")
_NODE_PROGRAMS = ("kube-proxy", "kube-scheduler", "kubelet")


def kubernetes(environ: Mapping[str, str]) -> Module:
    """Choose the module of the wanted minor release; TestenvError for one that has none."""
    return _kubernetes(_HERE / f"kubernetes-{_minor(environ)}", _CONTROL_PLANE_PROGRAMS)


def kubernetes_node(environ: Mapping[str, str]) -> Module:
    """Choose the module of a node's own programs, which few runs need; TestenvError for a release that has none."""
    minor = _minor(environ)
    folder = _HERE / f"kubernetes-{minor}-node"
    if not folder.exists():
        raise TestenvError(
            f"{KUBERNETES_VARIABLE}={minor}: there are programs of a node for {KUBERNETES_MINORS[0]} only; unset it"
        )
    return _kubernetes(folder, _NODE_PROGRAMS)


def _minor(environ: Mapping[str, str]) -> str:
    minor = environ.get(KUBERNETES_VARIABLE) or KUBERNETES_MINORS[0]
    if minor not in KUBERNETES_MINORS:
        raise TestenvError(f"{KUBERNETES_VARIABLE}={minor[:40]}: expected one of {', '.join(KUBERNETES_MINORS)}")
    return minor


def _kubernetes(folder: Path, programs: Sequence[str]) -> Module:
    version = required(folder, "k8s.io/kubernetes")
    major, number, _ = version.removeprefix("v").split(".")
    return Module(
        folder,
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in programs},
        f"-X {_VERSION}.gitVersion={version} -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={number}",
    )


def required(folder: Path, module: str) -> str:
    """Read the version of a module that a folder's go.mod asks for; TestenvError if it asks for none."""
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (folder / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise TestenvError(f"{folder / 'go.mod'}: expected a requirement of {module}")
    return found[1]
