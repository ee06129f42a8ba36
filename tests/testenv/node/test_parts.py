"""The parts of a node that need no root: what they are given, and what they write."""

import hashlib
import json
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.testenv.binaries import control_plane_binaries, node_binaries
from tests.testenv.certificates import Identity
from tests.testenv.modules import CONTAINERD, COREDNS, PODS, TestenvError, kubernetes_node
from tests.testenv.node import configuration, one_program, packages
from tests.testenv.node.cgroups import hierarchies
from tests.testenv.node.configuration import NODE_NAME, Layout
from tests.testenv.node.namespaces import refuse_hidden
from tests.testenv.node.volumes import PROVISIONER, STORAGE_CLASS, left_by, volume_for

PACKAGE = packages.Package("conjurer", "conjure")
# Stands in for the go command: says its version, and builds an empty program.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.8; exit; fi
while [ "$1" != -o ]; do shift; done
mkdir -p "$(dirname "$2")" && echo "$3" > "$2"
"""

MOUNTS = """tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
proc /proc proc rw 0 0
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def environ(folder: Path) -> dict[str, str]:
    program(folder / "bin" / "go", GO)
    return {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")}


def built(folder: Path) -> list[str]:
    """Names of what is in the cache, without the hashes of their pins."""
    cache = folder / "cache" / "byok-operator" / "testenv"
    return sorted(path.name.rpartition("-")[0] for path in cache.iterdir() if path.is_dir())


def test_a_run_without_node_builds_nothing_of_one(tmp_path: Path) -> None:
    control_plane_binaries(environ(tmp_path), lambda _: None)
    assert built(tmp_path) == ["etcd", "kubernetes-1.36"]


def test_a_nodes_programs_are_built_from_modules_of_their_own(tmp_path: Path) -> None:
    # What KUBEBUILDER_ASSETS names has no such programs.
    found = node_binaries({**environ(tmp_path), "KUBEBUILDER_ASSETS": "/nowhere"}, lambda _: None)
    assert found.kubelet.read_text() == "k8s.io/kubernetes/cmd/kubelet\n"
    assert found.containerd_shim_runc_v2.name == "containerd-shim-runc-v2"
    assert built(tmp_path) == ["containerd", "coredns", "kubernetes-1.36-node", "pods"]


def test_the_wheels_go_builds_them() -> None:
    assert all(module.go_version <= (1, 26, 6) for module in (CONTAINERD, COREDNS, PODS, kubernetes_node({})))


def test_a_release_of_kubernetes_without_node_is_refused_by_name() -> None:
    with pytest.raises(TestenvError, match=r"TESTENV_KUBERNETES=1\.35: there are programs of a node for 1\.36 only"):
        kubernetes_node({"TESTENV_KUBERNETES": "1.35"})


def test_a_changed_source_of_our_own_is_built_again(tmp_path: Path) -> None:
    module = type(PODS)(tmp_path, PODS.programs)
    for name in ("go.mod", "go.sum", "main.go"):
        (tmp_path / name).write_text("go 1.26.0\n")
    before = module.cache_key
    (tmp_path / "main.go").write_text("package main\n")
    assert module.cache_key != before


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "PATH", str(tmp_path))
    with pytest.raises(TestenvError, match=r"not installed: conjurer; .* apt-get install -y \S+ conjurer$"):
        packages.require([PACKAGE], {}, pytest.fail)


def test_a_package_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "PATH", str(program(tmp_path / "conjure", "").parent))
    packages.require([PACKAGE], {"CI": "true"}, pytest.fail)


