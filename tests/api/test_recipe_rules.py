"""What a SigningRecipe amounts to, as a table: one change to a recipe that works, and the reason told."""

from collections.abc import Mapping
from typing import Any

import pytest

from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.inventory import Inventory, Known
from byok_api.objects import Unreadable
from byok_api.recipe_rules import RecipeStanding
from byok_api.references import ObjectName
from tests.support.manifests import PRESETS, key, recipe
from tests.support.pki import NOW

RULES = Rules(installation="test", presets_namespace=PRESETS)
PHOTO = ObjectName("media", "photo")


def standing(
    *objects: Known, name: ObjectName = PHOTO, labels: Mapping[str, Mapping[str, str]] | None = None
) -> RecipeStanding:
    inventory = Inventory(RULES)
    inventory.replace_all(objects, labels or {})
    found = inventory.recipe(name)
    assert isinstance(found, RecipeStanding)
    return found


def reason(*objects: Known, labels: Mapping[str, Mapping[str, str]] | None = None) -> Reason | None:
    problem = standing(*objects, labels=labels).problem
    return problem.reason if problem else None


def test_a_recipe_with_a_key_that_can_sign_can_sign() -> None:
    found = standing(key(), recipe())
    assert (found.problem, found.key, found.admitted) == (None, key().name, True)


def test_a_recipe_that_is_being_deleted_signs_no_more() -> None:
    going = recipe()
    going = going.model_copy(update={"metadata": going.metadata.model_copy(update={"deletion_timestamp": NOW})})
    found = standing(key(), going)
    assert found.problem is not None
    assert found.problem.message == "recipe media/photo is being deleted"


def test_a_managed_recipe_without_a_managed_key_is_told_whom_it_lacks() -> None:
    problem = standing(recipe(kmsMode="managed", keyRef=None)).problem
    assert problem is not None
    assert problem.message == "recipe media/photo has kmsMode: managed, and this installation names no managed key"


RECIPE_CASES: dict[str, tuple[dict[str, Any], Reason]] = {
    "disabled": ({"c2pa": {"enabled": False}}, Reason.SigningDisabled),
    "without a key": ({"keyRef": None}, Reason.RecipeWithoutKey),
    "a key that is not there": ({"keyRef": {"name": "nobody"}}, Reason.KeyMissing),
    "a foreign key that is not there": ({"keyRef": {"name": "x", "namespace": "other"}}, Reason.KeyNotAllowed),
    "a foreign key that is not shared": ({"keyRef": {"name": "secret", "namespace": "vault"}}, Reason.KeyNotAllowed),
    "an unknown parent": ({"extends": "nobody@1"}, Reason.RecipeInvalid),
    "a managed key where none is": ({"keyRef": None, "kmsMode": "managed"}, Reason.RecipeWithoutKey),
}


@pytest.mark.parametrize(("spec", "expected"), RECIPE_CASES.values(), ids=RECIPE_CASES)
def test_a_recipe_that_cannot_sign_names_why(spec: dict[str, Any], expected: Reason) -> None:
    assert reason(key(), key("vault/secret", certificate=None), recipe(**spec)) is expected


KEY_CASES: dict[str, tuple[dict[str, Any], Reason]] = {
    "deactivated": ({"state": "Deactivated"}, Reason.KeyDeactivated),
    "no certificate": ({"certificate": None}, Reason.CertificateMissing),
    "a required recipe that is not extended": ({"requiredRecipe": "strict@1"}, Reason.RequiredRecipeMissing),
    "a required recipe in a foreign namespace": ({"requiredRecipe": "other/strict@1"}, Reason.KeyInvalid),
}


@pytest.mark.parametrize(("spec", "expected"), KEY_CASES.values(), ids=KEY_CASES)
def test_a_recipe_is_told_what_stands_against_its_key(spec: dict[str, Any], expected: Reason) -> None:
    assert reason(key(**spec), recipe()) is expected


def test_what_stands_against_the_key_is_no_lack_of_its_owners_consent() -> None:
    found = standing(key(state="Deactivated"), recipe())
    assert (found.authorization, found.admitted) == (None, True)
    assert found.key_problem is not None
    assert found.key_problem.reason is Reason.KeyDeactivated


def test_an_unreadable_key_of_the_recipes_own_namespace_is_told_of() -> None:
    broken = Unreadable("ByokKey", key().name, Reason.KeyInvalid, "media/brand is broken")
    assert reason(broken, recipe()) is Reason.KeyInvalid


