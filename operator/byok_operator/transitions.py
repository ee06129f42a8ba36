"""From verdicts to conditions and events: what has changed since the status that the API server has."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from byok_api.conditions import Condition, ConditionReason, ConditionStatus
from byok_api.errors import Reason
from byok_api.key_rules import Problem
from byok_api.objects import Unreadable

MESSAGE_LIMIT = 2048
"""Characters of a condition's message (`byok_api.conditions.Condition`)."""
NOTE_LIMIT = 1024
"""Bytes of an event's note (events.k8s.io/v1)."""

_CUT = " ..."
_REASON = re.compile(r"[A-Za-z]{1,63}")
_HEAD_OF_STATEMENT = "\nMissing policy statement:\n"
_READY = "Ready"
# Where the reader is no caller of the signer, whom the reason's own remedy is for.
_REMEDIES = {
    Reason.SignerUnreachable.name: "The platform team checks that the signer runs and that the operator reaches it.",
    Reason.KmsDeadlineExceeded.name: (
        "It is asked again; if it lasts, the platform team checks network policy, endpoint and AWS's health dashboard."
    ),
}
# To become Unknown for one of these is no news: nothing was known before, or nobody asked.
_QUIET = frozenset({ConditionReason.VALIDATING, ConditionReason.NOT_REQUESTED, ConditionReason.NOT_CHECKED})
# A False that the object's owner wants.
_WANTED = frozenset({ConditionReason.NO_KEY.value, Reason.KeyDeactivated.name, Reason.SigningDisabled.name})


@dataclass(frozen=True)
class Verdict:
    """What a check says of one condition."""

    status: ConditionStatus
    reason: str
    message: str
    statement: str = ""
    """Policy statement to paste, as JSON; empty if none is missing."""


def holds(message: str, reason: ConditionReason = ConditionReason.VERIFIED) -> Verdict:
    """Say that a condition is true."""
    return Verdict(ConditionStatus.TRUE, reason, message)


def fails(reason: str, message: str, statement: str = "") -> Verdict:
    """Say that a condition is false, and what to do; `reason` may be one that this version does not know."""
    proper = _proper(reason)
    return Verdict(ConditionStatus.FALSE, proper, _with_remedy(proper, message), statement)


def refused(problem: Problem | Unreadable) -> Verdict:
    """Say that a condition is false for what the rules have against the object."""
    return fails(problem.reason.name, problem.message)


def unclear(reason: str, message: str) -> Verdict:
    """Say that it could not be found out whether a condition holds, and what to do."""
    proper = _proper(reason or ConditionReason.NOT_CHECKED)
    return Verdict(ConditionStatus.UNKNOWN, proper, _with_remedy(proper, message))


def repeated(condition: Condition) -> Verdict:
    """Say again what a condition said."""
    message, _, statement = condition.message.partition(_HEAD_OF_STATEMENT)
    return Verdict(condition.status, condition.reason, message, statement)


def aware(moment: datetime) -> datetime:
    """Take a time without zone, as others may have written into a status, for UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def conditions_of(
    verdicts: Mapping[str, Verdict],
    before: Mapping[str, Condition],
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Make one condition of each verdict, in their order; one whose status is as `before` keeps its transition time.

    What could not be asked before and cannot now, for the same reason, keeps its message too: which replica did not
    answer this time is no news.
    """
    return tuple(
        Condition(
            type=name,
            status=verdict.status,
            reason=verdict.reason,
            message=before[name].message if _is_unclear_as_before(verdict, before.get(name)) else _message(verdict),
            last_transition_time=_since(verdict, before.get(name), now),
            observed_generation=generation,
        )
        for name, verdict in verdicts.items()
    )


def by_type(conditions: Iterable[Condition] | None) -> dict[str, Condition]:
    """Find conditions by their type."""
    return {condition.type: condition for condition in conditions or ()}