@pytest.mark.parametrize(("user", "installs"), [(0, True), (1000, False)])
def test_in_ci_root_installs_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    user: int,
    installs: bool,  # noqa: FBT001 - a column of the table
) -> None:
    program(
        tmp_path / "apt-get",
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n>{tmp_path}/conjure; chmod +x {tmp_path}/conjure',
    )
    monkeypatch.setattr(packages, "PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: user)
    if installs:
        packages.require([PACKAGE], {"CI": "true"}, lambda _: None)
        assert "install -y --no-install-recommends conjurer" in (tmp_path / "asked").read_text()
    else:
        with pytest.raises(TestenvError, match="not installed: conjurer"):
            packages.require([PACKAGE], {"CI": "true"}, pytest.fail)


@pytest.mark.parametrize("path", ["/run/user/0/node", "/var/lib/jenkins/.cache", "/var/log"])
def test_a_folder_that_a_node_hides_is_refused(path: str) -> None:
    with pytest.raises(TestenvError, match="which a node hides from its programs: name another folder"):
        refuse_hidden([Path("/tmp"), Path(path)])  # noqa: S108 - never written to


def test_cgroups_of_both_versions_are_found() -> None:
    assert hierarchies(MOUNTS) == [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified")]


def test_an_image_of_one_program_has_the_layer_that_its_config_names(tmp_path: Path) -> None:
    one_program.write("localhost/thing:1", program(tmp_path / "thing", "content"), tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as image:
        image.extractall(tmp_path / "image", filter="data")
    (manifest,) = json.loads((tmp_path / "image" / "manifest.json").read_text())
    config = json.loads((tmp_path / "image" / manifest["Config"]).read_text())
    (layer,) = ((tmp_path / "image" / name).read_bytes() for name in manifest["Layers"])
    assert manifest["RepoTags"] == ["localhost/thing:1"]
    assert config["config"] == {"Entrypoint": ["/thing"], "User": "65532:65532"}
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_what_containerd_and_kubelet_write_is_below_the_nodes_folder_or_in_what_it_hides() -> None:
    layout = Layout(Path("/here"))
    identity = Identity(Path("/here/crt"), Path("/here/key"))
    kubelet = json.loads(configuration.kubelet(layout, cgroup="byok-1", serving=identity, ca_file=Path("/here/ca")))
    texts = strings(tomllib.loads(configuration.containerd(layout))) + strings(kubelet)
    paths = {
        text.removeprefix("unix://") for text in texts if "/" in text and "://" not in text.removeprefix("unix://")
    }
    elsewhere = {path for path in paths if not path.startswith(("/here", "/run/"))}
    assert elsewhere <= {str(packages.PLUGINS), "/byok-1", one_program.PAUSE, kubelet["apiVersion"]}


def claim(*, metadata: dict[str, Any] | None = None, **changes: str) -> dict[str, Any]:
    standard = {
        "name": "data",
        "namespace": "media",
        "uid": "1-2",
        "annotations": {"volume.kubernetes.io/selected-node": NODE_NAME},
    }
    spec = {
        "storageClassName": STORAGE_CLASS,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"metadata": {**standard, **(metadata or {})}, "spec": {**spec, **changes}}


def test_a_scheduled_claim_gets_a_volume_of_its_own() -> None:
    volume = volume_for(claim(), Path("/volumes"))
    assert volume is not None
    assert volume["spec"]["claimRef"]["uid"] == "1-2"
    assert volume["spec"]["local"]["path"] == "/volumes/pvc-1-2"
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}


@pytest.mark.parametrize(
    "other",
    [
        claim(storageClassName="somebody-elses"),
        claim(volumeName="bound"),
        claim(metadata={"annotations": {}}),
        claim(metadata={"annotations": {"volume.kubernetes.io/selected-node": "another"}}),
        claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_another_claim_gets_none(other: dict[str, Any]) -> None:
    assert volume_for(other, Path("/volumes")) is None


VOLUMES = Path("/volumes")
OURS = {
    "metadata": {"name": "pvc-1-2", "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
    "spec": {"local": {"path": "/volumes/pvc-1-2"}},
    "status": {"phase": "Released"},
}


@pytest.mark.parametrize("phase", ["Released", "Failed"])
def test_a_volume_of_ours_is_removed_once_its_claim_is_gone(phase: str) -> None:
    assert left_by({**OURS, "status": {"phase": phase}}, VOLUMES) == VOLUMES / "pvc-1-2"
    assert left_by({**OURS, "status": {"phase": "Bound"}}, VOLUMES) is None


@pytest.mark.parametrize(
    "other",
    [
        {"metadata": {"name": "pvc-1-2"}},
        {"metadata": {"name": "pvc-1-2", "annotations": {"pv.kubernetes.io/provisioned-by": "another"}}},
        {"spec": {"local": {"path": "/srv/data"}}},
        {"spec": {"local": {"path": "/volumes/pvc-1-2/../../srv"}}},
        {"spec": {"hostPath": {"path": "/volumes/pvc-1-2"}}},
    ],
    ids=["by-hand", "of-another", "elsewhere", "upwards", "of-the-host"],
)
def test_no_folder_that_was_not_made_for_a_volume_here_is_ever_removed(other: dict[str, Any]) -> None:
    assert left_by({**OURS, **other}, VOLUMES) is None