def test_a_foreign_key_that_is_missing_and_one_that_is_not_shared_are_told_alike() -> None:
    foreign = recipe(keyRef={"name": "secret", "namespace": "vault"})
    broken = Unreadable("ByokKey", ObjectName("vault", "secret"), Reason.KeyInvalid, "vault/secret is broken")
    deactivated = key("vault/secret", state="Deactivated", requiredRecipe="strict@1")
    answers = [standing(foreign, *others) for others in ((), (key("vault/secret"),), (broken,), (deactivated,))]
    assert all(answer == answers[0] for answer in answers)
    assert (answers[0].key_problem, answers[0].admitted) == (None, False)


def test_a_key_of_another_namespace_signs_for_those_that_its_owner_selects() -> None:
    shared = key("vault/brand", allowedConsumers={"namespaceSelector": {"matchLabels": {"team": "media"}}})
    photo = recipe(keyRef={"name": "brand", "namespace": "vault"})
    assert reason(shared, photo, labels={"media": {"team": "media"}}) is None
    assert reason(shared, photo, labels={"media": {"team": "other"}}) is Reason.KeyNotAllowed
    assert reason(shared, photo) is Reason.KeyNotAllowed


# Whose fault it is: the recipe's own, or that of what it extends.

BASE = recipe("media/base", c2pa={"enabled": True}, mediaType="image")
PARENTS: dict[str, tuple[Known, ...]] = {
    "unknown": (),
    "of another version": (recipe("media/base", version=2),),
    "itself": (recipe("media/base", extends="photo@1"),),
    "unreadable": (Unreadable("SigningRecipe", BASE.name, Reason.RecipeInvalid, "media/base is broken"),),
    "with a preset's name": (BASE, recipe(f"{PRESETS}/base", version=2)),
    "at odds with its own parent": (
        recipe("media/base", mediaType="video", extends="root@1"),
        recipe("media/root", mediaType="image"),
    ),
    "setting a key under managed": (
        recipe("media/base", extends="root@1"),
        recipe("media/root", keyRef=None, kmsMode="managed"),
    ),
    "too deep": tuple(
        recipe(f"media/{name}", extends=f"{above}@1" if above else None)
        for name, above in zip(["base", *"bcdefgh"], [*"bcdefgh", ""], strict=True)
    ),
}


@pytest.mark.parametrize("parents", PARENTS.values(), ids=PARENTS)
def test_what_is_wrong_with_a_parent_is_said_of_the_parents(parents: tuple[Known, ...]) -> None:
    found = standing(key(), recipe(extends="base@1", keyRef=None), *parents)
    assert (found.acceptance, found.effective) == (None, None)
    assert found.parents is not None
    assert found.problem == found.parents
    assert found.parents.reason is Reason.RecipeInvalid


OWN: dict[str, tuple[dict[str, Any], Known]] = {
    "another media type": ({"mediaType": "video"}, BASE),
    "a key under managed": ({}, recipe("media/base", keyRef=None, kmsMode="managed")),
}


@pytest.mark.parametrize(("spec", "parent"), OWN.values(), ids=OWN)
def test_what_contradicts_a_parent_is_said_of_the_recipe_itself(spec: dict[str, Any], parent: Known) -> None:
    found = standing(key(), recipe(extends="base@1", **spec), parent)
    assert found.parents is None
    assert found.acceptance is not None
    assert found.problem == found.acceptance


@pytest.mark.parametrize("preset", ["good", "broken"])
def test_a_presets_name_is_reserved_even_where_the_preset_is_broken(preset: str) -> None:
    name = ObjectName(PRESETS, "photo")
    broken = Unreadable("SigningRecipe", name, Reason.RecipeInvalid, "broken")
    found = standing(key(), recipe(), recipe(f"{PRESETS}/photo") if preset == "good" else broken)
    assert found.acceptance is not None
    assert "has a preset's name" in found.acceptance.message


def test_the_depth_that_is_allowed_resolves() -> None:
    deep = [recipe(f"media/{name}", extends=f"{above}@1") for name, above in zip("bcdefg", "cdefgh", strict=True)]
    assert reason(key(), recipe(extends="b@1"), *deep, recipe("media/h")) is None


def test_the_managed_keys_owner_is_asked_too() -> None:
    managed = ObjectName("vault", "managed")
    rules = Rules(installation="test", presets_namespace=PRESETS, managed_key=managed)
    inventory = Inventory(rules)
    photo = recipe(keyRef=None, kmsMode="managed")
    inventory.replace_all([key(str(managed)), photo], {})
    refused = inventory.recipe(PHOTO)
    inventory.put(key(str(managed), allowedConsumers={"namespaces": ["media"]}))
    allowed = inventory.recipe(PHOTO)
    assert isinstance(refused, RecipeStanding)
    assert isinstance(allowed, RecipeStanding)
    assert (refused.problem.reason if refused.problem else None, allowed.problem) == (Reason.KeyNotAllowed, None)
