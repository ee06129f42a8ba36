from collections.abc import Mapping
from typing import Any

import pytest

from byok_api.consent import admits, check_required_recipe
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from tests.support.kinds import PRESETS, key


def expressions(*given: tuple[str, str, list[str] | None]) -> dict[str, Any]:
    written = [
        {"key": name, "operator": operator, **({"values": values} if values else {})}
        for name, operator, values in given
    ]
    return {"namespaceSelector": {"matchExpressions": written}}


@pytest.mark.parametrize(
    ("consumers", "namespace", "labels", "admitted"),
    [
        (None, "keys", None, True),
        (None, "media", {}, False),
        ({}, "keys", None, True),
        ({}, "media", {"team": "a"}, False),
        ({"namespaces": []}, "media", {}, False),
        ({"namespaces": ["media"]}, "media", None, True),
        ({"namespaces": ["media"]}, "med", None, False),
        ({"namespaces": ["media"]}, "keys", None, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, "media", {"team": "a", "x": "y"}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, "media", {"team": "b"}, False),
        ({"namespaceSelector": {"matchLabels": {"team": ""}}}, "media", {}, False),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, "media", None, False),
        (expressions(("team", "In", ["a", "b"])), "media", {"team": "b"}, True),
        (expressions(("team", "In", ["a"])), "media", {}, False),
        (expressions(("team", "NotIn", ["a"])), "media", {}, True),
        (expressions(("team", "NotIn", ["a"])), "media", {"team": "a"}, False),
        (expressions(("team", "NotIn", ["a"])), "media", None, False),
        (expressions(("team", "Exists", None)), "media", {"team": ""}, True),
        (expressions(("team", "Exists", None)), "media", {}, False),
        (expressions(("team", "DoesNotExist", None)), "media", {}, True),
        (expressions(("team", "DoesNotExist", None)), "media", None, False),
        (expressions(("team", "Exists", None), ("team", "NotIn", ["a"])), "media", {"team": "a"}, False),
        ({"namespaces": ["other"], "namespaceSelector": {"matchLabels": {"team": "a"}}}, "media", {"team": "a"}, True),
    ],
    ids=str,
)
def test_a_key_admits_its_own_namespace_and_those_that_its_owner_named(
    consumers: dict[str, Any] | None, namespace: str, labels: Mapping[str, str] | None, *, admitted: bool
) -> None:
    given = {} if consumers is None else {"allowedConsumers": consumers}
    assert admits(key("keys/brand", **given), namespace, labels) is admitted


BASE = (ObjectName(PRESETS, "base"), 1)


@pytest.mark.parametrize(
    ("required", "lineage"),
    [
        (None, []),
        ("base@1", [BASE]),
        (f"{PRESETS}/base@1", [BASE]),
        ("keys/base@1", [(ObjectName("keys", "base"), 1)]),
        ("base@1", [(ObjectName("media", "photo"), 7), BASE]),
    ],
    ids=str,
)
def test_a_required_recipe_in_the_lineage_is_enough(
    required: str | None, lineage: list[tuple[ObjectName, int]]
) -> None:
    owned = key("keys/brand", **({"requiredRecipe": required} if required else {}))
    check_required_recipe(owned, lineage, presets_namespace=PRESETS)


@pytest.mark.parametrize(
    ("required", "lineage", "reason"),
    [
        ("base@1", [], Reason.RequiredRecipeMissing),
        ("base@2", [BASE], Reason.RequiredRecipeMissing),
        ("base@1", [(ObjectName("media", "base"), 1)], Reason.RequiredRecipeMissing),
        ("base@1", [(ObjectName("keys", "base"), 1)], Reason.RequiredRecipeMissing),
        ("keys/base@1", [BASE], Reason.RequiredRecipeMissing),
        ("media/base@1", [(ObjectName("media", "base"), 1)], Reason.KeyInvalid),
        ("a" * 254 + "@1", [BASE], Reason.KeyInvalid),
    ],
    ids=str,
)
def test_a_required_recipe_is_matched_by_namespace_name_and_version(
    required: str, lineage: list[tuple[ObjectName, int]], reason: Reason
) -> None:
    with pytest.raises(Refusal, match="ByokKey keys/brand") as refused:
        check_required_recipe(key("keys/brand", requiredRecipe=required), lineage, presets_namespace=PRESETS)
    assert refused.value.reason is reason
