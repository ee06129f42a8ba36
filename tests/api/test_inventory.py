"""What each kind of change concerns, and what it leaves alone; that it misses nothing is a law."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.inventory import KEY, RECIPE, Inventory, Known, Unreadable
from byok_api.objects import Identity
from byok_api.references import ObjectName
from byok_api.signingrecipe import SigningRecipe
from tests.support.manifests import PRESETS, key, pem_of_identity, recipe
from tests.support.pki import identity

Found = TypeVar("Found", ByokKey, SigningRecipe)

MANAGED = ObjectName("byok-system", "managed")
RULES = Rules(installation="test", presets_namespace=PRESETS, managed_key=MANAGED)
BRAND = ObjectName("media", "brand")
SHARED = {"namespaceSelector": {"matchLabels": {"team": "news"}}}
OWN: dict[str, Any] = {"certificate": {"pem": pem_of_identity(identity(SigningAlgorithm.ES384))}}
ABROAD: dict[str, Any] = {"keyRef": {"name": "brand", "namespace": "media"}}


def recipe_of(name: str) -> Identity:
    return RECIPE, ObjectName.parse(name)


def key_of(name: str) -> Identity:
    return KEY, ObjectName.parse(name)


def renamed(found: Found, name: str) -> Found:
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"name": name})})


@pytest.fixture
def inventory() -> Inventory:
    """Two namespaces with a key each, a family of recipes, a managed recipe, one that uses a key of the other's."""
    found = Inventory(RULES)
    objects: list[Known] = [
        key(allowedConsumers=SHARED),
        key("news/own", **OWN),
        recipe("media/base", keyRef=None),
        recipe("media/photo", extends="base@1"),
        recipe("media/special", extends="photo@1"),
        recipe("news/managed", keyRef=None, kmsMode="managed"),
        recipe("news/abroad", **ABROAD),
        recipe("news/plain", keyRef={"name": "own"}),
    ]
    found.replace_all(objects, {"media": {}, "news": {"team": "news"}})
    return found


def test_a_parent_concerns_its_children_and_theirs_and_nobody_else(inventory: Inventory) -> None:
    family = {recipe_of(f"media/{name}") for name in ("base", "photo", "special")}
    concerned = inventory.put(recipe("media/base", keyRef=None, version=2))
    assert {identity for identity in concerned if identity[0] == RECIPE} == family


def test_a_parent_that_goes_or_comes_concerns_its_children(inventory: Inventory) -> None:
    assert recipe_of("media/special") in inventory.remove(RECIPE, ObjectName("media", "photo"))
    assert recipe_of("media/special") in inventory.put(recipe("media/photo", extends="base@1"))


def test_a_key_concerns_the_recipes_that_name_it(inventory: Inventory) -> None:
    users = {recipe_of(name) for name in ("media/photo", "media/special", "news/abroad")}
    assert inventory.remove(KEY, BRAND) == users | {key_of("media/brand")}
    assert inventory.put(key()) == users | {key_of("media/brand")}


def test_the_managed_key_concerns_managed_recipes(inventory: Inventory) -> None:
    assert inventory.put(key(str(MANAGED), certificate=None)) == {(KEY, MANAGED), recipe_of("news/managed")}


def test_a_presets_name_concerns_the_local_recipe_that_has_it(inventory: Inventory) -> None:
    assert recipe_of("news/plain") in inventory.put(recipe(f"{PRESETS}/plain", keyRef=None))


def test_a_namespaces_labels_concern_its_recipes_with_keys_from_elsewhere(inventory: Inventory) -> None:
    concerned = inventory.describe_namespace("news", {"team": "other"})
    # The managed key is another namespace's too.
    assert concerned == {recipe_of("news/abroad"), recipe_of("news/managed"), key_of("media/brand")}
    assert not inventory.describe_namespace("news", {"team": "other"})
    assert not inventory.describe_namespace("media", {"team": "media"})


def test_a_claim_to_the_same_public_key_concerns_the_rival_and_its_recipes(inventory: Inventory) -> None:
    concerned = {key_of("vault/own"), key_of("news/own"), recipe_of("news/plain")}
    assert inventory.put(key("vault/own", **OWN)) == concerned
    assert inventory.remove(KEY, ObjectName("vault", "own")) == concerned


def test_what_is_as_before_concerns_nobody(inventory: Inventory) -> None:
    assert not inventory.put(key("news/own", **OWN))
    assert not inventory.remove(KEY, ObjectName("nobody", "there"))


def test_the_recipes_of_a_key_are_those_that_its_owner_admits(inventory: Inventory) -> None:
    inventory.put(recipe("thief/abroad", **ABROAD))
    mine = {ObjectName.parse(name) for name in ("media/photo", "media/special", "news/abroad")}
    assert inventory.recipes_of(BRAND) == mine
    assert key_of("media/brand") in inventory.describe_namespace("news", {})
    assert inventory.recipes_of(BRAND) == mine - {ObjectName("news", "abroad")}


def test_a_key_that_is_not_there_has_no_recipes(inventory: Inventory) -> None:
    inventory.remove(KEY, BRAND)
    assert (inventory.key(BRAND), inventory.recipes_of(BRAND)) == (None, frozenset())


def test_an_unreadable_object_takes_the_place_of_the_good_one(inventory: Inventory) -> None:
    broken = Unreadable(KEY, BRAND, Reason.KeyInvalid, "media/brand is broken")
    assert recipe_of("media/photo") in inventory.put(broken)
    assert inventory.key(BRAND) is broken
    assert inventory.recipes_of(BRAND) == {ObjectName("media", "photo"), ObjectName("media", "special")}


def test_names_are_listed_by_kind(inventory: Inventory) -> None:
    assert set(inventory.key_names()) == {BRAND, ObjectName("news", "own")}
    assert len(set(inventory.recipe_names())) == 6


def test_of_two_objects_of_one_name_the_later_one_is_held() -> None:
    inventory = Inventory(RULES)
    inventory.replace_all([key(), key(state="Deactivated")], {})
    found = inventory.key(BRAND)
    assert found is not None
    assert not isinstance(found, Unreadable | ByokKey)
    assert found.deactivated


def test_labels_that_the_caller_changes_later_change_nothing(inventory: Inventory) -> None:
    labels = {"team": "x"}
    inventory.describe_namespace("sport", labels)
    before = inventory.namespace_labels
    labels["team"] = "y"
    inventory.describe_namespace("other", {})
    assert (before["sport"], "other" in before) == ({"team": "x"}, False)


def test_among_thousands_of_objects_a_change_costs_what_depends_on_it() -> None:
    inventory, count = Inventory(RULES), 2000
    keys = [renamed(key(), f"k{number}") for number in range(count)]
    recipes = [renamed(recipe(keyRef={"name": f"k{number}"}), f"r{number}") for number in range(count)]
    inventory.replace_all([*keys, *recipes], {f"n{number}": {} for number in range(count)})
    deactivated = key(state="Deactivated")
    changes: list[Callable[[int], frozenset[Identity]]] = [
        lambda number: inventory.put(renamed(deactivated, f"k{number}")),
        lambda number: inventory.remove(RECIPE, recipes[number].name),
        lambda number: inventory.put(recipes[number]),
        lambda number: inventory.describe_namespace(f"n{number}", {"team": "news"}),
    ]
    began = time.process_time()
    for number in range(20):
        assert sum(len(change(number)) for change in changes) == 6
    assert (time.process_time() - began) / (20 * len(changes)) < 0.005
