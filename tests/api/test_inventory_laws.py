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
from byok_api.legible import EVER, Legible
from byok_api.objects import Identity
from byok_api.ownership import KeyOwnership
from byok_api.references import KeyArn, ObjectName
from tests.support.manifests import KEY_ARN, PRESETS, key, pem_of_identity, recipe
from tests.support.pki import certified, identity, new_key

# Few enough that what changes is often what another looks at.
ONE = ObjectName("media", "one")
KEYS = (ONE, ONE, ObjectName("news", "one"), ObjectName("news", "two"))
NEWS = ObjectName("news", "one")
RECIPES = (ObjectName(PRESETS, "base"), ONE, ObjectName("media", "two"), NEWS, NEWS, NEWS, ObjectName(PRESETS, "one"))
NAMESPACES = (PRESETS, "media", "news")
ABROAD = {"name": "one", "namespace": "media"}
ARNS = (KEY_ARN, KEY_ARN.split(":key/")[0] + ":alias/brand")
PEMS = (
    pem_of_identity(identity()),
    pem_of_identity(certified(new_key(identity().algorithm), identity().algorithm)),
    "garbage",
)

selectors = st.sampled_from(
    [
        None,
        {"namespaces": ["news"]},
        {"namespaceSelector": {"matchLabels": {"team": "a"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}},
    ]
)
key_specs = st.fixed_dictionaries(
    {
        "allowedConsumers": selectors,
        "aws": st.sampled_from(ARNS).map(lambda arn: {"keyArn": arn}),
        "certificate": st.sampled_from([None, PEMS[0], *PEMS]).map(lambda pem: {"pem": pem} if pem else None),
    },
    optional={
        "state": st.sampled_from(["Active", "Deactivated"]),
        "requiredRecipe": st.sampled_from(["one@1", "media/two@1"]),
    },
)
recipe_specs = st.fixed_dictionaries(
    {"keyRef": st.sampled_from([None, {"name": "one"}, ABROAD, ABROAD])},
    optional={
        "version": st.sampled_from([1, 1, 2]),
        "extends": st.sampled_from(["base@1", "base@1", "one@1", "two@1"]),
        "mediaType": st.sampled_from(["image", "image", "video"]),
        "kmsMode": st.just("byok"),
    },
)


def _aged(found: ByokKey, day: int | None) -> ByokKey:
    created = datetime(2026, 1, day, tzinfo=UTC) if day else None
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"creation_timestamp": created})})


def _key(name: ObjectName, spec: dict[str, Any], day: int | None) -> ByokKey:
    return _aged(key(str(name), **spec), day)


def _unreadable(kind: str, name: ObjectName, left: Legible | None = None) -> Unreadable:
    return Unreadable(kind, name, Reason.KeyInvalid, f"{name} is broken", legible=left)


keys = st.builds(_key, st.sampled_from(KEYS), key_specs, st.sampled_from([None, 1, 2]))
recipes = st.builds(lambda name, spec: recipe(str(name), **spec), st.sampled_from(RECIPES), recipe_specs)
legible = st.builds(
    Legible,
    created=st.sampled_from([None, EVER, *(datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))]),
    arns=st.frozensets(st.sampled_from([KeyArn(arn) for arn in ARNS]), max_size=2),
    pem=st.sampled_from([None, PEMS[0], *PEMS]),
    has_certificate=st.booleans(),
)
broken = st.builds(_unreadable, st.just(KEY), st.sampled_from(KEYS), st.none() | legible) | st.builds(
    _unreadable, st.just(RECIPE), st.sampled_from(RECIPES)
)
# Most of them good: what depends on a broken one depends on nothing else.
KINDS: dict[str, st.SearchStrategy[Any]] = {"key": keys, "recipe": recipes, "broken": broken}
objects: st.SearchStrategy[Known] = st.sampled_from([*["key", "recipe"] * 4, "broken", "broken"]).flatmap(
    KINDS.__getitem__
)
labels = st.sampled_from([None, {}, {"team": "a"}])
described = st.dictionaries(st.sampled_from(NAMESPACES), labels.filter(lambda found: found is not None), max_size=3)

many = st.lists(objects, min_size=6, max_size=10)


