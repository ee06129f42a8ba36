"""A key that recipes sign with is not deleted by mistake, and stands in no namespace's way."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cluster_requests import Answer, Requests, until
from tests.support.kinds import KEY_ARN, manifest
from tests.testenv.control_plane import ControlPlane

ALLOW = "byok.dev/allow-delete"
NOT_FOUND = 404


@pytest.fixture
def key(owner: Requests, keys: str) -> dict[str, Any]:
    document = manifest("ByokKey", f"{keys}/brand", {"aws": {"keyArn": KEY_ARN}})
    assert owner.create(document).taken
    return document


@pytest.fixture
def used(operator: Requests, key: dict[str, Any]) -> dict[str, Any]:
    """A key that seven recipes sign with."""
    set_recipes(operator, key, 7)
    return key


def set_recipes(operator: Requests, key: dict[str, Any], count: int) -> None:
    document = {part: key[part] for part in ("apiVersion", "kind", "metadata")}
    assert operator.apply({**document, "status": {"recipes": count}}, subresource="status").taken


def is_gone(admin: Requests, document: dict[str, Any]) -> bool:
    return admin.read(document).status == NOT_FOUND


@pytest.mark.parametrize(("count", "expected"), [(0, "taken"), (1, "one recipe"), (7, "recipes")])
def test_a_key_is_deleted_while_no_recipe_signs_with_it(  # noqa: PLR0913 - a table's columns and fixtures
    count: int,
    expected: str,
    *,
    owner: Requests,
    operator: Requests,
    key: dict[str, Any],
    verdict: Callable[[Answer], str],
) -> None:
    set_recipes(operator, key, count)
    assert verdict(owner.delete(key)) == expected


def test_a_key_that_the_operator_has_not_seen_is_deleted(owner: Requests, key: dict[str, Any]) -> None:
    assert owner.delete(key).message == ""


@pytest.mark.parametrize(("value", "expected"), [("true", "taken"), ("True", "recipes"), ("", "recipes")])
def test_whoever_means_it_says_so_on_the_key(
    owner: Requests, used: dict[str, Any], verdict: Callable[[Answer], str], value: str, expected: str
) -> None:
    assert owner.patch(used, {"metadata": {"annotations": {ALLOW: value}}}).taken
    assert verdict(owner.delete(used)) == expected


def test_not_even_the_administrator_deletes_it_by_mistake(
    admin: Requests, used: dict[str, Any], verdict: Callable[[Answer], str]
) -> None:
    assert verdict(admin.delete(used)) == "recipes"


def test_deleting_all_keys_stops_at_one_in_use(
    owner: Requests, used: dict[str, Any], verdict: Callable[[Answer], str]
) -> None:
    assert verdict(owner.delete_all(used)) == "recipes of one of all"
    assert owner.read(used).taken


def test_its_namespace_is_deleted_with_it(admin: Requests, used: dict[str, Any]) -> None:
    namespace = {"kind": "Namespace", "metadata": {"name": used["metadata"]["namespace"]}}
    assert admin.delete(namespace).taken
    # The controller waits for five seconds, then asks for every kind there is, for every test's namespace in turn.
    until(lambda: is_gone(admin, namespace), "the namespace is gone", within=90.0)


def test_anybody_clears_a_namespace_that_is_being_deleted(
    admin: Requests, owner: Requests, used: dict[str, Any], verdict: Callable[[Answer], str]
) -> None:
    assert owner.patch(used, {"metadata": {"finalizers": ["example.com/hold"]}}).taken
    assert verdict(owner.delete(used)) == "recipes"
    assert admin.delete({"kind": "Namespace", "metadata": {"name": used["metadata"]["namespace"]}}).taken
    until(lambda: owner.delete(used).taken, "the policy has seen the namespace's end")
    assert owner.patch(used, {"metadata": {"finalizers": None}}).taken
    until(lambda: is_gone(admin, used), "the key is gone")


def test_the_garbage_collector_removes_it_with_what_owns_it(admin: Requests, used: dict[str, Any]) -> None:
    metadata = {"name": "release", "namespace": used["metadata"]["namespace"]}
    release = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    uid = admin.create(release).body["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "release", "uid": uid}
    assert admin.patch(used, {"metadata": {"ownerReferences": [reference]}}).taken
    assert admin.delete(release).taken
    # The collector looks for new kinds every 30 s.
    until(lambda: is_gone(admin, used), "the key went with its owner", within=90.0)


def test_the_api_server_finds_no_fault_with_the_policies(control_plane: ControlPlane) -> None:
    def checked() -> list[dict[str, Any]]:
        policies = control_plane.kubectl.get("validatingadmissionpolicies")["items"]
        return [policy["status"]["typeChecking"] for policy in policies if "typeChecking" in policy.get("status", {})]

    until(lambda: len(checked()) == len(POLICIES), "the policies' types are checked")
    assert checked() == [{} for _ in POLICIES]


POLICIES = ("acknowledgement", "consumer-configmaps", "consumer-rolebindings", "key-in-use", "status", "use")
