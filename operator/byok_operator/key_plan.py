"""What a ByokKey's status is to be: a pure, total function of what was observed and the time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from byok_api.conditions import ByokKeyConditionType as Type
from byok_api.conditions import Condition, ConditionReason, ConditionStatus, Phase
from byok_api.errors import Reason
from byok_api.statuses import ByokKeyStatus
from byok_operator.evidence import before, contradiction
from byok_operator.key_checks import CHECKS, READY_CHECKS, Facts
from byok_operator.key_facts import facts_of, recipes_shown, verified_time
from byok_operator.observations import KeyObservation
from byok_operator.transitions import Event, Verdict, by_type, conditions_of, events_of, same_conditions

PHASES: Mapping[ConditionStatus, Phase] = {
    ConditionStatus.TRUE: Phase.ACTIVE,
    ConditionStatus.FALSE: Phase.FAILED,
    ConditionStatus.UNKNOWN: Phase.VALIDATING,
}
"""The phase by Ready, but for a key that its owner has deactivated."""


@dataclass(frozen=True)
class KeyPlan:
    """What is to be written, and told once it is."""

    status: ByokKeyStatus
    events: tuple[Event, ...]
    is_provisional: bool
    """Whether a probe that nobody has attempted yet will say more: better to probe first than to write this."""
    is_contradicted: bool
    """Whether a replica says otherwise than was known: the probe that this makes due will say it in its own words."""


def plan_key(observed: KeyObservation, now: datetime) -> KeyPlan:
    """Plan a key's status; `now` is aware. Planning again on what was planned changes nothing."""
    facts = Facts.of(observed, now)
    known = before(observed)
    conditions = conditions_of(_verdicts(facts), known, generation=observed.generation, now=now)
    found = facts_of(observed).model_copy(update={"conditions": conditions, "phase": phase_of(conditions)})
    differs = not _is_same(found, observed.status)
    status = found.model_copy(
        update={
            "recipes": recipes_shown(observed, now, differs=differs),
            "last_verified_time": verified_time(observed, now, differs=differs),
        }
    )
    is_provisional = facts.probe is None and facts.failure is None and any(map(_awaits_a_probe, conditions))
    return KeyPlan(status, events_of(known, conditions), is_provisional, bool(contradiction(observed, now)))


def phase_of(conditions: tuple[Condition, ...]) -> Phase:
    """Put a key's conditions in one word."""
    ready = by_type(conditions)[Type.READY]
    if ready.status is ConditionStatus.FALSE and ready.reason == Reason.KeyDeactivated.name:
        return Phase.DEACTIVATED
    return PHASES[ready.status]


def _awaits_a_probe(condition: Condition) -> bool:
    return condition.reason in {ConditionReason.VALIDATING, ConditionReason.STALE}


def _verdicts(facts: Facts) -> dict[str, Verdict]:
    leaves = {
        condition: next(verdict for check in checks if (verdict := check(facts)) is not None)
        for condition, checks in CHECKS.items()
    }
    ready = next(verdict for check in READY_CHECKS if (verdict := check(facts, leaves)) is not None)
    return {condition.value: verdict for condition, verdict in (*leaves.items(), (Type.READY, ready))}


def _is_same(planned: ByokKeyStatus, read: ByokKeyStatus | None) -> bool:
    if read is None:
        return False
    apart = {"conditions": None, "recipes": None, "last_verified_time": None}
    return planned.model_copy(update=apart) == read.model_copy(update=apart) and same_conditions(
        planned.conditions, read.conditions
    )
