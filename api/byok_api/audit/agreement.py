"""What a reconciliation comes to: the findings, counted and the earliest listed, and how far they reach. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from byok_api.audit.cloudtrail import Event, SignEvent, key_family, parse_time
from byok_api.audit.reconciliation import Attempted, Excuse, ExcuseKind, Judgement, Verdict

LISTED_LIMIT = 1000
"""Findings of each class that are listed, the earliest; further ones are only counted."""
REGIONS_LIMIT = 1000
ACTORS_LIMIT = 10_000
"""Roles that are remembered to have signed what has a record."""
_SLACK = 3600.0
"""Seconds around a period within which the counterparts of what lies in it are looked for."""


@dataclass(frozen=True, slots=True)
class Period:
    """A time span, in seconds since the epoch: from `start` until before `end`; None is open."""

    start: float | None = None
    end: float | None = None

    def holds(self, time: float) -> bool:
        """Whether a time lies in it."""
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)

    def is_near(self, time: float) -> bool:
        """Whether a time lies in it or so close that it may be the counterpart of one that does."""
        return (self.start is None or time >= self.start - _SLACK) and (self.end is None or time < self.end + _SLACK)


class Reach(StrEnum):
    """Whether an event of some time should be in CloudTrail's files."""

    COVERED = "Covered"
    BEFORE = "BeforeTheFiles"
    """They begin later."""
    NOT_YET = "NotDeliveredYet"
    """It is newer than the newest event, or so little older that CloudTrail may still deliver it."""
    NO_REGION = "RegionMissing"
    """They hold nothing of the key's Region."""


class Coverage:
    """For each Region the time that CloudTrail's files cover, told by events of any service."""

    def __init__(self, *, since: float | None, delay: float) -> None:
        """`since`: the files are said to cover all from then on. `delay`: seconds that CloudTrail takes to deliver."""
        self._since = since
        self._delay = delay
        self._spans: dict[str, list[str]] = {}

    def see(self, event: Event) -> None:
        """Take an event's Region and time into account; malformed ones are not."""
        region, time = event.get("awsRegion"), event.get("eventTime")
        if type(region) is not str or type(time) is not str:
            return
        span = self._spans.get(region)
        # Times of one format, in UTC, are in the order of their texts.
        if span is not None and span[0] <= time <= span[1]:
            return
        try:
            parse_time(time)
        except ValueError:
            return
        if span is not None:
            span[time > span[1]] = time
        elif len(self._spans) < REGIONS_LIMIT and len(region) <= 32:  # noqa: PLR2004 - twice the longest Region
            self._spans[region] = [time, time]

    @property
    def spans(self) -> Mapping[str, tuple[float, float]]:
        """By Region, the times of the oldest and the newest event."""
        return {region: (parse_time(first), parse_time(last)) for region, (first, last) in sorted(self._spans.items())}

    def reach(self, attempt: Attempted) -> Reach:
        """Say whether an attempt's event should be there."""
        region = attempt.key_arn.split(":")[3:4]
        span = self._spans.get(region[0]) if region else None
        if span is None:
            return Reach.NO_REGION
        oldest, newest = map(parse_time, span)
        if attempt.time > newest - self._delay:
            return Reach.NOT_YET
        first = oldest if self._since is None else min(oldest, self._since)
        return Reach.COVERED if attempt.time >= first else Reach.BEFORE


class Finding(NamedTuple):
    """One thing that the two sides do not agree in, or that only one of them knows. What does not apply is empty."""

    time: float
    verdict: str
    """A `Verdict`, or an `ExcuseKind`."""
    audit_id: str = ""
    request_id: str = ""
    key_arn: str = ""
    """By the trail; without record, by CloudTrail."""
    event_id: str = ""
    event_key_arn: str = ""
    error: str = ""
    principal: str = ""
    could_be: tuple[str, ...] = ()
    """Records that may stand for this signature, by audit id."""


