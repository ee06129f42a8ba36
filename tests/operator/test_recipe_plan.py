"""What each condition of a SigningRecipe says, by what was observed: read the table as the specification."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from byok_api.byokkey import ByokKey
from byok_api.conditions import Condition, ConditionStatus
from byok_api.errors import Reason
from byok_api.objects import Unreadable
from byok_api.references import ObjectName
from byok_api.signingrecipe import SigningRecipe
from byok_operator.observations import RecipeObservation
from byok_operator.recipe_plan import plan_recipe
from byok_operator.transitions import EventType
from tests.support.kinds import PRESETS, recipe
from tests.support.observed import (
    NAME,
    NOW,
    RULES,
    certified_key,
    message,
    observed_recipe,
    planned_recipe,
    says,
)

WELL = {
    "Accepted": "True/Verified",
    "ParentResolved": "True/NoParent",
    "KeyAuthorized": "True/Verified",
    "Ready": "True/Verified",
}
OURS = {"keyRef": {"name": NAME.name}}
THEIRS = {"keyRef": {"name": NAME.name, "namespace": NAME.namespace}}
BASE = recipe("keys/base", c2pa={"assertions": ["creator"]})
SHARED = certified_key(allowedConsumers={"namespaces": ["media"]})


def ready(status: str, reason: str) -> Condition:
    return Condition(
        type="Ready",
        status=ConditionStatus(status),
        reason=reason,
        message="for the key's owner",
        last_transition_time=NOW,
        observed_generation=1,
    )


READY = ready("True", "Verified")


def photo(**spec: object) -> SigningRecipe:
    return recipe("keys/photo", **(OURS | spec))


def seen(
    *objects: ByokKey | SigningRecipe | Unreadable, key_ready: Condition | None = READY, **changes: object
) -> RecipeObservation:
    return observed_recipe(*objects, key_ready=key_ready, **changes)  # type: ignore[arg-type]  # fields of the observation


TABLE: dict[str, tuple[RecipeObservation, dict[str, str]]] = {
    "all is well": (seen(certified_key(), photo()), {}),
    "all is well with a parent": (
        seen(certified_key(), BASE, photo(extends="base@1")),
        {"ParentResolved": "True/Verified"},
    ),
    "another's key that admits it": (seen(SHARED, recipe("media/photo", **THEIRS)), {}),
    # The spec and its parents.
    "the spec cannot be read": (
        seen(Unreadable("SigningRecipe", ObjectName("keys", "photo"), Reason.RecipeInvalid, "recipe: broken")),
        dict.fromkeys(("Accepted", "Ready"), "False/RecipeInvalid")
        | dict.fromkeys(("ParentResolved", "KeyAuthorized"), "Unknown/NotChecked"),
    ),
    "a preset's name": (
        seen(certified_key(), recipe(f"{PRESETS}/photo"), photo()),
        dict.fromkeys(("Accepted", "Ready"), "False/RecipeInvalid")
        | dict.fromkeys(("ParentResolved", "KeyAuthorized"), "Unknown/NotChecked"),
    ),
    "an unknown parent": (
        seen(certified_key(), photo(extends="base@1")),
        dict.fromkeys(("ParentResolved", "Ready"), "False/RecipeInvalid") | {"KeyAuthorized": "Unknown/NotChecked"},
    ),
    "a parent of another version": (
        seen(certified_key(), BASE, photo(extends="base@2")),
        dict.fromkeys(("ParentResolved", "Ready"), "False/RecipeInvalid") | {"KeyAuthorized": "Unknown/NotChecked"},
    ),
    # The key.
    "no key": (
        seen(recipe("keys/photo"), key_ready=None),
        dict.fromkeys(("KeyAuthorized", "Ready"), "False/NoKey"),
    ),
    "a key that is not there": (
        seen(photo(), key_ready=None),
        dict.fromkeys(("KeyAuthorized", "Ready"), "False/KeyMissing"),
    ),
    "another's key that does not admit it": (
        seen(certified_key(), recipe("media/photo", **THEIRS)),
        dict.fromkeys(("KeyAuthorized", "Ready"), "False/KeyNotAllowed"),
    ),
    "another's key that is not there": (
        seen(recipe("media/photo", **THEIRS), key_ready=None),
        dict.fromkeys(("KeyAuthorized", "Ready"), "False/KeyNotAllowed"),
    ),
    "the key demands another recipe": (
        seen(certified_key(requiredRecipe="keys/base@1"), BASE, photo()),
        dict.fromkeys(("KeyAuthorized", "Ready"), "False/RequiredRecipeMissing"),
    ),
    "the key is deactivated": (
        seen(certified_key(state="Deactivated"), photo()),
        {"Ready": "False/KeyDeactivated"},
    ),
    "the managed key, where none is": (
        seen(recipe("keys/photo", kmsMode="managed"), key_ready=None),
        dict.fromkeys(("KeyAuthorized", "Ready"), "False/RecipeWithoutKey"),
    ),
    "the managed key": (
        seen(SHARED, recipe("media/photo", kmsMode="managed"), rules=replace(RULES, managed_key=NAME)),
        {},
    ),
    # What the key's status says.
    "the key was not checked yet": (seen(certified_key(), photo(), key_ready=None), {"Ready": "Unknown/Validating"}),
    "the key is not granted": (
        seen(certified_key(), photo(), key_ready=ready("False", "KeyAccessDenied")),
        {"Ready": "False/KeyAccessDenied"},
    ),
    "nobody knows of the key": (
        seen(certified_key(), photo(), key_ready=ready("Unknown", "SignerUnreachable")),
        {"Ready": "Unknown/SignerUnreachable"},
    ),
    "the key's last proof holds": (seen(certified_key(), photo(), key_ready=ready("True", "LastVerified")), {}),
    # What it is for.
    "signing is switched off": (
        seen(certified_key(), photo(c2pa={"enabled": False})),
        {"Ready": "False/SigningDisabled"},
    ),
}


@pytest.mark.parametrize(("observation", "otherwise"), TABLE.values(), ids=TABLE)
def test_conditions(observation: RecipeObservation, otherwise: dict[str, str]) -> None:
    assert says(plan_recipe(observation, NOW).status.conditions) == WELL | otherwise


@pytest.mark.parametrize(("observation", "_otherwise"), TABLE.values(), ids=TABLE)
def test_planning_again_changes_nothing(observation: RecipeObservation, _otherwise: dict[str, str]) -> None:
    kept = planned_recipe(observation)
    plan = plan_recipe(kept, NOW + timedelta(hours=1))
    assert plan.status == kept.status
    assert plan.events == ()


@pytest.mark.parametrize(("observation", "_otherwise"), TABLE.values(), ids=TABLE)
def test_whatever_is_false_says_what_to_do(observation: RecipeObservation, _otherwise: dict[str, str]) -> None:
    for condition in plan_recipe(observation, NOW).status.conditions or ():
        if condition.status is ConditionStatus.FALSE and condition.reason in Reason.__members__:
            assert Reason[condition.reason].facts.remedy in condition.message


def test_status_tells_the_recipe_after_inheritance_and_its_key() -> None:
    status = plan_recipe(seen(certified_key(), BASE, photo(extends="base@1", mediaType="image")), NOW).status
    assert status.effective is not None
    assert json.loads(json.dumps(status.effective))["c2pa"]["assertions"] == ["creator"]
    assert status.effective_hash != (status.lineage or ())[0].hash
    assert [(parent.namespace, parent.name, parent.version) for parent in status.lineage or ()] == [("keys", "base", 1)]
    assert status.key is not None
    assert (status.key.namespace, status.key.name) == ("keys", "brand")


def test_what_cannot_be_resolved_has_no_effective_recipe() -> None:
    kept = planned_recipe(seen(certified_key(), BASE, photo(extends="base@1")))
    broken = seen(certified_key(), photo(extends="base@1"), status=kept.status)
    status = plan_recipe(broken, NOW).status
    assert (status.effective, status.effective_hash, status.lineage, status.key) == (None, None, None, None)


@pytest.mark.parametrize(
    ("before", "after", "named", "condition"),
    [
        ((certified_key(), photo()), (photo(),), "keys/brand", "KeyAuthorized"),
        (
            (certified_key(), BASE, photo(extends="base@1")),
            (certified_key(), photo(extends="base@1")),
            "base@1",
            "ParentResolved",
        ),
    ],
    ids=["key", "parent"],
)
def test_a_deletion_is_told_at_once_and_by_name(
    before: tuple[ByokKey | SigningRecipe], after: tuple[ByokKey | SigningRecipe], named: str, condition: str
) -> None:
    kept = planned_recipe(seen(*before))
    plan = plan_recipe(seen(*after, status=kept.status), NOW)
    assert says(plan.status.conditions)["Ready"].startswith("False")
    assert named in message(plan.status.conditions, condition)
    assert [event.type for event in plan.events] == [EventType.WARNING]
    assert named in plan.events[0].note


def test_the_keys_own_message_is_not_repeated() -> None:
    told = message(plan_recipe(TABLE["the key is not granted"][0], NOW).status.conditions, "Ready")
    assert "for the key's owner" not in told
    assert "keys/brand" in told


def test_what_has_no_effect_is_listed() -> None:
    observation = seen(certified_key(), photo(retention={"manifestDays": 30}))
    assert "retention" in message(plan_recipe(observation, NOW).status.conditions, "Accepted")


def test_a_managed_key_that_is_missing_is_a_warning_that_says_whom_to_ask() -> None:
    (event,) = plan_recipe(TABLE["the managed key, where none is"][0], NOW).events
    assert event.type is EventType.WARNING
    assert "this installation names no managed key: ask the platform team" in event.note
    assert "extended" not in event.note


def test_a_recipe_without_key_is_no_warning() -> None:
    (event,) = plan_recipe(TABLE["no key"][0], NOW).events
    assert event.type is EventType.NORMAL


def test_a_plan_that_only_waits_for_the_keys_first_verdict_is_provisional() -> None:
    assert plan_recipe(TABLE["the key was not checked yet"][0], NOW).is_provisional
    assert not plan_recipe(TABLE["a key that is not there"][0], NOW).is_provisional
    assert not plan_recipe(TABLE["all is well"][0], NOW).is_provisional