class Held:
    """An inventory under change, and what it ought to hold."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.inventory = Inventory(rules)
        self.objects: dict[Identity, Known] = {}
        self.readable: dict[Identity, Known] = {}
        """What objects were when they could last be read."""
        self.labels: dict[str, Any] = {}

    def _hold(self, found: Known) -> None:
        self.objects[found.kind, found.name] = found
        if not isinstance(found, Unreadable):
            self.readable[found.kind, found.name] = found

    def _lose(self, gone: Identity) -> None:
        self.objects.pop(gone, None)
        self.readable.pop(gone, None)

    def put(self, found: Known) -> frozenset[Identity]:
        self._hold(found)
        return self.inventory.put(found)

    def remove(self, kind: str, name: ObjectName) -> frozenset[Identity]:
        self._lose((kind, name))
        return self.inventory.remove(kind, name)

    def describe(self, namespace: str, found: dict[str, str] | None) -> frozenset[Identity]:
        self.labels.pop(namespace, None)
        self.labels |= {namespace: found} if found is not None else {}
        return self.inventory.describe_namespace(namespace, found)

    def replace(self, found: list[Known], namespaces: dict[str, Any]) -> frozenset[Identity]:
        there = {(each.kind, each.name) for each in found}
        self._take({gone: None for gone in self.objects if gone not in there} | _by_identity(found))
        self.labels = dict(namespaces)
        return self.inventory.replace_all(found, namespaces)

    def change(self, changes: dict[Identity, Known | None], namespaces: dict[str, Any]) -> frozenset[Identity]:
        self._take(changes)
        self.labels = {name: found for name, found in (self.labels | namespaces).items() if found is not None}
        return self.inventory.change(changes, namespaces)

    def _take(self, changes: dict[Identity, Known | None]) -> None:
        for changed, found in changes.items():
            if found is None:
                self._lose(changed)
            else:
                self._hold(found)


def _by_identity(found: list[Known]) -> dict[Identity, Known | None]:
    return {(each.kind, each.name): each for each in found}


Change = Callable[[Held], frozenset[Identity]]
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "put": st.builds(lambda found: lambda held: held.put(found), objects),
    "remove a key": st.builds(lambda name: lambda held: held.remove(KEY, name), st.sampled_from(KEYS)),
    "remove a recipe": st.builds(lambda name: lambda held: held.remove(RECIPE, name), st.sampled_from(RECIPES)),
    "describe": st.builds(
        lambda name, found: lambda held: held.describe(name, found), st.sampled_from([*NAMESPACES, "news"]), labels
    ),
    "several": st.builds(
        lambda gone, found, spaces: lambda held: held.change(dict.fromkeys(gone) | _by_identity(found), spaces),
        st.sets(st.sampled_from([*((KEY, name) for name in KEYS), *((RECIPE, name) for name in RECIPES)]), max_size=3),
        st.lists(objects, max_size=4),
        st.dictionaries(st.sampled_from(NAMESPACES), labels, max_size=2),
    ),
    "replace all": st.builds(lambda found, spaces: lambda held: held.replace(found, spaces), many, described),
}
changes: st.SearchStrategy[Change] = st.sampled_from(["put", "put", "describe", *CHANGES]).flatmap(CHANGES.__getitem__)
rules = st.builds(
    Rules,
    installation=st.just("test"),
    presets_namespace=st.just(PRESETS),
    managed_key=st.just(ONE),
    ownership=st.sampled_from([None, None, KeyOwnership({"media": ("arn:aws:kms:*:*:key/*",), "news": (KEY_ARN,)})]),
)


def judged(inventory: Inventory) -> dict[Identity, object]:
    """Every standing by identity; of a key with the recipes that count for it."""
    found: dict[Identity, object] = {
        (KEY, name): (inventory.key(name), inventory.recipes_of(name)) for name in inventory.key_names()
    }
    return found | {(RECIPE, name): inventory.recipe(name) for name in inventory.recipe_names()}


def fresh(held: Held) -> Inventory:
    """Put the same objects into an inventory that has seen nothing else but what they were when they could be read."""
    inventory = Inventory(held.rules)
    inventory.replace_all(reversed(held.readable.values()), {})
    inventory.replace_all(reversed(held.objects.values()), held.labels)
    return inventory


@settings(max_examples=100, deadline=None)
@given(rules=rules, first=many, spaces=described, sequence=st.lists(changes, min_size=6, max_size=16))
def test_whatever_changed_each_standing_is_that_of_a_fresh_inventory_and_changes_are_told(
    rules: Rules, first: list[Known], spaces: dict[str, Any], sequence: list[Change]
) -> None:
    held = Held(rules)
    held.replace([recipe(f"{PRESETS}/base", keyRef=None), *first], spaces)
    before = judged(held.inventory)
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
