"""Does the trail agree with CloudTrail? Every signature in one has its counterpart in the other, by request id. Pure.

The join wants both sides sorted by request id, and the explanations theirs by key and time, so that neither holds more
than a group in memory; who sorts, and where, is the caller's business.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from itertools import chain
from typing import NamedTuple, TypeVar

from byok_api.audit.cloudtrail import SignEvent, key_family, plain
from byok_api.audit.events import Outcome
from byok_api.audit.records import AuditRecord, ChainStart

GROUP_LIMIT = 1000
"""Attempts, and events, of one request id that are compared; KMS gives each call an id of its own."""
NEAR = 300.0
"""Seconds that the signer's clock and AWS's may differ; AWS refuses requests that are dated further off."""
COULD_BE_LIMIT = 5

_Row = TypeVar("_Row", "Attempted", SignEvent)


class Attempted(NamedTuple):
    """One call of `kms:Sign`, as the trail has it."""

    request_id: str
    audit_id: str
    """Of the record that holds the attempt."""
    number: int
    """Among that record's attempts, from 0."""
    outcome: str
    time: float
    """When it was recorded; seconds since the epoch."""
    key_arn: str


class ExcuseKind(StrEnum):
    """Why the trail may lack the request id of a signature."""

    UNKNOWN = "AttemptUnknown"
    """KMS was asked and no answer arrived."""
    INTENT = "IntentWithoutOutcome"
    """The signer ended, or still waits, between asking KMS and recording what became of it."""


class Excuse(NamedTuple):
    """Something in the trail behind which one signature may stand that no request id leads to."""

    family: str
    """The key, as `key_family` names it."""
    start: float
    """The earliest time of the signature, by AWS's clock ..."""
    end: float
    """... and the latest."""
    audit_id: str
    kind: str
    time: float
    key_arn: str


def attempts_of(record: AuditRecord) -> Iterator[Attempted]:
    """List a record's calls of `kms:Sign`; the request id is empty where no answer arrived."""
    if isinstance(record.event, ChainStart) or not record.event.attempts:
        return
    audit_id, time, arn = str(record.head.id), record.time.timestamp(), plain(record.event.key_arn)
    for number, attempt in enumerate(record.event.attempts):
        yield Attempted(plain(attempt.kms_request_id), audit_id, number, attempt.outcome.value, time, arn)


def unknown_attempt(attempt: Attempted, asked: float) -> Excuse:
    """Make an excuse of an attempt without answer; `asked` is when its signature was begun, if that is known."""
    start, end = min(asked, attempt.time) - NEAR, attempt.time + NEAR
    return Excuse(
        key_family(attempt.key_arn),
        start,
        end,
        attempt.audit_id,
        ExcuseKind.UNKNOWN.value,
        attempt.time,
        attempt.key_arn,
    )


def intent_without_outcome(audit_id: str, time: float, key_arn: str) -> Excuse:
    """Make an excuse of an intent that nothing settles."""
    return Excuse(key_family(key_arn), time - NEAR, time + NEAR, audit_id, ExcuseKind.INTENT.value, time, key_arn)


class Verdict(StrEnum):
    """What the comparison of an attempt and an event came to."""

    AGREES = "Agrees"
    NO_RECORD = "NoRecord"
    """A signature that no attempt names."""
    NO_EVENT = "NoEvent"
    """An attempt signed that no event names."""
    NO_REQUEST_ID = "NoRequestId"
    """An attempt signed that names no request: nothing can be found for it."""
    EVENT_FAILED = "EventFailed"
    """An attempt signed whose event says that KMS refused."""
    KEY_DIFFERS = "KeyDiffers"
    """An attempt signed whose event names another key."""
    RECORDED_AS_FAILED = "RecordedAsFailed"
    """An attempt failed whose event says that KMS signed."""
    UNKNOWN_SIGNED = "UnknownSigned"
    """An attempt unknown: KMS signed."""
    UNKNOWN_FAILED = "UnknownFailed"
    """An attempt unknown: KMS refused."""
    UNKNOWN_NO_EVENT = "UnknownNoEvent"
    """An attempt unknown, with a request id that no event names."""


class Judgement(NamedTuple):
    """A verdict, and what it is about."""

    verdict: Verdict
    attempt: Attempted | None
    event: SignEvent | None


def join(attempts: Iterable[Attempted], events: Iterable[SignEvent]) -> Iterator[Judgement]:
    """Compare both sides, each sorted by its first three fields; what is there twice counts once.

    Attempts without request id belong here if they are signed; if unknown they are excuses.
    """
    left, right = _groups(attempts), _groups(events)
    tried, found = next(left, None), next(right, None)
    while tried and found:
        if tried[0].request_id < found[0].request_id:
            yield from _judge(tried, [])
            tried = next(left, None)
        elif found[0].request_id < tried[0].request_id:
            yield from _unrecorded(_one_account(found))
            found = next(right, None)
        else:
            yield from _judge(tried, _one_account(found))
            tried, found = next(left, None), next(right, None)
    for rest in chain([tried] if tried else [], left):
        yield from _judge(rest, [])
    for others in chain([found] if found else [], right):
        yield from _unrecorded(_one_account(others))


