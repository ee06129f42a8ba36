"""CRDs of cert-manager and the Prometheus operator, whose objects the chart can make; taken from pinned Go modules.

Their YAML travels in the modules' archives, which go checks against crds/go.sum. Nothing of them is built or run.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.testenv.binaries import cached
from tests.testenv.go_toolchain import Say
from tests.testenv.modules import Module, TestenvError, required

CRDS = Module(Path(__file__).parent / "crds", {})
_PROMETHEUS_OPERATOR = "example/prometheus-operator-crd/monitoring.coreos.com_"
FILES: Mapping[str, tuple[str, ...]] = {
    "github.com/cert-manager/cert-manager": ("deploy/crds/cert-manager.io_certificates.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        f"{_PROMETHEUS_OPERATOR}prometheusrules.yaml",
        f"{_PROMETHEUS_OPERATOR}servicemonitors.yaml",
    ),
}
"""Files of each module."""


def foreign_crds(environ: Mapping[str, str], say: Say) -> Path:
    """Find in the cache or download the CRDs, and give their folder; TestenvError says what is missing."""

    def take(go: Path, folder: Path) -> None:
        for module, files in FILES.items():
            root = _downloaded(go, module, environ)
            for file in files:
                shutil.copyfile(root / file, folder / Path(file).name)

    return cached(CRDS, environ, say, take)


def _downloaded(go: Path, module: str, environ: Mapping[str, str]) -> Path:
    """Have go download a module, checked by crds/go.sum, and give its folder."""
    settings = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GO111MODULE": "on"}
    ended = subprocess.run(
        [str(go), "mod", "download", "-json", f"{module}@{required(CRDS.folder, module)}"],
        check=False,
        cwd=CRDS.folder,
        env={**environ, **settings},
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
    )
    if ended.returncode != 0:
        raise TestenvError(
            f"{module} could not be downloaded (what Go said is above): it needs the Go module proxy the first time"
        )
    return Path(json.loads(ended.stdout)["Dir"])
