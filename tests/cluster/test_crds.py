"""What the API server makes of the CRDs: what is stored, listed, selected, and who owns which part of status."""

from collections.abc import Iterator
from typing import Any

import pytest

from byok_api.crds import KINDS, Kind
from byok_api.objects import parse_object
from tests.support.cluster_requests import TABLE, Requests, administrator
from tests.support.kinds import KEY_ARN, manifest
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation
from tests.testenv.kubectl import Kubectl

NOW = "2026-11-22T07:00:00Z"
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def admin(control_plane: ControlPlane) -> Iterator[Requests]:
    with administrator(control_plane) as requests:
        yield requests


@pytest.fixture
def operator(admin: Requests, installation: Installation) -> Requests:
    account = installation.operator_account
    return admin.named(f"system:serviceaccount:{account.namespace}:{account.name}")


@pytest.fixture
def key(admin: Requests, namespace: str) -> dict[str, Any]:
    document = manifest("ByokKey", f"{namespace}/brand", {"aws": {"keyArn": KEY_ARN}, "state": "Active"})
    assert admin.create(document).message == ""
    return document


@pytest.fixture
def recipe(admin: Requests, namespace: str) -> dict[str, Any]:
    spec = {"version": 3, "extends": "image-basic-v1@1", "mediaType": "image", "keyRef": {"name": "brand"}}
    document = manifest("SigningRecipe", f"{namespace}/photo-v3", spec)
    assert admin.create(document).message == ""
    return document


def served(kubectl: Kubectl, kind: Kind) -> dict[str, Any]:
    return kubectl.get("crd", f"{kind.plural}.byok.dev")