def _groups(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Group by request id, without repetitions; what is over the limit is a group of its own."""
    group: list[_Row] = []
    for row in rows:
        if group and (row.request_id != group[0].request_id or len(group) == GROUP_LIMIT):
            yield group
            group = []
        # An event is named by its id, an attempt by record and number.
        if not group or row[1] != group[-1][1] or row[2] != group[-1][2]:
            group.append(row)
    if group:
        yield group


def _one_account(events: list[SignEvent]) -> list[SignEvent]:
    """Count a call once, although the caller's account and the key owner's each have an event of it."""
    if len(events) == 1:
        return events
    accounts = Counter(event.account for event in events)
    account = max(sorted(accounts), key=accounts.__getitem__)
    return [event for event in events if event.account == account]


def _unrecorded(found: list[SignEvent]) -> Iterator[Judgement]:
    return (Judgement(Verdict.NO_RECORD, None, event) for event in found if not event.error)


def _judge(tried: list[Attempted], found: list[SignEvent]) -> Iterator[Judgement]:
    """Pair the attempts and the events of one request id: first the signatures that agree in their key."""
    if not tried[0].request_id:
        yield from (Judgement(Verdict.NO_REQUEST_ID, attempt, None) for attempt in tried)
        yield from _unrecorded(found)
        return
    made = [event for event in found if not event.error]
    refused = [event for event in found if event.error]
    disputed = []
    for attempt in tried:
        if attempt.outcome == Outcome.SIGNED:
            event = next((event for event in made if _same_key(attempt, event)), None)
            if event is None:
                disputed.append(attempt)
            else:
                made.remove(event)
                yield Judgement(Verdict.AGREES, attempt, event)
    for attempt in disputed:
        yield _judged(attempt, made, refused)
    for outcome in (Outcome.UNKNOWN, Outcome.FAILED):
        for attempt in tried:
            if attempt.outcome == outcome and (outcome is Outcome.UNKNOWN or made):
                yield _judged(attempt, made, refused)
    yield from _unrecorded(made)


_VERDICTS = {
    # What the record says: the verdict if CloudTrail says that KMS signed, that it refused, and if it says nothing.
    Outcome.SIGNED: (Verdict.KEY_DIFFERS, Verdict.EVENT_FAILED, Verdict.NO_EVENT),
    Outcome.UNKNOWN: (Verdict.UNKNOWN_SIGNED, Verdict.UNKNOWN_FAILED, Verdict.UNKNOWN_NO_EVENT),
    Outcome.FAILED: (Verdict.RECORDED_AS_FAILED, Verdict.AGREES, Verdict.AGREES),
}


def _judged(attempt: Attempted, made: list[SignEvent], refused: list[SignEvent]) -> Judgement:
    """Give an attempt the next event that is left."""
    signed, failed, nothing = _VERDICTS[Outcome(attempt.outcome)]
    if made:
        return Judgement(signed, attempt, made.pop(0))
    if refused:
        return Judgement(failed, attempt, refused.pop(0))
    return Judgement(nothing, attempt, None)


def _same_key(attempt: Attempted, event: SignEvent) -> bool:
    return event.key_arn in ("", attempt.key_arn) or key_family(event.key_arn) == key_family(attempt.key_arn)


def explain(
    events: Iterable[SignEvent], excuses: Iterable[Excuse], actors: Collection[str]
) -> Iterator[tuple[SignEvent, tuple[Excuse, ...], bool]]:
    """Set excuses against signatures without record, both sorted by key family and time.

    Gives each signature with some of the excuses that it could be, and whether one is left for it: each excuse is good
    for one signature, and as many find one as can (the one that ends first is taken). Signatures of others than
    `actors` have none, unless nobody is known: what a signer lost, a signer made.
    """
    lot = _Lot(excuses)
    for event in events:
        if actors and event.actor not in actors:
            yield event, (), False
        else:
            lot.go_to(key_family(event.key_arn), event.time)
            yield event, lot.near(), lot.take()


class _Lot:
    """The excuses of one key around one moment, both going on."""

    def __init__(self, excuses: Iterable[Excuse]) -> None:
        self._waiting = iter(excuses)
        self._next = next(self._waiting, None)
        self._family = ""
        self._free: list[tuple[float, str]] = []
        self._near: list[tuple[float, Excuse]] = []

    def go_to(self, family: str, time: float) -> None:
        if family != self._family:
            self._family, self._free, self._near = family, [], []
        while self._next and (self._next.family, self._next.start) <= (family, time):
            if self._next.family == family:
                heapq.heappush(self._free, (self._next.end, self._next.audit_id))
                heapq.heappush(self._near, (self._next.end, self._next))
            self._next = next(self._waiting, None)
        while self._free and self._free[0][0] < time:
            heapq.heappop(self._free)
        while self._near and self._near[0][0] < time:
            heapq.heappop(self._near)

    def near(self) -> tuple[Excuse, ...]:
        return tuple(excuse for _, excuse in sorted(self._near[:COULD_BE_LIMIT]))

    def take(self) -> bool:
        if not self._free:
            return False
        heapq.heappop(self._free)
        return True
