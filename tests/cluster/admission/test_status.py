"""Only the operator writes status, whatever RBAC allows, and by server-side apply alone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cluster_requests import Answer, Requests
from tests.support.kinds import KEY_ARN, manifest

OWNER = "alice@example.com"
# RBAC allows this group everything.
EVERYTHING = "system:masters"
STATUS = {"phase": "Active", "recipes": 3}
WAYS: dict[str, Callable[[Requests, dict[str, Any]], Answer]] = {
    "apply": lambda writer, key: writer.apply({**bare(key), "status": STATUS}, subresource="status"),
    "patch": lambda writer, key: writer.patch(key, {"status": STATUS}, subresource="status"),
    "replace": lambda writer, key: writer.replace({**key, "status": STATUS}, subresource="status"),
}


def bare(key: dict[str, Any]) -> dict[str, Any]:
    names = {name: key["metadata"][name] for name in ("namespace", "name")}
    return {"apiVersion": key["apiVersion"], "kind": key["kind"], "metadata": names}


@pytest.fixture
def key(admin: Requests, keys: str) -> dict[str, Any]:
    return admin.create(manifest("ByokKey", f"{keys}/brand", {"aws": {"keyArn": KEY_ARN}})).body


@pytest.mark.parametrize("way", WAYS)
def test_a_forged_status_is_refused(
    admin: Requests, key: dict[str, Any], verdict: Callable[[Answer], str], way: str
) -> None:
    assert verdict(WAYS[way](admin.named(OWNER, EVERYTHING), key)) == "status"
    assert "status" not in admin.read(key).body


@pytest.mark.parametrize(
    "writer",
    [
        "admin",
        "system:kube-controller-manager",
        "system:serviceaccount:byok-system:byok-signer",
        "system:serviceaccount:media:byok-operator",
        "system:serviceaccount:byok-system:byok-operator2",
        "byok-operator",
    ],
)
def test_nobody_is_taken_for_the_operator(admin: Requests, key: dict[str, Any], writer: str) -> None:
    answer = WAYS["apply"](admin.named(writer, EVERYTHING), key)
    assert (answer.status, f"and {writer} is not it" in answer.message) == (403, True)


def test_a_forged_status_of_a_recipe_is_refused(admin: Requests, namespace: str) -> None:
    recipe = manifest("SigningRecipe", f"{namespace}/photo", {"version": 1})
    assert admin.create(recipe).taken
    answer = admin.patch(recipe, {"status": {"observedGeneration": 1}}, subresource="status")
    assert "writes the status of a SigningRecipe" in answer.message


def test_the_operator_applies_status_and_may_do_it_in_no_other_way(operator: Requests, key: dict[str, Any]) -> None:
    assert WAYS["apply"](operator, key).body["status"] == STATUS
    assert WAYS["patch"](operator, key).taken
    assert 'cannot update resource "byokkeys/status"' in WAYS["replace"](operator, key).message


def test_status_cannot_be_smuggled_in_with_the_spec(admin: Requests, operator: Requests, keys: str) -> None:
    forged = manifest("ByokKey", f"{keys}/brand", {"aws": {"keyArn": KEY_ARN}}) | {"status": {"phase": "Failed"}}
    assert "status" not in admin.create(forged).body
    assert WAYS["apply"](operator, forged).taken
    assert admin.apply(forged).body["status"] == STATUS
    assert admin.patch(forged, {"status": None}).body["status"] == STATUS


def test_the_operator_cannot_change_a_spec_with_the_status(operator: Requests, key: dict[str, Any]) -> None:
    changed = {**bare(key), "spec": {"aws": {"keyArn": KEY_ARN}, "state": "Deactivated"}, "status": STATUS}
    answer = operator.apply(changed, subresource="status")
    assert (answer.body["spec"], answer.body["metadata"]["generation"]) == (key["spec"], 1)
    assert 'cannot patch resource "byokkeys"' in operator.apply(changed).message
