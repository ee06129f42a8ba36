"""Creating a recipe, or giving it another key, needs the verb `use` on what the recipe names itself."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from byok_api.references import ObjectName
from tests.support.cluster_requests import Answer, Requests, administrator, grant, revoke, until
from tests.support.kinds import KEY_ARN, manifest
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation, install

Verdict = Callable[[Answer], str]

EDITOR = "bob@example.com"
OWN_KEY = {"keyRef": {"name": "brand"}}
KEY = {"keyRef": {"name": "brand", "namespace": "brand-keys"}}
OTHER_KEY = {"keyRef": {"name": "other", "namespace": "brand-keys"}}
MANAGED = {"kmsMode": "managed"}
CHILD = {"extends": "base@1"}
USES_KEYS, USES_OWN_KEYS = ("byok-key-user", "brand-keys"), ("byok-key-user", "media")
USES_RECIPES = ("byok-recipe-user", "media")
Grants = tuple[tuple[str, str], ...]
"""Roles, and where they are bound."""

CREATED: list[tuple[dict[str, Any], Grants, str]] = [
    ({}, (), "taken"),
    ({"kmsMode": "byok"}, (), "taken"),
    ({"extends": "image-basic-v1@1"}, (), "taken"),
    ({"extends": "image-basic-v10@1"}, (), "like a preset"),
    (OWN_KEY, (), "own key"),
    (OWN_KEY, (USES_OWN_KEYS,), "taken"),
    (OWN_KEY, (USES_KEYS,), "own key"),
    (OWN_KEY, (("byok-key-owner", "media"), ("byok-signer-user", "media"), USES_RECIPES), "own key"),
    (KEY, (), "key"),
    (KEY, (USES_KEYS,), "taken"),
    (KEY, (USES_OWN_KEYS,), "key"),
    (CHILD, (), "parent"),
    (CHILD, (USES_RECIPES,), "taken"),
    (CHILD, (("byok-recipe-user", "brand-keys"),), "parent"),
    (CHILD, (USES_OWN_KEYS, ("byok-signer-user", "media")), "parent"),
    (KEY | CHILD, (USES_RECIPES,), "key"),
    (KEY | CHILD, (USES_KEYS,), "parent"),
    (KEY | CHILD, (USES_KEYS, USES_RECIPES), "taken"),
    (MANAGED, (USES_KEYS, USES_OWN_KEYS), "no managed key"),
]
# From a recipe that somebody else wrote.
CHANGED: list[tuple[dict[str, Any], dict[str, Any], Grants, str]] = [
    (KEY, {"description": "For print."}, (), "taken"),
    (KEY, {"billing": {"meter": "photos"}}, (), "taken"),
    (KEY | CHILD, {"description": "For print."}, (), "taken"),
    (KEY, OTHER_KEY, (), "other key"),
    (KEY, OTHER_KEY, (USES_KEYS,), "taken"),
    (KEY, {"keyRef": {"namespace": None}}, (USES_KEYS,), "own key"),
    (KEY, {"keyRef": None}, (), "taken"),
    (KEY, {"keyRef": None, **MANAGED}, (USES_KEYS,), "no managed key"),
    (KEY, {"kmsMode": "byok"}, (), "key"),
    (KEY, {"kmsMode": "byok"}, (USES_KEYS,), "taken"),
    (KEY | CHILD, {"keyRef": None}, (USES_KEYS,), "parent"),
    (KEY | CHILD, {"keyRef": None}, (USES_RECIPES,), "taken"),
    (CHILD, KEY, (USES_KEYS,), "parent"),
    (MANAGED, {"kmsMode": None}, (), "taken"),
    (MANAGED | CHILD, {"kmsMode": None}, (), "parent"),
]


def recipe(namespace: str, spec: dict[str, Any], name: str = "photo") -> dict[str, Any]:
    """Write a recipe; where a table says `brand-keys`, the test's own namespace of keys is meant."""
    return manifest("SigningRecipe", f"{namespace}/{name}", {"version": 1, **placed(spec, namespace)})


def placed(spec: dict[str, Any], namespace: str) -> dict[str, Any]:
    key = spec.get("keyRef")
    return {**spec, "keyRef": {**key, "namespace": f"{namespace}-keys"}} if key and key.get("namespace") else spec


