"""The chart as a release: what helm and the API server make of it, from installation to removal and back.

There is no node, so no pod starts: what pods do is the e2e tier's to show.
"""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import (
    CASES,
    CHART,
    NAMESPACE,
    RELEASE,
    Document,
    Rendering,
    containers,
    render_text,
    values_of,
)
from tests.support.eventually import until
from tests.testenv.binaries import Binaries, helm_binary, say_on_stderr
from tests.testenv.control_plane import ControlPlane, running_control_plane
from tests.testenv.kubectl import yaml_of
from tests.testenv.processes import Processes

# Kinds of others, whose CRDs are not here.
_FOREIGN = ("cert-manager.io/", "monitoring.coreos.com/")
_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("audit", "enforce", "warn")}
_FILLED = {"tls.crt": base64.b64encode(b"certificate").decode()}


@pytest.fixture(scope="module")
def plane(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane on which nothing of ours is installed yet, with the release's namespace restricted."""
    with (
        Processes() as processes,
        running_control_plane(tmp_path_factory.mktemp("release"), binaries, processes) as running,
    ):
        for name in (NAMESPACE, "media", "brand-keys"):
            running.kubectl.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}}
            )
        yield running


def helm(plane: ControlPlane, *arguments: str, values: dict[str, Any] | None = None) -> str:
    command = [str(helm_binary(os.environ, say_on_stderr)), *arguments, "--namespace", NAMESPACE]
    if values is not None:
        command += ["--values", "-"]
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        input=None if values is None else yaml.safe_dump(values),
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
        timeout=90,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def release(plane: ControlPlane) -> Iterator[ControlPlane]:
    """The chart, installed without a word."""
    helm(plane, "install", RELEASE, str(CHART), values={})
    yield plane
    if json.loads(helm(plane, "list", "-o", "json")):
        helm(plane, "uninstall", RELEASE)


def left(plane: ControlPlane) -> set[str]:
    """What is there of the release."""
    kinds = (
        "clusterrole,clusterrolebinding,configmap,customresourcedefinition,deployment,lease,networkpolicy,pod,"
        "poddisruptionbudget,role,rolebinding,secret,service,serviceaccount,statefulset,validatingadmissionpolicy,"
        "validatingadmissionpolicybinding"
    )
    found = plane.kubectl.get(kinds, "-A", "-l", f"app.kubernetes.io/instance={RELEASE}")
    return {f"{item['kind']} {item['metadata']['name']}" for item in found["items"]}


def versions(plane: ControlPlane) -> dict[str, int]:
    found = plane.kubectl.get("deployment", "-n", NAMESPACE)
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in found["items"]}


CRDS = {"CustomResourceDefinition byokkeys.byok.dev", "CustomResourceDefinition signingrecipes.byok.dev"}


def as_pod(name: str, spec: Document) -> dict[str, Any]:
    """Make of a workload's pod one that needs no ServiceAccount and no claim, which a dry run does not make."""
    mounted = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
    claims = mounted - {volume["name"] for volume in spec["volumes"]}
    volumes = [*spec["volumes"], *({"name": claim, "emptyDir": {}} for claim in sorted(claims))]
    kept = {key: value for key, value in spec.items() if key != "serviceAccountName"}
    metadata = {"name": f"as-{name}", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**kept, "volumes": volumes}}


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_case_and_has_nothing_to_warn_of(plane: ControlPlane, case: str) -> None:
    rendering = Rendering.of(render_text(values_of(case)))
    ours = [
        each for each in rendering.documents if not each["apiVersion"].startswith(_FOREIGN) and each["kind"] != "Pod"
    ]
    pods = [as_pod(name, pod) for name, pod in rendering.pods().items()]
    tried = plane.kubectl.attempt(
        "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml_of([*ours, *pods])
    )
    assert tried.status == 0, tried.err
    assert "warning" not in tried.err.lower(), tried.err


def test_installing_again_with_the_same_values_changes_nothing(release: ControlPlane) -> None:
    before = versions(release)
    helm(release, "upgrade", RELEASE, str(CHART), values={})
    assert versions(release) == before


def test_what_the_operator_filled_in_outlives_upgrade_and_rollback(release: ControlPlane) -> None:
    for name in ("byok-signer-ca", "byok-signer-tls"):
        release.kubectl("patch", "secret", name, "-n", NAMESPACE, "-p", json.dumps({"data": _FILLED}))
    helm(release, "upgrade", RELEASE, str(CHART), values={"signer": {"replicas": 3}})
    assert release.kubectl.get("deployment", "byok-signer", "-n", NAMESPACE)["spec"]["replicas"] == 3
    helm(release, "rollback", RELEASE, "1")
    assert release.kubectl.get("deployment", "byok-signer", "-n", NAMESPACE)["spec"]["replicas"] == 2
    for name in ("byok-signer-ca", "byok-signer-tls"):
        assert release.kubectl.get("secret", name, "-n", NAMESPACE)["data"] == _FILLED


def key_and_recipe() -> tuple[dict[str, Any], ...]:
    arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    key = {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": "ByokKey",
        "metadata": {"name": "brand", "namespace": "brand-keys"},
        "spec": {"aws": {"keyArn": arn}},
    }
    recipe = {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": "SigningRecipe",
        "metadata": {"name": "photo-v1", "namespace": "media"},
        "spec": {"version": 1, "mediaType": "image", "keyRef": {"name": "brand", "namespace": "brand-keys"}},
    }
    return key, recipe


def test_keys_and_recipes_outlive_the_release_and_are_there_for_the_next(release: ControlPlane) -> None:
    release.kubectl.apply(*key_and_recipe())
    helm(release, "uninstall", RELEASE)
    assert left(release) == CRDS
    assert release.kubectl.get("byokkey,signingrecipe", "-A")["items"]
    helm(release, "install", RELEASE, str(CHART), values={})
    assert release.kubectl.get("byokkey", "brand", "-n", "brand-keys")["spec"]
    release.kubectl("delete", "byokkey,signingrecipe", "--all", "-A", "--timeout=30s")


async def test_nothing_stays_and_nothing_hangs_where_nothing_is_to_be_kept(plane: ControlPlane) -> None:
    helm(plane, "install", RELEASE, str(CHART), values={"crds": {"keep": False}})
    plane.kubectl.apply(*key_and_recipe())
    helm(plane, "uninstall", RELEASE)
    await until(lambda: left(plane) == set(), 30)


def test_audit_trails_can_be_moved_to_volumes_and_back(release: ControlPlane) -> None:
    helm(release, "upgrade", RELEASE, str(CHART), values={"audit": {"mode": "persistent"}})
    assert "StatefulSet byok-signer" in left(release)
    assert "Deployment byok-signer" not in left(release)
    helm(release, "rollback", RELEASE, "1")
    assert "Deployment byok-signer" in left(release)


def test_rendered_without_hooks_it_can_be_applied_by_kubectl(plane: ControlPlane, tmp_path: Path) -> None:
    manifests = tmp_path / "all.yaml"
    manifests.write_text(render_text({}, "--no-hooks"))
    plane.kubectl("apply", "-f", str(manifests))
    assert versions(plane).keys() == {"byok-operator", "byok-signer"}
    plane.kubectl("delete", "-f", str(manifests), "--timeout=30s")
