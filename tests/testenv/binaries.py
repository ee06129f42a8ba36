"""Finds the programs of the cluster tier: in KUBEBUILDER_ASSETS, else in the cache, else built once into the cache.

The cache is `${XDG_CACHE_HOME:-~/.cache}/byok-operator/testenv`, outside the checkout: a folder for each module and set
of pins, filled under another name and renamed when it is complete. A lock keeps two runs from building the same thing.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testenv.go_toolchain import Say, find_go
from tests.testenv.modules import (
    CONTAINERD,
    COREDNS,
    ETCD,
    HELM,
    PODS,
    PROMTOOL,
    Module,
    TestenvError,
    kubernetes,
    kubernetes_node,
)

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
"""Names a folder that has the programs already, as controller-runtime's envtest reads it."""


@dataclass(frozen=True)
class Binaries:
    """The programs of a control plane."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


@dataclass(frozen=True)
class NodeBinaries:
    """What a node needs beside the programs of its control plane."""

    containerd: Path
    containerd_shim_runc_v2: Path
    ctr: Path
    coredns: Path
    kube_proxy: Path
    kube_scheduler: Path
    kubelet: Path
    pause: Path
    visitor: Path


def control_plane_binaries(environ: Mapping[str, str], say: Say) -> Binaries:
    """Find or build what a control plane needs; TestenvError says what is missing and what to do."""
    return Binaries(**_fields(_find((ETCD, kubernetes(environ)), environ, say)))


def node_binaries(environ: Mapping[str, str], say: Say) -> NodeBinaries:
    """Find in the cache or build what a node needs; TestenvError says what is missing and what to do.

    KUBEBUILDER_ASSETS is not looked at: what is known by that name has no programs of nodes.
    """
    return NodeBinaries(**_fields(_in_cache((kubernetes_node(environ), CONTAINERD, COREDNS, PODS), environ, say)))


def helm_binary(environ: Mapping[str, str], say: Say) -> Path:
    """Find or build the helm command; TestenvError says what is missing and what to do."""
    return _find((HELM,), environ, say)["helm"]


def promtool_binary(environ: Mapping[str, str], say: Say) -> Path:
    """Find promtool in the cache or build it, to test alerts; TestenvError says what is missing and what to do.

    KUBEBUILDER_ASSETS is not looked at, as for a node.
    """
    return _in_cache((PROMTOOL,), environ, say)["promtool"]


def say_on_stderr(text: str) -> None:
    """Tell the user of one step."""
    sys.stderr.write(f"testenv: {text}\n")
    sys.stderr.flush()


def _find(modules: Sequence[Module], environ: Mapping[str, str], say: Say) -> dict[str, Path]:
    assets = environ.get(ASSETS_VARIABLE)
    if assets:
        return _in_assets(Path(assets), [program for module in modules for program in module.programs])
    return _in_cache(modules, environ, say)


def _in_cache(modules: Sequence[Module], environ: Mapping[str, str], say: Say) -> dict[str, Path]:
    return {
        program: folder / program
        for module, folder in ((module, _built(module, environ, say)) for module in modules)
        for program in module.programs
    }


def _fields(found: Mapping[str, Path]) -> dict[str, Path]:
    return {program.replace("-", "_"): path for program, path in found.items()}


def _in_assets(folder: Path, programs: Sequence[str]) -> dict[str, Path]:
    found = {program: folder / program for program in programs}
    missing = [program for program, path in found.items() if not os.access(path, os.X_OK)]
    if missing:
        raise TestenvError(
            f"{ASSETS_VARIABLE}={folder} has no {' and no '.join(missing)}: put them there (envtest's own archive "
            f"lacks some), or unset {ASSETS_VARIABLE} to have the pinned versions built"
        )
    return found


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Name the cache, and make it if it is not there."""
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = home / "byok-operator" / "testenv"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def cached(module: Module, environ: Mapping[str, str], say: Say, make: Callable[[Path, Path], None]) -> Path:
    """Find what is made of a module in the cache, or have `make` do so by a go command, into a new folder."""
    cache = cache_folder(environ)
    folder = cache / module.cache_key
    if folder.exists():
        return folder
    with _locked(cache / f"{module.name}.lock", say):
        if not folder.exists():
            go = find_go(module.go_version, cache, environ, say)
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                make(go, made)
                made.rename(folder)
    return folder


def _built(module: Module, environ: Mapping[str, str], say: Say) -> Path:
    programs = ", ".join(module.programs)

    def build(go: Path, folder: Path) -> None:
        say(f"building {programs} from {module.folder} with {go}: once, and up to ten minutes on two cores")
        started = time.monotonic()
        for program, package in module.programs.items():
            _go_build(module, folder / program, package, go, environ=environ)
        say(f"built {programs} in {time.monotonic() - started:.0f} s into {cache_folder(environ) / module.cache_key}")

    return cached(module, environ, say, build)


def _go_build(module: Module, output: Path, package: str, go: Path, *, environ: Mapping[str, str]) -> None:
    # What the user's own Go projects need must not change what is pinned here.
    settings = {"GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "GO111MODULE": "on"}
    flags = [
        "-mod=readonly",
        "-buildvcs=false",
        f"-tags={module.tags}",
        f"-ldflags=-s -w {module.link_flags}".rstrip(),
        "-o",
        str(output),
    ]
    ended = subprocess.run(
        [str(go), "build", *flags, package],
        check=False,
        cwd=module.folder,
        env={**environ, **settings},
        stdout=sys.stderr,
    )
    if ended.returncode != 0:
        raise TestenvError(
            f"{output.name} could not be built from {module.folder} (what Go said is above): it needs the Go module "
            f"proxy the first time; or set {ASSETS_VARIABLE} to a folder that has the programs"
        )


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Keep other runs from building the same thing meanwhile."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is building: waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