def granted(admin: Requests, grants: Grants, namespace: str) -> None:
    for role, where in grants:
        grant(admin, role, EDITOR, where.replace("brand-keys", f"{namespace}-keys").replace("media", namespace))


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(("spec", "grants", "expected"), CREATED, ids=str)
def test_a_new_recipe_needs_use_on_what_it_names(  # noqa: PLR0913 - a table's columns and four fixtures
    spec: dict[str, Any],
    grants: Grants,
    expected: str,
    *,
    admin: Requests,
    editor: Requests,
    namespace: str,
    verdict: Verdict,
) -> None:
    granted(admin, grants, namespace)
    assert verdict(editor.create(recipe(namespace, spec), dry_run=True)) == expected
    assert verdict(editor.apply(recipe(namespace, spec), dry_run=True)) == expected


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(("spec", "change", "grants", "expected"), CHANGED, ids=str)
def test_another_key_needs_use_on_all_that_the_recipe_then_names(  # noqa: PLR0913 - as above
    spec: dict[str, Any],
    change: dict[str, Any],
    grants: Grants,
    expected: str,
    *,
    admin: Requests,
    editor: Requests,
    namespace: str,
    verdict: Verdict,
) -> None:
    written = recipe(namespace, spec)
    assert admin.create(written).taken
    granted(admin, grants, namespace)
    assert verdict(editor.patch(written, {"spec": placed(change, namespace)})) == expected


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("spec", [KEY | CHILD, MANAGED], ids=str)
def test_an_object_that_is_applied_unchanged_asks_for_nothing(
    admin: Requests, editor: Requests, namespace: str, spec: dict[str, Any]
) -> None:
    written = recipe(namespace, spec)
    stored = admin.create(written).body
    labelled = {**stored, "metadata": {**stored["metadata"], "labels": {"team": "media"}}}
    answers = [editor.replace(stored), editor.replace(labelled), editor.apply(written)]
    assert [answer.message for answer in answers] == ["", "", ""]


def test_a_grant_may_name_the_key(admin: Requests, editor: Requests, namespace: str, keys: str) -> None:
    rules = [{"apiGroups": ["byok.dev"], "resources": ["byokkeys"], "resourceNames": ["brand"], "verbs": ["use"]}]
    metadata = {"name": "uses-brand", "namespace": keys}
    api = "rbac.authorization.k8s.io"
    subject = {"apiGroup": api, "kind": "User", "name": EDITOR}
    role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    reference = {"apiGroup": api, "kind": "Role", "name": "uses-brand"}
    binding = {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": metadata}
    assert admin.create(role).taken
    assert admin.create({**binding, "roleRef": reference, "subjects": [subject]}).taken
    until(lambda: editor.create(recipe(namespace, KEY)).taken, "the grant is in force")
    assert not editor.create(recipe(namespace, OTHER_KEY, "other")).taken


def test_a_grant_that_was_revoked_is_none(
    admin: Requests, editor: Requests, namespace: str, keys: str, verdict: Verdict
) -> None:
    grant(admin, "byok-key-user", EDITOR, keys)
    assert editor.create(recipe(namespace, KEY), dry_run=True).taken
    revoke(admin, "byok-key-user", EDITOR, keys)
    assert verdict(editor.create(recipe(namespace, KEY))) == "key"


MANAGED_KEY = ObjectName("byok-system", "managed")


@pytest.fixture(scope="module")
def managed_key(control_plane: ControlPlane, installation: Installation) -> Iterator[None]:
    """An installation that names a managed key; the one of the other tests names none."""
    install(control_plane, replace(installation, managed_key=MANAGED_KEY))
    yield
    install(control_plane, installation)
    with administrator(control_plane) as admin:
        for kind in ("Role", "RoleBinding"):
            name = {"name": "byok-operator-managed-key", "namespace": MANAGED_KEY.namespace}
            assert admin.delete({"kind": kind, "metadata": name}).taken


@pytest.mark.usefixtures("keys", "managed_key")
def test_managed_needs_use_on_the_managed_key(
    admin: Requests, editor: Requests, namespace: str, verdict: Verdict
) -> None:
    create = partial(editor.create, recipe(namespace, MANAGED))
    grant(admin, "byok-key-user", EDITOR, namespace)
    until(lambda: verdict(create()) == "managed", "the policy names the managed key")
    grant(admin, "byok-key-user", EDITOR, MANAGED_KEY.namespace)
    until(lambda: create().taken, "the managed key may be used")
    revoke(admin, "byok-key-user", EDITOR, MANAGED_KEY.namespace)


@pytest.mark.usefixtures("managed_key")
def test_the_operator_applies_the_managed_key_and_no_other(operator: Requests) -> None:
    managed, other = (
        manifest("ByokKey", f"{MANAGED_KEY.namespace}/{name}", {"aws": {"keyArn": KEY_ARN}})
        for name in (MANAGED_KEY.name, "other")
    )
    until(lambda: operator.apply(managed, dry_run=True).taken, "the operator may apply the managed key")
    assert "cannot patch resource" in operator.apply(other, dry_run=True).message
    assert "cannot create resource" in operator.create(managed, dry_run=True).message


PRESET = manifest("SigningRecipe", "byok-system/image-basic-v1", {"version": 1, **MANAGED})


def test_the_operator_applies_presets_whatever_they_name(admin: Requests, operator: Requests) -> None:
    assert operator.apply(PRESET, dry_run=True).message == ""
    grant(admin, "byok-edit", EDITOR, "byok-system")
    assert "spec.kmsMode: managed" in admin.named(EDITOR).apply(PRESET, dry_run=True).message
    revoke(admin, "byok-edit", EDITOR, "byok-system")


def test_the_operator_applies_nothing_else(operator: Requests, namespace: str) -> None:
    elsewhere = recipe(namespace, {}, "image-basic-v1")
    unknown = manifest("SigningRecipe", "byok-system/photo", {"version": 1})
    for document in (elsewhere, unknown):
        assert "cannot patch resource" in operator.apply(document, dry_run=True).message
    assert "cannot create resource" in operator.create(PRESET, dry_run=True).message
