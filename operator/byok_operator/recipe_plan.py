"""What a SigningRecipe's status is to be: a pure, total function of what was observed and the time.

Each condition is an ordered list of small checks, the first that knows an answer gives it. Nothing here decides what
may be signed; the signer does that, from specs alone.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from byok_api.conditions import ConditionReason, ConditionStatus
from byok_api.conditions import SigningRecipeConditionType as Type
from byok_api.errors import Reason
from byok_api.objects import Unreadable
from byok_api.recipe_rules import RecipeStanding
from byok_api.resolution import EffectiveRecipe
from byok_api.signingrecipe import KmsMode
from byok_api.statuses import KeyStatus, LineageStatus, SigningRecipeStatus
from byok_operator.observations import RecipeObservation
from byok_operator.transitions import (
    Event,
    Verdict,
    by_type,
    conditions_of,
    events_of,
    fails,
    holds,
    refused,
    unclear,
)


@dataclass(frozen=True)
class RecipePlan:
    """What is to be written, and told once it is."""

    status: SigningRecipeStatus
    events: tuple[Event, ...]
    is_provisional: bool
    """Whether only the key's first verdict is missing: better to wait for that than to write this."""


Check = Callable[[RecipeObservation], Verdict | None]


def spec_is_unreadable(observed: RecipeObservation) -> Verdict | None:
    """Refuse an object that is none of this version's kind."""
    return refused(observed.standing) if isinstance(observed.standing, Unreadable) else None


def spec_is_refused(observed: RecipeObservation) -> Verdict | None:
    """Tell what the rules have against it: a reserved name, fields that contradict inherited ones."""
    standing = _standing(observed)
    return refused(standing.acceptance) if standing and standing.acceptance else None


def spec_is_accepted(observed: RecipeObservation) -> Verdict:
    """Accept what nothing stands against, and tell what has no effect."""
    effective = _effective(observed)
    notes = f" Note: {'; '.join(effective.notes)}." if effective and effective.notes else ""
    return holds(f"The spec is valid.{notes}")


def spec_is_not_accepted(observed: RecipeObservation) -> Verdict | None:
    """Resolve nothing that is not accepted."""
    standing = _standing(observed)
    if standing is not None and standing.acceptance is None:
        return None
    return unclear(ConditionReason.NOT_CHECKED, "It is not looked for before condition Accepted is True.")


def parent_is_missing(observed: RecipeObservation) -> Verdict | None:
    """Tell, by name, which parent is not there, not readable, of another version, or in a cycle."""
    standing = _standing(observed)
    return refused(standing.parents) if standing and standing.parents else None


def nothing_is_extended(observed: RecipeObservation) -> Verdict | None:
    """Tell of a recipe that stands by itself."""
    effective = _effective(observed)
    if effective is None or effective.lineage:
        return None
    return holds("The recipe extends nothing.", ConditionReason.NO_PARENT)


def parents_are_there(observed: RecipeObservation) -> Verdict:
    """List the parents, nearest first."""
    effective = _effective(observed)
    lineage = effective.lineage if effective else ()
    return holds(f"Extends {', '.join(f'{parent.name}@{parent.version}' for parent in lineage)}.")


def recipe_is_unresolved(observed: RecipeObservation) -> Verdict | None:
    """Look for no key before it is known which."""
    if _effective(observed) is not None:
        return None
    return unclear(ConditionReason.NOT_CHECKED, "It is not looked for before condition ParentResolved is True.")


def managed_key_is_missing(observed: RecipeObservation) -> Verdict | None:
    """Tell of a recipe that is to sign with the installation's key, where it has none."""
    effective = _effective(observed)
    if effective is None or effective.key is not None or effective.kms_mode is not KmsMode.MANAGED:
        return None
    return fails(
        Reason.RecipeWithoutKey.name,
        f"recipe {observed.name} has kmsMode: managed, and this installation names no managed key: "
        "ask the platform team to name one, or set kmsMode: byok",
    )


def no_key_is_named(observed: RecipeObservation) -> Verdict | None:
    """Tell of a recipe that is there to be extended."""
    effective = _effective(observed)
    if effective is None or effective.key is not None:
        return None
    text = f"recipe {observed.name} names no key: it can be extended and cannot sign. To sign, extend it with a keyRef"
    return fails(ConditionReason.NO_KEY, f"{text}, or set spec.keyRef.")


def key_is_not_allowed(observed: RecipeObservation) -> Verdict | None:
    """Tell, by name, of a key that is not there, or whose owner does not let this recipe use it."""
    standing = _standing(observed)
    return refused(standing.authorization) if standing and standing.authorization else None


def key_is_allowed(observed: RecipeObservation) -> Verdict:
    """Name the key."""
    effective = _effective(observed)
    return holds(f"ByokKey {effective.key if effective else None} admits this recipe.")


