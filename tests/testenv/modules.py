"""The pinned Go modules that the cluster tier's programs are built from, each in a folder beside this file."""

import hashlib
import platform
import re
from collections.abc import Mapping
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
        """Changes with every pin, flag and kind of machine."""
        digest = hashlib.sha256()
        parts = ((self.folder / "go.mod").read_bytes(), (self.folder / "go.sum").read_bytes())
        for part in (*parts, self.link_flags.encode(), f"{platform.system()}-{platform.machine()}".encode()):
            digest.update(hashlib.sha256(part).digest())
        return f"{self.name}-{digest.hexdigest()[:16]}"


ETCD = Module(_HERE / "etcd", {"etcd": "go.etcd.io/etcd/server/v3"})
HELM = Module(
    _HERE / "helm",
    {"helm": "helm.sh/helm/v4/cmd/helm"},
    "-X helm.sh/helm/v4/internal/version.version=v4.2.4",
)
PROMTOOL = Module(_HERE / "promtool", {"promtool": "github.com/prometheus/prometheus/cmd/promtool"})


def kubernetes(environ: Mapping[str, str]) -> Module:
    """Choose the module of the wanted minor release; TestenvError for one that has none."""
    minor = environ.get(KUBERNETES_VARIABLE) or KUBERNETES_MINORS[0]
    if minor not in KUBERNETES_MINORS:
        raise TestenvError(f"{KUBERNETES_VARIABLE}={minor[:40]}: expected one of {', '.join(KUBERNETES_MINORS)}")
    folder = _HERE / f"kubernetes-{minor}"
    version = _required(folder, "k8s.io/kubernetes")
    major, number, _ = version.removeprefix("v").split(".")
    return Module(
        folder,
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kubectl")},
        f"-X {_VERSION}.gitVersion={version} -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={number}",
    )


def _required(folder: Path, module: str) -> str:
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (folder / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise TestenvError(f"{folder / 'go.mod'}: expected a requirement of {module}")
    return found[1]
