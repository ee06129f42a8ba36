"""Models and API server agree on what is wrong, and the API server says it in words that help."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from byok_api.crds import KINDS, crd
from byok_api.manifests import ManifestError
from byok_api.objects import parse_object
from byok_api.signingrecipe import SigningRecipe
from tests.api.test_rules import BROKEN_BY_KEYS, BROKEN_BY_RECIPES, CHANGES, KEPT_BY_KEYS, KEPT_BY_RECIPES
from tests.support.api_messages import shortened
from tests.support.bad_manifests import BAD_KEYS, BAD_RECIPES, GOOD_KEYS, GOOD_RECIPES
from tests.support.cluster_requests import Requests, administrator
from tests.support.kinds import KEY_ARN, manifest, recipe, resolved
from tests.testenv.control_plane import ControlPlane

Spec = dict[str, Any]
_DATA = Path(__file__).parents[1] / "data" / "cluster"
MESSAGES: dict[str, dict[str, str]] = yaml.safe_load((_DATA / "crd_messages.yaml").read_text())
MINIMAL: dict[str, Spec] = {"ByokKey": {"aws": {"keyArn": KEY_ARN}}, "SigningRecipe": {"version": 1}}


@pytest.fixture(scope="module")
def admin(control_plane: ControlPlane) -> Iterator[Requests]:
    with administrator(control_plane) as requests:
        yield requests


def document(kind: str, spec: Spec, namespace: str = "default") -> dict[str, Any]:
    return manifest(kind, f"{namespace}/brand", MINIMAL[kind] | spec)


def good() -> Iterator[tuple[str, Spec]]:
    for kind, specs in (("ByokKey", GOOD_KEYS.values()), ("SigningRecipe", GOOD_RECIPES.values())):
        yield from ((kind, spec) for spec in specs)
    for kind, kept in (("ByokKey", KEPT_BY_KEYS), ("SigningRecipe", KEPT_BY_RECIPES)):
        yield from ((kind, spec) for spec in kept)


def bad() -> Iterator[tuple[str, str, Spec]]:
    for kind, specs in (("ByokKey", BAD_KEYS), ("SigningRecipe", BAD_RECIPES)):
        yield from ((kind, what, spec) for what, spec in specs.items())


def broken() -> Iterator[tuple[str, str, Spec]]:
    for kind, cases in (("ByokKey", BROKEN_BY_KEYS), ("SigningRecipe", BROKEN_BY_RECIPES)):
        yield from ((kind, rule, spec) for rule, spec in cases)
    yield "ByokKey", "ExactlyOneCertificateSource", {"certificate": {}}


@pytest.mark.parametrize(("kind", "spec"), list(good()), ids=str)
def test_what_the_models_take_the_api_server_takes(admin: Requests, kind: str, spec: Spec) -> None:
    assert admin.create(document(kind, spec), dry_run=True).message == ""
    parse_object(document(kind, spec), "test")


@pytest.mark.parametrize(("kind", "what", "spec"), list(bad()), ids=lambda part: part if isinstance(part, str) else "")
def test_what_is_wrong_is_refused_by_both(admin: Requests, kind: str, what: str, spec: Spec) -> None:
    assert shortened(admin.create(document(kind, spec), dry_run=True).message) == MESSAGES[kind][what]
    with pytest.raises(ManifestError):
        parse_object(document(kind, spec), "test")


@pytest.mark.parametrize(("kind", "rule", "spec"), list(broken()), ids=str)
def test_a_broken_rule_is_told_in_its_own_words(admin: Requests, kind: str, rule: str, spec: Spec) -> None:
    assert shortened(admin.create(document(kind, spec), dry_run=True).message) == MESSAGES["rules"][rule]
    with pytest.raises(ManifestError):
        parse_object(document(kind, spec), "test")


def test_a_key_without_a_provider_is_told_so(admin: Requests) -> None:
    answer = admin.create(manifest("ByokKey", "default/brand", {}), dry_run=True)
    assert shortened(answer.message) == MESSAGES["rules"]["ExactlyOneProvider"]


def test_a_private_key_in_a_manifest_is_not_repeated(admin: Requests) -> None:
    key = document("ByokKey", {"certificate": {"pem": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"}})
    assert "MHcCAQEEI" not in admin.create(key, dry_run=True).message


@pytest.mark.parametrize(("rule", "spec"), CHANGES, ids=str)
def test_what_is_signed_under_a_recipe_can_be_neither_added_nor_removed(
    admin: Requests, namespace: str, rule: str, spec: Spec
) -> None:
    without = manifest("SigningRecipe", f"{namespace}/without", {"version": 1})
    with_it = manifest("SigningRecipe", f"{namespace}/with", {"version": 1} | spec)
    assert (admin.create(without).message, admin.create(with_it).message) == ("", "")
    removed = {name: MINIMAL["SigningRecipe"].get(name) for name in spec}
    for answer in (admin.patch(without, {"spec": spec}), admin.patch(with_it, {"spec": removed})):
        assert shortened(answer.message) == MESSAGES["rules"][rule]


@pytest.mark.parametrize(
    "change",
    [
        {"description": "x"},
        {"billing": {"meter": "m"}},
        {"keyRef": {"name": "k"}},
        {"kmsMode": "managed"},
        # A set is the same in any order, for CEL and for the hash.
        {"c2pa": {"assertions": ["editor", "creator"]}},
    ],
    ids=str,
)
def test_what_may_change_in_a_recipe_leaves_its_hash_alone(admin: Requests, namespace: str, change: Spec) -> None:
    spec = {"c2pa": {"assertions": ["creator", "editor"]}}
    before = admin.create(document("SigningRecipe", spec, namespace)).body
    after = admin.patch(before, {"spec": change})
    assert after.message == ""
    assert hash_of(after.body) == hash_of(before) == resolved(recipe("media/x", **spec)).hash


def hash_of(stored: dict[str, Any]) -> str:
    parsed = parse_object(stored, "test")
    assert isinstance(parsed, SigningRecipe)
    return resolved(parsed).hash


def test_no_message_of_a_rule_is_missing_here() -> None:
    def rules(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a schema
        if isinstance(schema, dict):
            yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from rules(part)

    told = [message.partition("Invalid value: ")[2] for message in MESSAGES["rules"].values()]
    assert sorted(set(told)) == sorted({message for kind in KINDS for message in rules(crd(kind))})


@pytest.mark.parametrize(
    ("kind", "spec", "stored"),
    [
        ("ByokKey", {"description": None}, {}),
        ("ByokKey", {"allowedConsumers": {"namespaces": None}}, {"allowedConsumers": {}}),
        ("SigningRecipe", {"c2pa": {"defaults": {"creator": None}}}, {"c2pa": {"defaults": {}}}),
        ("SigningRecipe", {"version": 1.0}, {"version": 1}),
    ],
    ids=str,
)
def test_what_only_the_models_refuse_the_api_server_never_stores(
    admin: Requests, kind: str, spec: Spec, stored: Spec
) -> None:
    with pytest.raises(ManifestError):
        parse_object(document(kind, spec), "test")
    taken = admin.create(document(kind, spec), dry_run=True).body
    assert taken["spec"] == MINIMAL[kind] | stored
    parse_object(taken, "test")


# A structural schema cannot say it; the operator says so in status, and the signer never signs under it.
@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("SigningRecipe", {"c2pa": {"defaults": {"editor": 5}}}),
        ("SigningRecipe", {"c2pa": {"defaults": {"exif": {"Make": None}}}}),
        ("ByokKey", {"acknowledgement": {"terms": "x", "acceptedBy": "admin", "acceptedAt": "0000-01-01T00:00:00Z"}}),
    ],
    ids=str,
)
def test_what_only_the_models_can_refuse_is_refused_when_it_is_read(admin: Requests, kind: str, spec: Spec) -> None:
    taken = admin.create(document(kind, spec), dry_run=True)
    assert taken.message == ""
    with pytest.raises(ManifestError):
        parse_object(taken.body, "test")
