"""The chart as a release: what helm and the API server make of it, from installation to removal and back.

There is no node, so no pod starts: what pods do is the e2e tier's to show.
"""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, render_text, values_of
from tests.support.chart_release import (
    CRDS,
    content,
    helm,
    install,
    plane_for_releases,
    stored,
    uninstall,
    upgrade,
    versions,
)
from tests.support.eventually import until
from tests.support.helm import run_helm
from tests.testenv.binaries import Binaries
from tests.testenv.installed import wait_until_served
from tests.testenv.kubectl import Kubectl, yaml_of

_FILLED = {"tls.crt": base64.b64encode(b"certificate").decode()}
_CONSUMERS = {"consumerNamespaces": [{"namespace": "media", "serviceAccounts": ["job"]}]}


@pytest.fixture(scope="module")
def cluster_admin(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with plane_for_releases(tmp_path_factory.mktemp("release"), binaries) as plane:
        yield plane.kubectl


@pytest.fixture
def kubectl(cluster_admin: Kubectl) -> Iterator[Kubectl]:
    """The administrator of a cluster on which nothing is installed, but for CRDs that an earlier release kept."""
    yield cluster_admin
    uninstall(cluster_admin)


@pytest.fixture
def release(kubectl: Kubectl) -> Kubectl:
    """The same, with the chart installed without a word."""
    install(kubectl, {})
    return kubectl


def test_installing_again_with_the_same_values_writes_nothing(release: Kubectl) -> None:
    before = versions(release)
    upgrade(release, {})
    assert versions(release) == before


_CERT_MANAGER = {"tls": {"mode": "certManager", "certManager": {"issuerRef": {"name": "ca"}}}}
# Each adds, changes and removes objects.
_CHANGES: dict[str, dict[str, Any]] = {
    "trails on volumes, owners, a managed key": {
        **values_of("managed-key"),
        **values_of("owners"),
        **_CONSUMERS,
        # The managed key's namespace needs its own.
        "keyOwnership": {"enabled": True, "namespaces": {NAMESPACE: ["arn:aws:kms:eu-central-1:111122223333:key/*"]}},
        "audit": {"mode": "persistent"},
    },
    "cert-manager, and all of pods": {**values_of("pods"), **_CERT_MANAGER},
    "the sandbox, and monitoring": {**values_of("sandbox"), **values_of("monitoring"), "tests": {"enabled": False}},
    "next to nothing": {**values_of("bare"), "operator": {"podDisruptionBudget": False}},
}


@pytest.mark.parametrize("change", _CHANGES)
def test_an_upgrade_gives_what_an_installation_would_and_a_rollback_what_was_before(
    release: Kubectl, change: str
) -> None:
    values = _CHANGES[change]
    before = content(release)
    upgrade(release, values)
    upgraded = content(release)
    assert upgraded != before
    helm(release, "rollback", RELEASE, "1")
    assert content(release) == before
    uninstall(release)
    install(release, values)
    assert content(release) == upgraded


def fill(kubectl: Kubectl) -> None:
    """Write certificates, as the operator does."""
    for name in ("byok-signer-ca", "byok-signer-tls"):
        kubectl("patch", "secret", name, "-n", NAMESPACE, "-p", json.dumps({"data": _FILLED}))


def data(kubectl: Kubectl) -> list[dict[str, str]]:
    return [
        kubectl.get("secret", name, "-n", NAMESPACE).get("data", {}) for name in ("byok-signer-ca", "byok-signer-tls")
    ]


def test_what_the_operator_filled_in_outlives_upgrade_and_rollback(release: Kubectl) -> None:
    fill(release)
    upgrade(release, {"signer": {"replicas": 3}})
    assert release.get("deployment", "byok-signer", "-n", NAMESPACE)["spec"]["replicas"] == 3
    helm(release, "rollback", RELEASE, "1")
    assert release.get("deployment", "byok-signer", "-n", NAMESPACE)["spec"]["replicas"] == 2
    assert data(release) == [_FILLED, _FILLED]


def test_a_ca_that_was_made_does_not_outlive_the_release(release: Kubectl) -> None:
    fill(release)
    uninstall(release)
    install(release, {})
    assert data(release) == [{}, {}]


def test_a_secret_that_cert_manager_made_is_not_in_the_way_of_going_back(release: Kubectl) -> None:
    upgrade(release, _CERT_MANAGER)
    name = stored(release)["Certificate byok-signer"]["spec"]["secretName"]
    release("create", "secret", "generic", name, "-n", NAMESPACE)
    upgrade(release, {})
    assert "Secret byok-signer-tls" in stored(release)
    release("delete", "secret", name, "-n", NAMESPACE)


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


@pytest.fixture
def used(release: Kubectl) -> Iterator[Kubectl]:
    """The release, with a key and a recipe of users."""
    wait_until_served(release)
    release.apply(*key_and_recipe())
    yield release
    release("delete", "byokkey,signingrecipe", "--all", "-A", "--timeout=30s")


def objects(kubectl: Kubectl) -> set[str]:
    found = kubectl.get("byokkey,signingrecipe", "-A")["items"]
    return {f"{each['kind']} {each['metadata']['namespace']}/{each['metadata']['name']}" for each in found}


_OBJECTS = {"ByokKey brand-keys/brand", "SigningRecipe media/photo-v1"}


def test_keys_and_recipes_outlive_the_release_and_are_there_for_the_next(used: Kubectl) -> None:
    uninstall(used)
    assert stored(used).keys() == CRDS
    assert objects(used) == _OBJECTS
    install(used, {})
    assert objects(used) == _OBJECTS


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as it was a version ago: a ByokKey had one field less, and consumers no policy."""
    chart = tmp_path / "older"
    shutil.copytree(CHART, chart)
    crd = chart / "templates" / "crds" / "byok.dev_byokkeys.yaml"
    without, found = re.subn(r"^ {14}bareDigests:\n(?: {16}.*\n| {14}- .*\n)+", "", crd.read_text(), flags=re.MULTILINE)
    assert found == 1
    crd.write_text(without)
    (chart / "manifests" / "admission" / "consumers.yaml").unlink()
    about = chart / "Chart.yaml"
    about.write_text(re.sub(r"^version: .*$", "version: 0.0.9", about.read_text(), flags=re.MULTILINE))
    return chart


async def test_an_upgrade_brings_kinds_and_policies_up_to_date_and_leaves_every_object(
    kubectl: Kubectl, older: Path
) -> None:
    kubectl("delete", "crd", "byokkeys.byok.dev", "signingrecipes.byok.dev", "--ignore-not-found")
    helm(kubectl, "install", RELEASE, str(older), values={})
    key, recipe = key_and_recipe()
    wait_until_served(kubectl)
    kubectl.apply(key, recipe)
    newer = {**key, "spec": {**key["spec"], "bareDigests": "Deny"}}
    apply = ("apply", "--server-side", "--validate=strict", "-f", "-")
    assert "field not declared in schema" in kubectl.attempt(*apply, stdin=yaml_of([newer])).err
    before = kubectl.get("byokkey", "brand", "-n", "brand-keys")["metadata"]["uid"]
    upgrade(kubectl, {})
    assert "ValidatingAdmissionPolicy consumer-rolebindings.byok.dev" in stored(kubectl)
    # The API server goes by a definition that has changed a moment later.
    await until(lambda: kubectl.attempt(*apply, stdin=yaml_of([newer])).status == 0, 30)
    found = kubectl.get("byokkey", "brand", "-n", "brand-keys")
    assert (found["metadata"]["uid"], found["spec"]["bareDigests"]) == (before, "Deny")
    assert objects(kubectl) == _OBJECTS
    kubectl("delete", "byokkey,signingrecipe", "--all", "-A", "--timeout=30s")


def test_who_takes_crds_into_their_own_hands_loses_no_key_and_no_recipe(used: Kubectl) -> None:
    upgrade(used, {"crds": {"install": False}})
    assert stored(used).keys() >= CRDS
    assert objects(used) == _OBJECTS
    upgrade(used, {})


def test_a_release_of_another_name_takes_over_what_was_kept_if_told_to(used: Kubectl) -> None:
    uninstall(used)
    refused = run_helm(used, "install", "other", str(CHART), values={})
    assert refused.returncode != 0
    assert "invalid ownership metadata" in refused.stderr
    helm(used, "install", "other", str(CHART), "--take-ownership", values={})
    assert objects(used) == _OBJECTS
    helm(used, "uninstall", "other")
    helm(used, "install", RELEASE, str(CHART), "--take-ownership", values={})


async def test_nothing_stays_and_nothing_hangs_where_nothing_is_to_be_kept(kubectl: Kubectl) -> None:
    install(kubectl, {"crds": {"keep": False}})
    wait_until_served(kubectl)
    kubectl.apply(*key_and_recipe())
    uninstall(kubectl)
    await until(lambda: stored(kubectl) == {}, 30)


async def test_what_consumers_were_given_goes_with_the_release(kubectl: Kubectl) -> None:
    install(kubectl, _CONSUMERS)
    role = stored(kubectl)["ClusterRole byok-operator"]
    owner = {"apiVersion": role["apiVersion"], "kind": "ClusterRole", "name": "byok-operator"}
    # As the operator does (tests/cluster/test_trust.py).
    reference = {**owner, "uid": role["metadata"]["uid"]}
    metadata = {"name": "byok-signer", "namespace": "media", "ownerReferences": [reference]}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    uninstall(kubectl)
    await until(lambda: kubectl.attempt("get", "configmap", "byok-signer", "-n", "media").status != 0, 30)


def test_rendered_without_hooks_kubectl_makes_the_same_of_it_as_helm(kubectl: Kubectl, tmp_path: Path) -> None:
    install(kubectl, _CONSUMERS)
    by_helm = content(kubectl)
    uninstall(kubectl)
    manifests = tmp_path / "all.yaml"
    manifests.write_text(render_text(_CONSUMERS, "--no-hooks"))
    kubectl("delete", "crd", "byokkeys.byok.dev", "signingrecipes.byok.dev")
    kubectl("apply", "-f", str(manifests))
    assert content(kubectl) == by_helm
    kubectl("delete", "-f", str(manifests), "--timeout=30s")