class Findings:
    """Findings of one class: all counted, the earliest `LISTED_LIMIT` listed."""

    def __init__(self) -> None:
        self.count = 0
        self._listed: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Take one."""
        self.count += 1
        self._listed.append(finding)
        if len(self._listed) > 2 * LISTED_LIMIT:
            self._listed = self.listed

    @property
    def listed(self) -> list[Finding]:
        """The earliest, by time."""
        return sorted(self._listed)[:LISTED_LIMIT]


@dataclass(kw_only=True)
class Reconciliation:
    """How trail and CloudTrail compare; filled by `Reconciler`."""

    matched: int = 0
    """Signatures with record and event."""
    without_record: Findings = field(default_factory=Findings)
    """Signatures in CloudTrail that no record names."""
    explainable: int = 0
    """How many of those may be attempts without answer, or intents without outcome."""
    without_event: Findings = field(default_factory=Findings)
    """Signatures in the trail that CloudTrail should have and has not."""
    disagreements: Findings = field(default_factory=Findings)
    """What both have and tell differently."""
    unknown: Findings = field(default_factory=Findings)
    """Attempts unknown, and what CloudTrail says of them."""
    intents: Findings = field(default_factory=Findings)
    """Intents without outcome."""
    out_of_reach: Counter[Reach] = field(default_factory=Counter)
    """Signatures in the trail whose events the files cannot have."""
    owners: int = 0
    """Signatures in CloudTrail that no record names, and need none: the keys' owners made them."""
    other_keys: int = 0
    """Signatures in CloudTrail with keys that the trail does not name."""

    @property
    def agrees(self) -> bool:
        """Whether each signature that both should have is in both, as far as crashes and lost answers let them."""
        unexplained = self.without_record.count - self.explainable
        return not (unexplained or self.without_event.count or self.disagreements.count)

    @property
    def complete(self) -> bool:
        """Whether CloudTrail's files go back to all that is in the trail; what is not delivered yet does not count."""
        return not (self.out_of_reach[Reach.BEFORE] or self.out_of_reach[Reach.NO_REGION])


@dataclass(frozen=True, slots=True)
class Scope:
    """Which signatures must have records."""

    keys: AbstractSet[str]
    """Those of these keys, by ARN, ..."""
    owners: Sequence[str]
    """... unless one of these made them: a user's ARN, or a role's session without its name."""
    period: Period

    def is_owner(self, principal: str) -> bool:
        """Whether somebody may sign without a record."""
        role, _, _ = principal.rpartition("/")
        return principal in self.owners or (":assumed-role/" in role and role in self.owners)


class Reconciler:
    """Sums up judgements and excuses; what is outside of the period is left out."""

    def __init__(self, scope: Scope, coverage: Coverage) -> None:
        self._scope = scope
        self._families = {key_family(key) for key in scope.keys}
        self._period = scope.period
        self._coverage = coverage
        self.actors: set[str] = set()
        """Who made the signatures that have a record."""
        self.result = Reconciliation()

    def take(self, judgement: Judgement) -> SignEvent | None:
        """Count a judgement; gives back a signature without record, for which an excuse is to be found."""
        verdict, attempt, event = judgement
        if verdict is Verdict.AGREES and event is not None and len(self.actors) < ACTORS_LIMIT:
            self.actors.add(event.actor)
        if attempt is None:
            return self._without_record(event) if event is not None else None
        if not self._period.holds(attempt.time):
            return None
        finding = _finding(verdict, attempt, event)
        match verdict:
            case Verdict.AGREES:
                self.result.matched += 1
            case Verdict.NO_EVENT:
                self._without_event(attempt, finding)
            case Verdict.NO_REQUEST_ID:
                self.result.without_event.add(finding)
            case Verdict.UNKNOWN_SIGNED | Verdict.UNKNOWN_FAILED | Verdict.UNKNOWN_NO_EVENT:
                self.result.unknown.add(finding)
            case _:
                self.result.disagreements.add(finding)
        return None

    def take_excuse(self, excuse: Excuse) -> None:
        """List an attempt without answer, or an intent without outcome."""
        if self._period.holds(excuse.time):
            found = self.result.unknown if excuse.kind == ExcuseKind.UNKNOWN else self.result.intents
            found.add(Finding(excuse.time, excuse.kind, excuse.audit_id, key_arn=excuse.key_arn))

    def take_explained(self, event: SignEvent, could_be: tuple[Excuse, ...], *, explainable: bool) -> None:
        """List a signature without record, with what it could be."""
        self.result.explainable += explainable
        self.result.without_record.add(
            Finding(
                event.time,
                Verdict.NO_RECORD,
                request_id=event.request_id,
                key_arn=event.key_arn,
                event_id=event.event_id,
                principal=event.principal,
                could_be=tuple(excuse.audit_id for excuse in could_be),
            )
        )

    def _without_record(self, event: SignEvent) -> SignEvent | None:
        if not self._period.holds(event.time):
            return None
        # A signature whose key is not told may be by any.
        if event.key_arn and key_family(event.key_arn) not in self._families:
            self.result.other_keys += 1
            return None
        if self._scope.is_owner(event.principal):
            self.result.owners += 1
            return None
        return event

    def _without_event(self, attempt: Attempted, finding: Finding) -> None:
        reach = self._coverage.reach(attempt)
        if reach is Reach.COVERED:
            self.result.without_event.add(finding)
        else:
            self.result.out_of_reach[reach] += 1


def _finding(verdict: Verdict, attempt: Attempted, event: SignEvent | None) -> Finding:
    finding = Finding(attempt.time, verdict, attempt.audit_id, attempt.request_id, attempt.key_arn)
    if event is None:
        return finding
    return finding._replace(
        event_id=event.event_id, event_key_arn=event.key_arn, error=event.error, principal=event.principal
    )
