"""Which cluster the end-to-end tier uses, and which images."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.testenv.modules import TestenvError
from tests.testenv.node.chosen import chosen_cluster, kind_of_cluster
from tests.testenv.node.images import images

CHECKOUT = Path(__file__).parents[3]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def docker(folder: Path, *, runs: bool) -> str:
    """A PATH with kind and docker, whose daemon runs or not."""
    program(folder / "docker", f"exit {0 if runs else 1}")
    program(folder / "kind", "exit 0")
    return str(folder)


@pytest.mark.parametrize(
    ("environ", "runs", "chosen"),
    [
        ({}, False, "node"),
        ({}, True, "kind"),
        ({"KUBECONFIG": "/home/me/.kube/production"}, False, "node"),
        ({"BYOK_E2E_KUBECONFIG": "/home/me/.kube/tests"}, True, "kubeconfig"),
        ({"BYOK_E2E_CLUSTER": "node"}, True, "node"),
        ({"BYOK_E2E_CLUSTER": "node", "BYOK_E2E_KUBECONFIG": "/home/me/.kube/tests"}, True, "node"),
    ],
)
def test_the_cluster_is_chosen_by(tmp_path: Path, environ: Mapping[str, str], runs: bool, chosen: str) -> None:  # noqa: FBT001 - a column of the table
    assert kind_of_cluster({**environ, "PATH": docker(tmp_path, runs=runs)}) == chosen


def test_a_machine_without_docker_has_a_node_of_our_own(tmp_path: Path) -> None:
    assert kind_of_cluster({"PATH": str(tmp_path)}) == "node"


def test_another_word_for_a_cluster_is_refused_by_name() -> None:
    with pytest.raises(TestenvError, match="BYOK_E2E_CLUSTER=minikube: expected one of kubeconfig, kind, node"):
        kind_of_cluster({"BYOK_E2E_CLUSTER": "minikube"})


def test_a_kubeconfig_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOK_E2E_KUBECONFIG", "/nowhere")
    with (
        pytest.raises(TestenvError, match="BYOK_E2E_KUBECONFIG=/nowhere: expected the path"),
        chosen_cluster(tmp_path, lambda _: None),
    ):
        pass


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig, and a kubectl."""
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        program(tmp_path / "assets" / name, "exit 0")
    program(tmp_path / "assets" / "kubectl", 'echo "$@" && cat "$KUBECONFIG"')
    (tmp_path / "mine").write_text("{}")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("BYOK_E2E_KUBECONFIG", str(tmp_path / "mine"))
    return tmp_path


def test_the_cluster_of_a_kubeconfig_is_used_by_a_copy_of_it(given: Path) -> None:
    with chosen_cluster(given / "run", lambda _: None) as cluster:
        copy = cluster.kubectl.kubeconfig
        assert copy == given / "run" / "kubeconfig"
        assert copy.read_text() == "config view --raw --flatten\n{}"
        with pytest.raises(TestenvError, match="set BYOK_E2E_LOAD_IMAGE to a command"):
            cluster.load_image(given / "image.tar")
        with pytest.raises(TestenvError, match="only the API server of a node of our own"):
            cluster.stop_api_server()
    assert not copy.exists()


def test_images_get_onto_its_nodes_by_a_command(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = program(given / "load", f'echo "$@" > {given / "loaded"}')
    monkeypatch.setenv("BYOK_E2E_LOAD_IMAGE", f"{load} image load")
    with chosen_cluster(given / "run", lambda _: None) as cluster:
        cluster.load_image(given / "image.tar")
    assert (given / "loaded").read_text() == f"image load {given / 'image.tar'}\n"


def test_a_cluster_of_kind_is_deleted_by_its_name(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(given / "bin", runs=True)
    program(given / "bin" / "kind", f'echo "$1 $2 $3" >> {given / "asked"}')
    monkeypatch.setenv("PATH", f"{given / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("BYOK_E2E_CLUSTER", "kind")
    with chosen_cluster(given / "run", lambda _: None) as cluster:
        cluster.load_image(given / "image.tar")
    made, loaded, deleted = (given / "asked").read_text().splitlines()
    name = made.removeprefix("create cluster --name=")
    assert loaded == f"load image-archive --name={name}"
    assert deleted == f"delete cluster --name={name}"


def test_images_of_a_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    for target in ("operator", "signer", "cli", "sandbox"):
        (tmp_path / f"{target}.tar").touch()
    found = images(tmp_path, {"BYOK_E2E_IMAGES": str(tmp_path), "BYOK_E2E_TAG": "1.2.3"}, pytest.fail)
    assert found["cli"].reference == "byok-operator/cli:1.2.3"
    assert (found["cli"].repository, found["cli"].tag) == ("byok-operator/cli", "1.2.3")


def test_an_image_that_the_folder_lacks_is_named(tmp_path: Path) -> None:
    for target in ("operator", "signer", "cli"):
        (tmp_path / f"{target}.tar").touch()
    with pytest.raises(TestenvError, match=r"there is no \S+/sandbox\.tar$"):
        images(tmp_path, {"BYOK_E2E_IMAGES": str(tmp_path)}, pytest.fail)


def test_a_run_that_lacks_something_fails_before_its_first_test(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e"]
    environ = {"PATH": str(tmp_path), "BYOK_E2E_CLUSTER": "minikube", "HOME": str(tmp_path)}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, cwd=CHECKOUT)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "tests/e2e: BYOK_E2E_CLUSTER=minikube" in ended.stderr
