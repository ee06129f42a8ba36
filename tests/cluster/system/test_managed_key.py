"""The installation's own key: the operator applies it from a file and keeps it so, and recipes name it by its mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from byok_api.references import ObjectName
from byok_client import ClientSettings, SignerClient, Verdict
from byok_sandbox import parts
from byok_sandbox.filling import FIRST
from tests.support.cluster_requests import until
from tests.support.live import (
    CREATED,
    PHOTO,
    Live,
    job,
    key_document,
    living,
    namespace_document,
    recipe_document,
    reference,
)
from tests.support.pairs import Pair, in_charge
from tests.testenv.installed import PRESETS
from tests.testenv.system import Cluster

MANIFESTS = PRESETS.parent / "manifests"
KEY = ObjectName("byok-system", "house")
RECIPE = ObjectName("tenant", "photo")
INTRUDER = "somebody-else"
KEPT_WITHIN = 60.0
"""Seconds: a limit that a loaded machine does not reach; the operator looks every 15 s."""


@dataclass(frozen=True)
class Managed:
    """A cluster with a managed key, and a tenant without one of its own."""

    live: Live
    pair: Pair
    wanted: dict[str, Any]
    client: ClientSettings


def key_file(cluster: Cluster, folder: Path) -> Path:
    kms_key = parts.certified_key(cluster.around.owner, FIRST, cluster.around.authority)
    consumers = {"namespaces": [RECIPE.namespace]}
    path = folder / "managed-key.yaml"
    path.write_text(yaml.safe_dump(key_document(KEY, kms_key, description="Ours.", allowedConsumers=consumers)))
    return path


@contextmanager
def installed_with_it(cluster: Cluster) -> Iterator[None]:
    """Give the cluster the roles and policies of an installation that has a managed key, for a while."""
    kubectl, usual = cluster.plane.kubectl, cluster.deployment.installation
    with_it = replace(usual, managed_key=KEY)
    kubectl.apply(*with_it.documents(MANIFESTS / "rbac"), *with_it.documents(MANIFESTS / "admission"))
    try:
        yield
    finally:
        kubectl.apply(*usual.documents(MANIFESTS / "admission"))
        ours = ["rolebinding/byok-operator-managed-key", "role/byok-operator-managed-key"]
        kubectl("delete", "--namespace", usual.namespace, *ours)
        kubectl("annotate", "byokkey", KEY.name, "--namespace", KEY.namespace, "byok.dev/allow-delete=true")
        kubectl("delete", "byokkey", KEY.name, "--namespace", KEY.namespace)


@pytest.fixture(scope="module")
def managed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    file = key_file(cluster, tmp_path_factory.mktemp("managed"))
    with installed_with_it(cluster), living(cluster) as live:
        both = {"managed-key": str(KEY)}
        with in_charge(cluster, "managed", both=both, operator={"managed-key-file": file}) as pair:
            live.take(namespace_document(RECIPE.namespace), recipe_document(RECIPE, None, kmsMode="managed"))
            applied = "the operator has applied the managed key"
            until(lambda: live.admin.read(reference("ByokKey", KEY)).taken, applied, within=KEPT_WITHIN)
            client = pair.client(job(live, ObjectName(RECIPE.namespace, "job")))
            yield Managed(live, pair, yaml.safe_load(file.read_text()), client)


def test_a_recipe_that_names_no_key_signs_with_the_managed_one_and_is_trusted(managed: Managed, tmp_path: Path) -> None:
    live = managed.live
    live.until_ready(("ByokKey", KEY), ("SigningRecipe", RECIPE))
    assert live.read("SigningRecipe", RECIPE)["status"]["key"]["name"] == KEY.name
    output = tmp_path / "signed.jpg"
    with SignerClient(managed.client) as client:
        client.sign(PHOTO, recipe=str(RECIPE), metadata=CREATED, output=output)
        anchors = live.cluster.around.trust_anchors
        assert client.verify(output, trust_anchors=anchors).state is Verdict.TRUSTED


def test_the_operator_has_applied_what_the_file_says_with_the_rights_of_production(managed: Managed) -> None:
    stored = managed.live.read("ByokKey", KEY)
    managers = {each["manager"] for each in stored["metadata"]["managedFields"]}
    assert (stored["spec"], managers) == (managed.wanted["spec"], {"byok-operator"})


@pytest.fixture(scope="module")
def restored(managed: Managed) -> dict[str, Any]:
    """Its spec, after somebody changed it in several ways, once the operator has looked."""
    mine = {"description": "Mine.", "certificate": None, "allowedConsumers": {"namespaces": [INTRUDER]}}
    managed.live.change("ByokKey", KEY, mine)

    def is_described() -> bool:
        return bool(spec(managed)["description"] == managed.wanted["spec"]["description"])

    until(is_described, "the managed key is described as in its file", within=KEPT_WITHIN)
    return spec(managed)


def spec(managed: Managed) -> dict[str, Any]:
    """Read what is stored."""
    return dict(managed.live.read("ByokKey", KEY)["spec"])


def test_what_somebody_changed_or_took_out_is_restored(managed: Managed, restored: dict[str, Any]) -> None:
    wanted = managed.wanted["spec"]
    assert {**restored, "allowedConsumers": None} == {**wanted, "allowedConsumers": None}
    assert RECIPE.namespace in restored["allowedConsumers"]["namespaces"]
    managed.live.until_ready(("SigningRecipe", RECIPE))


def test_a_consumer_that_somebody_added_is_taken_out(restored: dict[str, Any]) -> None:
    assert restored["allowedConsumers"]["namespaces"] == [RECIPE.namespace]
