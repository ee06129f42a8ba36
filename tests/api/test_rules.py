"""Every rule over several fields, kept and broken; its CEL twin is proven by the API server in tests/cluster."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from byok_api.byokkey import ByokKeySpec
from byok_api.crds import KINDS, Kind, structural_schema
from byok_api.fields import Model, broken_transitions, duration, exactly_one
from byok_api.inheritance import nested_model
from byok_api.manifests import ManifestError
from byok_api.signingrecipe import SigningRecipeSpec
from tests.support.kinds import KEY_ARN, key, recipe

MRK = "arn:aws:kms:eu-central-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef"
REPLICA = MRK.replace("eu-central-1", "eu-west-1")
ALIAS = "arn:aws:kms:eu-central-1:111122223333:alias/brand"


def selector(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - any selector
    return {"allowedConsumers": {"namespaceSelector": parts}}


def expression(operator: str, *values: str) -> dict[str, Any]:
    given = {"values": list(values)} if values else {}
    return selector(matchExpressions=[{"key": "team", "operator": operator, **given}])


KEPT_BY_KEYS: list[dict[str, Any]] = [
    {"aws": {"keyArn": MRK, "replicas": [REPLICA]}},
    {"aws": {"keyArn": ALIAS, "replicas": [REPLICA]}},
    {"certificate": {"pem": "-----BEGIN CERTIFICATE-----"}},
    expression("In", "a"),
    expression("Exists"),
    selector(matchLabels={"team": "a"}),
    {"verification": {"staleAfter": "2h", "interval": "1m"}},
    {"verification": {"interval": "24h"}},
    {"leastPrivilege": "Warn"},
]
BROKEN_BY_KEYS: list[tuple[str, dict[str, Any]]] = [
    ("ReplicasAreOfThisKey", {"aws": {"keyArn": KEY_ARN, "replicas": [REPLICA]}}),
    ("ReplicasAreOfThisKey", {"aws": {"keyArn": MRK, "replicas": [MRK]}}),
    ("ReplicasAreOfThisKey", {"aws": {"keyArn": ALIAS, "replicas": [REPLICA.replace("1111", "9999")]}}),
    ("ReplicasAreOfThisKey", {"aws": {"keyArn": MRK, "replicas": [REPLICA.replace("aws:", "aws-cn:")]}}),
    ("NoPrivateKey", {"certificate": {"pem": "-----BEGIN EC PRIVATE KEY-----"}}),
    ("ValuesFitOperator", expression("In")),
    ("ValuesFitOperator", expression("DoesNotExist", "a")),
    ("SelectorNotEmpty", selector()),
    ("SelectorNotEmpty", selector(matchLabels={}, matchExpressions=[])),
    ("StaleAfterAtLeast2h", {"verification": {"staleAfter": "1h59m59s"}}),
    ("IntervalAtLeast1m", {"verification": {"interval": "59s"}}),
    ("IntervalWithinStaleAfter", {"verification": {"interval": "24h1s"}}),
    ("IntervalWithinStaleAfter", {"verification": {"interval": "3h", "staleAfter": "2h"}}),
    ("LeastPrivilegeEnforceRefused", {"leastPrivilege": "Enforce"}),
]
KEPT_BY_RECIPES: list[dict[str, Any]] = [
    {"kmsMode": "managed"},
    {"kmsMode": "byok", "keyRef": {"name": "brand"}},
    {"c2pa": {"requireIngredientChain": True, "ingredients": "Allow"}},
    {"c2pa": {"defaults": {"ai_generated": True, "ai_assisted": False}}},
    {"signerPinning": {"requiresAdminApproval": False}},
]
BROKEN_BY_RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("ManagedNamesNoKey", {"kmsMode": "managed", "keyRef": {"name": "brand"}}),
    ("IngredientsNotBothWays", {"c2pa": {"requireIngredientChain": True, "ingredients": "Forbid"}}),
    ("DefaultsNotBothAiFlags", {"c2pa": {"defaults": {"ai_generated": True, "ai_assisted": True}}}),
    ("AdminApprovalRefused", {"signerPinning": {"requiresAdminApproval": True}}),
]
# What the schema itself already keeps: the one field that there is to choose is required in Python.
KEPT_BY_SCHEMA = {"ExactlyOneProvider", "ExactlyOneCertificateSource"}


def models(model: type[Model]) -> Iterator[type[Model]]:
    yield model
    for _, info, _ in model.marked_fields():
        try:
            yield from models(nested_model(info.annotation))
        except TypeError:
            continue


@pytest.mark.parametrize("spec", KEPT_BY_KEYS, ids=str)
def test_a_key_that_keeps_the_rules_is_taken(spec: dict[str, Any]) -> None:
    assert key(**spec).spec.aws is not None


@pytest.mark.parametrize(("rule", "spec"), BROKEN_BY_KEYS, ids=str)
def test_a_key_that_breaks_a_rule_is_refused_by_its_name(rule: str, spec: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as refused:
        key(**spec)
    assert [finding.rule for finding in refused.value.findings] == [rule]


@pytest.mark.parametrize("spec", KEPT_BY_RECIPES, ids=str)
def test_a_recipe_that_keeps_the_rules_is_taken(spec: dict[str, Any]) -> None:
    assert recipe("media/photo", **spec).spec.version


@pytest.mark.parametrize(("rule", "spec"), BROKEN_BY_RECIPES, ids=str)
def test_a_recipe_that_breaks_a_rule_is_refused_by_its_name(rule: str, spec: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as refused:
        recipe("media/photo", **spec)
    assert [finding.rule for finding in refused.value.findings] == [rule]


def test_every_rule_has_a_case_above() -> None:
    rules = {rule.name for root in (ByokKeySpec, SigningRecipeSpec) for model in models(root) for rule in model.RULES}
    assert rules == {name for name, _ in (*BROKEN_BY_KEYS, *BROKEN_BY_RECIPES)} | KEPT_BY_SCHEMA


class Choice(Model):
    first_one: str | None = None
    other: str | None = None


def test_exactly_one_of_several_is_neither_none_nor_all() -> None:
    rule = exactly_one("Choice", ("first_one", "other"))
    assert [rule.check(choice) for choice in (Choice(), Choice(other="x"), Choice(first_one="x", other="x"))] == [
        False,
        True,
        False,
    ]
    assert rule.cel == "[has(self.firstOne), has(self.other)].exists_one(given, given)"
    assert rule.message == "exactly one of firstOne, other must be set"


def test_a_private_key_in_a_manifest_is_not_repeated() -> None:
    with pytest.raises(ManifestError) as refused:
        key(certificate={"pem": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"})
    assert "MHcCAQEEI" not in str(refused.value)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("VersionUnchanged", {"version": 2}),
    ("ExtendsUnchanged", {"extends": "base@1"}),
    ("MediaTypeUnchanged", {"mediaType": "image"}),
    ("C2paUnchanged", {"c2pa": {"assertions": ["creator"]}}),
    ("WatermarkUnchanged", {"watermark": {"enabled": True}}),
    ("SoftBindingUnchanged", {"softBinding": {"enabled": True}}),
    ("AnchoringUnchanged", {"anchoring": {"enabled": True}}),
    ("RetentionUnchanged", {"retention": {"manifestDays": 1}}),
    ("VerificationUnchanged", {"verification": {"minimumConfidence": 0.5}}),
    ("SignerPinningUnchanged", {"signerPinning": {"keyAlias": "brand"}}),
    ("TimestampUnchanged", {"timestamp": {"url": "https://tsa.example"}}),
]


@pytest.mark.parametrize(("rule", "spec"), CHANGES, ids=str)
def test_what_is_signed_under_a_recipe_can_be_neither_added_nor_removed(rule: str, spec: dict[str, Any]) -> None:
    without, with_it = recipe("media/photo").spec, recipe("media/photo", **spec).spec
    assert [broken.name for broken in broken_transitions(without, with_it)] == [rule]
    assert [broken.name for broken in broken_transitions(with_it, without)] == [rule]
    assert not broken_transitions(with_it, with_it)


@pytest.mark.parametrize(
    "spec",
    [{"description": "x"}, {"keyRef": {"name": "k"}}, {"kmsMode": "managed"}, {"billing": {"meter": "m"}}],
    ids=str,
)
def test_key_description_and_billing_of_a_recipe_may_change(spec: dict[str, Any]) -> None:
    assert not broken_transitions(recipe("media/photo").spec, recipe("media/photo", **spec).spec)


def may_change(model: type[Model], attribute: str) -> set[bool]:
    info = model.model_fields[attribute]
    mark = next(mark for name, _, mark in model.marked_fields() if name == attribute)
    if mark is not None:
        return {mark.mutable}
    nested = nested_model(info.annotation)
    return set().union(*(may_change(nested, name) for name in nested.model_fields))


@pytest.mark.parametrize("attribute", SigningRecipeSpec.model_fields)
def test_marks_and_transition_rules_say_the_same(attribute: str) -> None:
    alias = str(SigningRecipeSpec.model_fields[attribute].alias)
    ruled = any(f"self.{alias} == oldSelf.{alias}" in rule.cel for rule in SigningRecipeSpec.TRANSITIONS)
    assert may_change(SigningRecipeSpec, attribute) == {not ruled}


def validations(schema: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any part of a schema
    match schema:
        case dict():
            for rule in schema.get("x-kubernetes-validations", ()):
                yield rule["rule"], rule["message"]
            for part in schema.values():
                yield from validations(part)
        case list():
            for part in schema:
                yield from validations(part)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_rules_of_the_models_are_those_of_the_schema(kind: Kind) -> None:
    rules = [(rule.cel, rule.message) for model in models(kind.spec) for rule in model.RULES]
    rules += [(rule.cel, rule.message) for model in models(kind.spec) for rule in model.TRANSITIONS]
    assert sorted(validations(structural_schema(kind.spec))) == sorted(rules)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90m", 5400), ("1h30m", 5400), ("1h1h", 7200), ("0s", 0)],
)
def test_durations_add_up_as_in_go(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "1h ", "-1h", "1.5h", "123456h"])
def test_other_spans_of_time_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)