def same_conditions(planned: Iterable[Condition] | None, read: Iterable[Condition] | None) -> bool:
    """Say whether all planned conditions are there as planned; those of other types are others' own."""
    there = by_type(read)
    return all(there.get(condition.type) == condition for condition in planned or ())


class EventType(StrEnum):
    """Types of events (core/v1 Event)."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class Event:
    """Something that happened to an object, to be told once its status is written."""

    type: EventType
    reason: str
    note: str
    """At most NOTE_LIMIT bytes."""


def events_of(before: Mapping[str, Condition], planned: Iterable[Condition]) -> tuple[Event, ...]:
    """List what has flipped: one event for all conditions that did so for the same reason; Ready also by its reason."""
    groups: dict[tuple[ConditionStatus, str], list[Condition]] = {}
    for condition in planned:
        if _has_flipped(before.get(condition.type), condition):
            groups.setdefault((condition.status, condition.reason), []).append(condition)
    return tuple(
        _event(group)
        for (status, reason), group in groups.items()
        # What became Unknown for the reason that something else became False only follows from that.
        if status is not ConditionStatus.UNKNOWN or (ConditionStatus.FALSE, reason) not in groups
    )


def _has_flipped(old: Condition | None, new: Condition) -> bool:
    if new.status is ConditionStatus.UNKNOWN and new.reason in _QUIET:
        return False
    if old is None:
        # Of a new object it is enough to tell that it is ready, or what is wrong.
        return new.status is not ConditionStatus.TRUE or new.type == _READY
    if old.status is not new.status:
        return True
    return new.type == _READY and new.status is ConditionStatus.FALSE and old.reason != new.reason


def _event(group: list[Condition]) -> Event:
    first, names = group[0], [condition.type for condition in group]
    subject = f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"
    # Ready, the last one, sums up what is well; what is wrong is best told by what the others follow from.
    telling = group[-1] if first.status is ConditionStatus.TRUE else first
    message = telling.message.partition(_HEAD_OF_STATEMENT)[0]
    is_calm = first.status is ConditionStatus.TRUE or first.reason in _WANTED
    return Event(
        EventType.NORMAL if is_calm else EventType.WARNING,
        first.reason,
        _within_bytes(f"{subject} {first.status.value}: {message}", NOTE_LIMIT),
    )


def shortened(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Cut a text of more than `limit` characters."""
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def _within_bytes(text: str, limit: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - len(_CUT)].decode(errors="ignore") + _CUT


def _message(verdict: Verdict) -> str:
    with_statement = f"{verdict.message}{_HEAD_OF_STATEMENT}{verdict.statement}"
    # Half a statement is of no use, and `byokctl key policy` prints the whole.
    if verdict.statement and len(with_statement) <= MESSAGE_LIMIT:
        return with_statement
    return shortened(verdict.message)


def _is_unclear_as_before(verdict: Verdict, before: Condition | None) -> bool:
    if before is None or verdict.reason not in Reason.__members__:
        return False
    return before.status is verdict.status is ConditionStatus.UNKNOWN and before.reason == verdict.reason


def _since(verdict: Verdict, before: Condition | None, now: datetime) -> datetime:
    if before is not None and before.status is verdict.status:
        return before.last_transition_time
    return now.replace(microsecond=0)


def _with_remedy(reason: str, message: str) -> str:
    own = Reason[reason].facts.remedy if reason in Reason.__members__ else ""
    remedy = _REMEDIES.get(reason, own)
    if not remedy or remedy in message:
        return message
    found = message.replace(own, "").strip()
    # Some messages end in the remedy's first words, after a semicolon.
    first = remedy.partition(". ")[0].rstrip(".")
    if found.rstrip(".").casefold().endswith(first.casefold()):
        found = found.rstrip(".")[: -len(first)].rstrip(" ;:,")
    return f"{found}{'' if found.endswith('.') or not found else '.'} {remedy}".strip()


def _proper(reason: str) -> str:
    # Reasons come from signers of other versions too, and the API server refuses any other form.
    return str(reason) if _REASON.fullmatch(reason) else Reason.Internal.name
