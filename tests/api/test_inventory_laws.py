"""Laws of the inventory that hold for whatever changes come, in whatever order."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.inventory import KEY, RECIPE, Inventory, Known, Unreadable
from byok_api.objects import Identity
from byok_api.ownership import KeyOwnership
from byok_api.references import ObjectName
from tests.support.manifests import KEY_ARN, PRESETS, key, pem_of_identity, recipe
from tests.support.pki import certified, identity, new_key

NAMESPACES = (PRESETS, "media", "news")
NAMES = ("one", "two", "three")
ARNS = (KEY_ARN, KEY_ARN[:-1] + "0", KEY_ARN.split(":key/")[0] + ":alias/brand")
PEMS = (
    pem_of_identity(identity()),
    pem_of_identity(certified(new_key(identity().algorithm), identity().algorithm)),
    "garbage",
)

names = st.builds(ObjectName, st.sampled_from(NAMESPACES), st.sampled_from(NAMES))
selectors = st.sampled_from(
    [
        {"namespaces": ["media"]},
        {"namespaceSelector": {"matchLabels": {"team": "a"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}},
    ]
)
key_specs = st.fixed_dictionaries(
    {"aws": st.sampled_from(ARNS).map(lambda arn: {"keyArn": arn})},
    optional={
        "certificate": st.sampled_from([None, *PEMS]).map(lambda pem: {"pem": pem} if pem else None),
        "state": st.sampled_from(["Active", "Deactivated"]),
        "allowedConsumers": selectors,
        "requiredRecipe": st.sampled_from(["one@1", "two@2", "news/one@1"]),
    },
)
recipe_specs = st.fixed_dictionaries(
    {
        "keyRef": st.none()
        | st.builds(
            lambda namespace, name: {"namespace": namespace, "name": name},
            st.sampled_from(NAMESPACES),
            st.sampled_from(NAMES),
        )
    },
    optional={
        "version": st.sampled_from([1, 2]),
        "extends": st.sampled_from(["one@1", "two@1", "two@2", "three@1", "four@1"]),
        "mediaType": st.sampled_from(["image", "video"]),
        "c2pa": st.sampled_from([{"enabled": False}, {"assertions": ["creator"]}]),
    },
)


def _aged(found: ByokKey, day: int | None) -> ByokKey:
    created = datetime(2026, 1, day, tzinfo=UTC) if day else None
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"creation_timestamp": created})})


def _key(name: ObjectName, spec: dict[str, Any], day: int | None) -> ByokKey:
    return _aged(key(str(name), **spec), day)


def _unreadable(kind: str, name: ObjectName) -> Unreadable:
    return Unreadable(kind, name, Reason.KeyInvalid, f"{name} is broken")


objects: st.SearchStrategy[Known] = st.one_of(
    st.builds(_key, names, key_specs, st.sampled_from([None, 1, 2])),
    st.builds(lambda name, spec: recipe(str(name), **spec), names, recipe_specs),
    st.builds(_unreadable, st.sampled_from([KEY, RECIPE]), names),
)
labels = st.sampled_from([None, {}, {"team": "a"}, {"team": "b"}])
described = st.dictionaries(st.sampled_from(NAMESPACES), labels.filter(lambda found: found is not None), max_size=3)


class Held:
    """An inventory under change, and what it ought to hold."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.inventory = Inventory(rules)
        self.objects: dict[Identity, Known] = {}
        self.labels: dict[str, Any] = {}

    def put(self, found: Known) -> frozenset[Identity]:
        self.objects[found.kind, found.name] = found
        return self.inventory.put(found)

    def remove(self, kind: str, name: ObjectName) -> frozenset[Identity]:
        self.objects.pop((kind, name), None)
        return self.inventory.remove(kind, name)

    def describe(self, namespace: str, found: dict[str, str] | None) -> frozenset[Identity]:
        self.labels.pop(namespace, None)
        self.labels |= {namespace: found} if found is not None else {}
        return self.inventory.describe_namespace(namespace, found)

    def replace(self, found: list[Known], namespaces: dict[str, Any]) -> frozenset[Identity]:
        self.objects = {(each.kind, each.name): each for each in found}
        self.labels = dict(namespaces)
        return self.inventory.replace_all(found, namespaces)


Change = Callable[[Held], frozenset[Identity]]
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda found: lambda held: held.put(found), objects),
    st.builds(lambda found: lambda held: held.put(found), objects),
    st.builds(lambda kind, name: lambda held: held.remove(kind, name), st.sampled_from([KEY, RECIPE]), names),
    st.builds(lambda name, found: lambda held: held.describe(name, found), st.sampled_from(NAMESPACES), labels),
    st.builds(lambda found, spaces: lambda held: held.replace(found, spaces), st.lists(objects, max_size=8), described),
)
rules = st.builds(
    Rules,
    installation=st.just("test"),
    presets_namespace=st.just(PRESETS),
    managed_key=st.just(ObjectName("media", "one")),
    ownership=st.sampled_from([None, None, KeyOwnership({"media": ("arn:aws:kms:*:*:key/*",), "news": (KEY_ARN,)})]),
)


def judged(inventory: Inventory) -> dict[Identity, object]:
    """Every standing by identity; of a key with the recipes that count for it."""
    found: dict[Identity, object] = {
        (KEY, name): (inventory.key(name), inventory.recipes_of(name)) for name in inventory.key_names()
    }
    return found | {(RECIPE, name): inventory.recipe(name) for name in inventory.recipe_names()}


def fresh(held: Held) -> Inventory:
    """Put the same objects into an inventory that has seen nothing else, the last ones first."""
    inventory = Inventory(held.rules)
    inventory.replace_all(reversed(held.objects.values()), held.labels)
    return inventory


@settings(max_examples=120, deadline=None)
@given(rules=rules, sequence=st.lists(changes, min_size=2, max_size=12))
def test_whatever_changed_before_each_standing_is_that_of_a_fresh_inventory_and_changes_are_told(
    rules: Rules, sequence: list[Change]
) -> None:
    held, before = Held(rules), dict[Identity, object]()
    for change in sequence:
        concerned = change(held)
        after = judged(held.inventory)
        assert after == judged(fresh(held))
        assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= concerned
        before = after


@settings(max_examples=60, deadline=None)
@given(sequence=st.lists(changes, min_size=1, max_size=8))
def test_what_is_as_it_was_concerns_nobody(sequence: list[Change]) -> None:
    held = Held(Rules(installation="test", presets_namespace=PRESETS))
    for change in sequence:
        change(held)
    assert not held.inventory.replace_all(list(held.objects.values()), held.labels)
    assert not any(held.inventory.put(found) for found in held.objects.values())


@settings(max_examples=60, deadline=None)
@given(sequence=st.lists(changes, min_size=1, max_size=8))
def test_an_inventory_that_loses_everything_keeps_nothing(sequence: list[Change]) -> None:
    held = Held(Rules(installation="test", presets_namespace=PRESETS))
    for change in sequence:
        change(held)
    held.inventory.replace_all([], {})
    assert pickle.dumps(held.inventory) == pickle.dumps(Inventory(held.rules))
