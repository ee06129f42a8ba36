"""When a key is probed next, and when an object must be looked at though nothing was heard.

Healthy keys are probed at the interval of their spec, others soon and then ever later; at once whenever there is an
occasion: another spec, a word of REVERIFY_ANNOTATION, a replica that says otherwise, rules that judge otherwise; and
soon when a signer is back where none answered. All `chance` is from 0 to 1, so that keys which were made together are
not probed together for ever.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from byok_api.byokkey import LeastPrivilege
from byok_api.conditions import ByokKeyConditionType as Type
from byok_api.conditions import ConditionStatus
from byok_api.fields import duration
from byok_api.key_rules import KeyStanding
from byok_operator.evidence import (
    OUTAGE_PATIENCE,
    before_of,
    contradiction,
    failure_of,
    interval_of,
    may_be_probed,
    probe_of,
    reports_of,
    spec_of,
    stale_after_of,
    verified_at,
)
from byok_operator.key_facts import RECIPES_EVERY, handled_by
from byok_operator.observations import KeyObservation, Outcome

FIRST_RETRY = timedelta(seconds=30)
LONGEST_RETRY = timedelta(minutes=15)
SPREAD = 0.2
"""Part of a time by which chance makes it shorter or longer."""
RETURN_SPREAD = timedelta(seconds=10)
"""Within so long after a signer came, all keys are probed of which none gave an answer before."""
CONTRADICTION_GAP = timedelta(seconds=5)
"""Time between two probes for contradictions: replicas may disagree for long."""
_WITHIN_STALE = 0.9
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Occasion:
    """What a probe is made on: if it changes, another is due at once."""

    uid: str
    generation: int
    reverify: str | None
    problem: str
    """What the rules have against the key; empty if nothing."""
    contradiction: str


@dataclass(frozen=True)
class Timetable:
    """When a key is probed next. Kept for each key by whoever probes, and lost when the operator stops."""

    occasion: Occasion
    due: datetime
    attempted: datetime | None = None
    failures: int = 0
    """Attempts in a row that did not find the key healthy."""
    after_return: timedelta = timedelta(0)
    """How long after a signer came it is due, if the last attempt got no answer."""


def begin(observed: KeyObservation, now: datetime, chance: float) -> Timetable:
    """Make the timetable of a key that this process has not probed: what is new at once, what is known in its turn."""
    ready = before_of(observed, Type.READY)
    if ready is None or is_reverify_due(observed):
        due = now
    elif ready.status is ConditionStatus.TRUE:
        # After a long absence the proof may be old: better to have another than to write that there is none.
        proven = verified_at(observed, now) or now
        last_moment = max(now, proven + _WITHIN_STALE * duration(stale_after_of(observed)))
        due = min(now + chance * interval_of(observed), last_moment)
    else:
        due = now + chance * FIRST_RETRY
    return Timetable(occasion_of(observed, now), due)


def attempted(
    timetable: Timetable, observed: KeyObservation, *, asked_for: Occasion, now: datetime, chance: float
) -> Timetable:
    """Move a timetable on after an attempt, whose result `observed` holds; `asked_for` is what it was made on."""
    spread = 1 - SPREAD + 2 * SPREAD * chance
    if is_healthy(observed):
        wait = min(interval_of(observed) * spread, _WITHIN_STALE * duration(stale_after_of(observed)))
        return Timetable(asked_for, now + wait, now)
    failures = timetable.failures + 1
    # Beyond ten doublings it is LONGEST_RETRY anyway.
    wait = min(FIRST_RETRY * 2 ** min(failures - 1, 10), LONGEST_RETRY) * spread
    return Timetable(asked_for, now + wait, now, failures, after_return=chance * RETURN_SPREAD)


def probe_due_at(timetable: Timetable, observed: KeyObservation, now: datetime) -> datetime | None:
    """Say when a key is to be probed; None for one of which KMS is not asked."""
    if not may_be_probed(observed):
        return None
    occasion, last = occasion_of(observed, now), timetable.occasion
    if occasion == last:
        return _due_in_turn(timetable, observed)
    if occasion == replace(last, contradiction=occasion.contradiction):
        # Nobody contradicts any more: there is nothing to decide.
        if not occasion.contradiction:
            return _due_in_turn(timetable, observed)
        return max(now, timetable.attempted + CONTRADICTION_GAP) if timetable.attempted else now
    return now


def _due_in_turn(timetable: Timetable, observed: KeyObservation) -> datetime:
    failure, came = failure_of(observed), observed.signer_came
    if failure is None or came is None or came <= failure.at:
        return timetable.due
    return min(timetable.due, came + timetable.after_return)


def occasion_of(observed: KeyObservation, now: datetime) -> Occasion:
    """Say what a probe would be made on now."""
    standing = observed.standing
    problem = standing.problem or standing.valid_at(now) if isinstance(standing, KeyStanding) else standing
    return Occasion(
        uid=observed.uid,
        generation=observed.generation,
        reverify=observed.reverify,
        problem=problem.reason.name if problem else "",
        contradiction=contradiction(observed, now),
    )


def is_healthy(observed: KeyObservation) -> bool:
    """Say whether the last attempt found nothing that the next one might find otherwise."""
    probe = probe_of(observed)
    if probe is None or failure_of(observed) is not None:
        return False
    return probe.verified and probe.certificate.outcome is Outcome.PASSED


def is_reverify_due(observed: KeyObservation) -> bool:
    """Say whether somebody has asked for a probe that was not made yet."""
    wanted = handled_by(observed.reverify)
    if wanted is None or (observed.probe is not None and handled_by(observed.probe.reverify) == wanted):
        return False
    return observed.probe is not None or observed.status is None or observed.status.last_handled_reverify != wanted


def asks_for_least_privilege(observed: KeyObservation) -> bool:
    """Say whether the next probe is to ask for what must be denied: once for a generation, and when asked to."""
    spec = spec_of(observed)
    if spec is None or spec.least_privilege is not LeastPrivilege.WARN:
        return False
    if is_reverify_due(observed):
        return True
    probe, known = probe_of(observed), before_of(observed, Type.LEAST_PRIVILEGE)
    if probe is not None and probe.least_privilege is not None:
        return probe.least_privilege.outcome is Outcome.UNKNOWN
    return known is None or known.status is ConditionStatus.UNKNOWN


def look_again_at(observed: KeyObservation, now: datetime) -> datetime | None:
    """Say when the plan will be another one though nothing was heard; None if never."""
    return min((moment for moment in _moments(observed, now) if moment > now), default=None)


def _moments(observed: KeyObservation, now: datetime) -> list[datetime]:
    standing, proven = observed.standing, verified_at(observed, now)
    moments = [report.since + OUTAGE_PATIENCE for report in reports_of(observed) if report.outcome is Outcome.UNKNOWN]
    if isinstance(standing, KeyStanding) and standing.chain is not None:
        # The chain is still valid in its last moment (RFC 5280, section 4.1.2.5).
        moments += [standing.chain.not_before, standing.chain.not_after + _SECOND]
    if proven is not None:
        moments.append(proven + duration(stale_after_of(observed)))
    if observed.recipes_written is not None and observed.status and observed.status.recipes != observed.recipes:
        moments.append(observed.recipes_written + RECIPES_EVERY)
    return moments