CHECKS: Mapping[Type, tuple[Check, ...]] = {
    Type.ACCEPTED: (spec_is_unreadable, spec_is_refused, spec_is_accepted),
    Type.PARENT_RESOLVED: (spec_is_not_accepted, parent_is_missing, nothing_is_extended, parents_are_there),
    Type.KEY_AUTHORIZED: (
        spec_is_not_accepted,
        recipe_is_unresolved,
        managed_key_is_missing,
        no_key_is_named,
        key_is_not_allowed,
        key_is_allowed,
    ),
}
"""The checks of every condition but Ready; each list ends with one that always answers."""

Leaves = Mapping[Type, Verdict]
ReadyCheck = Callable[[RecipeObservation, Leaves], Verdict | None]


def nothing_must_be_false(_observed: RecipeObservation, leaves: Leaves) -> Verdict | None:
    """Tell the first condition that is False."""
    return next((leaf for leaf in leaves.values() if leaf.status is ConditionStatus.FALSE), None)


def signing_must_be_enabled(observed: RecipeObservation, _leaves: Leaves) -> Verdict | None:
    """Demand that `spec.c2pa.enabled` is not false."""
    effective = _effective(observed)
    if effective is None or effective.enabled:
        return None
    return fails(Reason.SigningDisabled.name, f"recipe {observed.name} has c2pa.enabled: false")


def key_must_be_fit(observed: RecipeObservation, _leaves: Leaves) -> Verdict | None:
    """Tell what stands against the key itself, as soon as that is written."""
    standing = _standing(observed)
    return refused(standing.key_problem) if standing and standing.key_problem else None


def key_must_be_ready(observed: RecipeObservation, _leaves: Leaves) -> Verdict | None:
    """Follow the key; its message is for its owner, who may be somebody else."""
    effective, ready = _effective(observed), observed.key_ready
    key = effective.key if effective else None
    if ready is None:
        return unclear(ConditionReason.VALIDATING, f"ByokKey {key} has not been checked yet.")
    said = f"ByokKey {key} is not Ready ({ready.reason})"
    if ready.status is ConditionStatus.FALSE:
        return fails(ready.reason, f"{said}; see its status")
    if ready.status is ConditionStatus.UNKNOWN:
        return unclear(ready.reason, f"Whether ByokKey {key} is Ready is Unknown ({ready.reason}); see its status.")
    return None


def nothing_stands_against_it(_observed: RecipeObservation, _leaves: Leaves) -> Verdict:
    """Tell that the signer signs under it."""
    return holds("The signer can sign under this recipe.")


READY_CHECKS: tuple[ReadyCheck, ...] = (
    nothing_must_be_false,
    signing_must_be_enabled,
    key_must_be_fit,
    key_must_be_ready,
    nothing_stands_against_it,
)
"""The checks of Ready, made on what the other conditions say."""


def plan_recipe(observed: RecipeObservation, now: datetime) -> RecipePlan:
    """Plan a recipe's status; `now` is aware. Planning again on what was planned changes nothing."""
    known = by_type(observed.status.conditions if observed.status else None)
    conditions = conditions_of(_verdicts(observed), known, generation=observed.generation, now=now)
    effective = _effective(observed)
    status = SigningRecipeStatus(observed_generation=observed.generation, conditions=conditions)
    if effective is not None:
        status = status.model_copy(update=_facts(effective))
    is_provisional = by_type(conditions)[Type.READY].reason == ConditionReason.VALIDATING
    return RecipePlan(status, events_of(known, conditions), is_provisional)


def _verdicts(observed: RecipeObservation) -> dict[str, Verdict]:
    leaves = {
        condition: next(verdict for check in checks if (verdict := check(observed)) is not None)
        for condition, checks in CHECKS.items()
    }
    ready = next(verdict for check in READY_CHECKS if (verdict := check(observed, leaves)) is not None)
    return {condition.value: verdict for condition, verdict in (*leaves.items(), (Type.READY, ready))}


def _facts(effective: EffectiveRecipe) -> dict[str, object]:
    key = effective.key
    return {
        "effective": json.loads(effective.hashed_json),
        "effective_hash": effective.hash,
        "lineage": tuple(
            LineageStatus(
                namespace=parent.name.namespace, name=parent.name.name, version=parent.version, hash=parent.hash
            )
            for parent in effective.lineage
        ),
        "key": KeyStatus(namespace=key.namespace, name=key.name) if key else None,
    }


def _standing(observed: RecipeObservation) -> RecipeStanding | None:
    return observed.standing if isinstance(observed.standing, RecipeStanding) else None


def _effective(observed: RecipeObservation) -> EffectiveRecipe | None:
    standing = _standing(observed)
    return standing.effective if standing else None