def nodes(schema: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nodes(part)


@kinds
def test_the_api_server_finds_no_fault_with_the_crd(kubectl: Kubectl, kind: Kind) -> None:
    conditions = {each["type"]: each["status"] for each in served(kubectl, kind)["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


@kinds
def test_no_field_has_a_default_which_would_override_a_parents_value(kubectl: Kubectl, kind: Kind) -> None:
    assert not [node for node in nodes(served(kubectl, kind)["spec"]["versions"]) if "default" in node]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("ByokKey", {"aws": {"keyArn": KEY_ARN}}),
        ("ByokKey", {"aws": {"keyArn": KEY_ARN}, "verification": {}, "allowedConsumers": {}}),
        ("SigningRecipe", {"version": 1}),
        ("SigningRecipe", {"version": 1, "c2pa": {}, "watermark": {}, "keyRef": {"name": "brand"}}),
    ],
    ids=str,
)
def test_what_is_stored_is_what_was_written_and_nothing_more(
    admin: Requests, namespace: str, kind: str, spec: dict[str, Any]
) -> None:
    stored = admin.create(manifest(kind, f"{namespace}/any", spec)).body
    assert stored["spec"] == spec
    parsed = parse_object(stored, "test")
    assert (parsed.metadata.generation, parsed.metadata.uid) == (1, stored["metadata"]["uid"])


def test_an_update_counts_generations_and_a_status_does_not(
    admin: Requests, operator: Requests, key: dict[str, Any]
) -> None:
    status = {"status": {"phase": "Active"}}
    assert operator.patch(key, status, subresource="status").body["metadata"]["generation"] == 1
    assert admin.patch(key, {"metadata": {"annotations": {"a": "b"}}}).body["metadata"]["generation"] == 1
    assert admin.patch(key, {"spec": {"state": "Deactivated"}}).body["metadata"]["generation"] == 2


def condition(kind: str, status: str = "True", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any part
    given = {"type": kind, "status": status, "reason": "Verified", "message": "It holds.", "lastTransitionTime": NOW}
    return given | changes


def with_status(document: dict[str, Any], **status: Any) -> dict[str, Any]:  # noqa: ANN401 - any status
    return {**{part: document[part] for part in ("apiVersion", "kind", "metadata")}, "status": status}


def types(stored: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in stored["status"]["conditions"]}


def test_conditions_are_merged_by_their_type(operator: Requests, key: dict[str, Any]) -> None:
    ours = with_status(key, conditions=[condition("Accepted"), condition("Ready", "Unknown")])
    theirs = with_status(key, conditions=[condition("Audited")])
    assert operator.apply(ours, manager="byok-operator", subresource="status").taken
    assert operator.apply(theirs, manager="other", subresource="status").taken
    ours = with_status(key, conditions=[condition("Ready", "False")])
    stored = operator.apply(ours, manager="byok-operator", subresource="status").body
    assert types(stored) == {"Ready": "False", "Audited": "True"}


def test_a_condition_is_given_once(operator: Requests, key: dict[str, Any]) -> None:
    twice = with_status(key, conditions=[condition("Ready"), condition("Ready", "False")])
    answer = operator.apply(twice, subresource="status")
    assert "duplicate entries for key" in answer.message


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"status": "Maybe"}, 'Unsupported value: "Maybe"'),
        ({"reason": "not one word"}, 'status.conditions[0].reason: Invalid value: "not one word"'),
        ({"lastTransitionTime": "now"}, "must be of type date-time"),
        ({"message": "x" * 2049}, "status.conditions[0].message: Too long"),
        ({"observedGeneration": -1}, "should be greater than or equal to 0"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_not_even_the_operator_writes_a_condition_that_is_none(
    operator: Requests, key: dict[str, Any], changes: dict[str, Any], found: str
) -> None:
    broken = with_status(key, conditions=[condition("Ready", **changes)])
    assert found in operator.apply(broken, subresource="status").message


def test_a_status_from_an_older_look_at_the_object_is_a_conflict(
    admin: Requests, operator: Requests, key: dict[str, Any]
) -> None:
    seen = admin.read(key).body["metadata"]["resourceVersion"]
    assert admin.patch(key, {"spec": {"state": "Deactivated"}}).taken
    stale = with_status(key, phase="Active")
    stale["metadata"] = {**stale["metadata"], "resourceVersion": seen}
    answer = operator.apply(stale, subresource="status")
    assert (answer.status, "the object has been modified" in answer.message) == (409, True)


COLUMNS: dict[str, list[tuple[str, bool, Any]]] = {
    "ByokKey": [
        ("Name", False, "brand"),
        ("Phase", False, "Active"),
        ("Ready", False, "True"),
        ("Reason", False, "Verified"),
        ("Algorithm", False, "ES256"),
        ("Recipes", False, 4),
        ("Message", True, "It holds."),
        ("Key ARN", True, KEY_ARN),
    ],
    "SigningRecipe": [
        ("Name", False, "photo-v3"),
        ("Version", False, 3),
        ("Media", False, "image"),
        ("Extends", False, "image-basic-v1@1"),
        ("Ready", False, "True"),
        ("Reason", False, "Verified"),
        ("Message", True, "It holds."),
        ("Key", True, "brand"),
        ("Hash", True, "0" * 64),
    ],
}
STATUSES: dict[str, dict[str, Any]] = {
    "ByokKey": {"phase": "Active", "algorithm": "ES256", "recipes": 4, "lastVerifiedTime": NOW},
    "SigningRecipe": {"effectiveHash": "0" * 64, "key": {"namespace": "media", "name": "brand"}},
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_the_columns_say_how_things_stand(
    admin: Requests, operator: Requests, key: dict[str, Any], recipe: dict[str, Any], kind: str
) -> None:
    document = key if kind == "ByokKey" else recipe
    status = with_status(document, conditions=[condition("Ready")], **STATUSES[kind])
    assert operator.apply(status, subresource="status").message == ""
    table = admin.list(document, accept=TABLE).body
    (row,) = (each["cells"] for each in table["rows"])
    cells = [
        (column["name"], column["priority"] > 0, cell)
        for column, cell in zip(table["columnDefinitions"], row, strict=True)
    ]
    assert [each for each in cells if each[0] not in {"Age", "Verified"}] == COLUMNS[kind]
    assert {name for name, _, cell in cells if cell is None} == set()


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (f"spec.aws.keyArn={KEY_ARN}", ["brand"]),
        ("spec.aws.keyArn=arn", []),
        ("spec.state=Active", ["brand"]),
        ("spec.state=Deactivated", []),
        ("status.phase=Validating", ["brand"]),
        ("status.phase!=Validating", []),
    ],
)
def test_keys_are_selected_by_their_fields(
    admin: Requests, operator: Requests, key: dict[str, Any], selector: str, found: list[str]
) -> None:
    assert operator.apply(with_status(key, phase="Validating"), subresource="status").taken
    assert names(admin, key, selector) == found


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("spec.extends=image-basic-v1@1", ["photo-v3"]),
        ("spec.keyRef.name=brand,spec.mediaType=image", ["photo-v3"]),
        ("spec.keyRef.name=other", []),
        ("spec.mediaType=audio", []),
    ],
)
def test_recipes_are_selected_by_their_fields(
    admin: Requests, recipe: dict[str, Any], selector: str, found: list[str]
) -> None:
    assert names(admin, recipe, selector) == found


def names(admin: Requests, document: dict[str, Any], selector: str) -> list[str]:
    return [each["metadata"]["name"] for each in admin.list(document, selector=selector).body["items"]]


def test_a_field_that_is_not_selectable_is_refused(admin: Requests, key: dict[str, Any]) -> None:
    assert "field label not supported: spec.description" in admin.list(key, selector="spec.description=x").message
