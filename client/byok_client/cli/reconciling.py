"""The work of `byokctl audit reconcile`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from byok_api.audit import AuditRecord, ChainStart, Kind, Outcome
from byok_api.audit.agreement import Coverage, Finding, Findings, Period, Reach, Reconciler, Reconciliation, Scope
from byok_api.audit.cloudtrail import SignEvent, plain
from byok_api.audit.reconciliation import attempts_of, explain, join, unknown_attempt
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn
from byok_client.cli.cloudtrail_files import FilesRead, read_files
from byok_client.cli.exits import Exit
from byok_client.cli.findings import counted
from byok_client.cli.ledgers import Ledger
from byok_client.cli.output import Line, Report, Table
from byok_client.cli.trail_files import TrailVerdict, read_trails

_KEYS_LIMIT = 65_536


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be reconciled."""

    trails: Sequence[Path]
    cloudtrail: Sequence[Path]
    keys: Sequence[str]
    """ARNs of further keys whose signatures must have records."""
    owners: Sequence[str]
    """Principals whose signatures need no records."""
    period: Period
    delay: float
    """Seconds that CloudTrail may take to deliver an event."""


@dataclass(frozen=True)
class _Answer:
    trail: TrailVerdict
    files: FilesRead
    coverage: Coverage
    keys: Sequence[str]
    result: Reconciliation

    @property
    def complete(self) -> bool:
        return self.result.complete and not self.files.damage_count


def reconcile(question: Question) -> Report:
    """Compare trails with CloudTrail's files; Refusal if one of them cannot be read, or there is no room to sort."""
    for key in question.keys:
        _check_key(key)
    with Ledger() as ledger:
        trail = _TrailSide(ledger, question)
        verdict = read_trails(question.trails, trail.take)
        ledger.excuse_open_intents()
        coverage = Coverage(since=question.period.start, delay=question.delay)

        def take(event: SignEvent) -> None:
            if question.period.is_near(event.time):
                ledger.add_event(event)

        files = read_files(question.cloudtrail, coverage.see, take)
        result = _compare(ledger, Reconciler(Scope(trail.keys, question.owners, question.period), coverage))
    answer = _Answer(verdict, files, coverage, sorted(trail.keys), result)
    fine = result.agrees and answer.complete and verdict.intact
    return Report(_document(answer), _text(answer), Exit.OK if fine else Exit.FAILED)


def _check_key(arn: str) -> None:
    try:
        alias = KeyArn(arn).is_alias
    except ValueError as error:
        raise Refusal(Reason.ConfigurationInvalid, f"--key {error}") from None
    if alias:
        raise Refusal(
            Reason.ConfigurationInvalid, f"--key {arn} names an alias, which can move: give the key's own ARN"
        )


class _TrailSide:
    """Puts what a trail says of KMS into the ledger."""

    def __init__(self, ledger: Ledger, question: Question) -> None:
        self._ledger = ledger
        self._period = question.period
        self.keys = set(question.keys)

    def take(self, record: AuditRecord) -> None:
        event, time = record.event, record.time.timestamp()
        if isinstance(event, ChainStart):
            return
        if event.key_arn is not None and event.key_arn not in self.keys:
            self._name_key(plain(event.key_arn))
        if not self._period.is_near(time):
            return
        if event.kind is Kind.INTENT:
            self._ledger.begin(record.writer, record.sequence, time, plain(event.key_arn))
        asked = None if event.intent is None else self._ledger.settle(record.writer, event.intent)
        for attempt in attempts_of(record):
            if attempt.request_id or attempt.outcome == Outcome.SIGNED:
                self._ledger.add_attempt(attempt)
            elif attempt.outcome == Outcome.UNKNOWN:
                self._ledger.add_excuse(unknown_attempt(attempt, time if asked is None else asked))

    def _name_key(self, arn: str) -> None:
        if len(self.keys) >= _KEYS_LIMIT:
            raise Refusal(Reason.InvalidRequest, f"the trail names over {_KEYS_LIMIT} keys: reconcile parts of it")
        self.keys.add(arn)


def _compare(ledger: Ledger, reconciler: Reconciler) -> Reconciliation:
    for judgement in join(ledger.attempts(), ledger.events()):
        event = reconciler.take(judgement)
        if event is not None:
            ledger.add_unmatched(event)
    for excuse in ledger.excuses():
        reconciler.take_excuse(excuse)
    for event, could_be, explainable in explain(ledger.unmatched(), ledger.excuses(), reconciler.actors):
        reconciler.take_explained(event, could_be, explainable=explainable)
    return reconciler.result


def _document(answer: _Answer) -> dict[str, Any]:
    result, files = answer.result, answer.files
    return {
        "agrees": result.agrees,
        "complete": answer.complete,
        "trail": answer.trail.document(),
        "cloudTrail": {
            "files": files.files,
            "skippedFiles": files.skipped,
            "events": files.events,
            "damageCount": files.damage_count,
            "damages": [{"file": file, "offset": at, "message": what} for file, at, what in files.damages],
            "covers": [
                {"region": region, "from": _time(first), "to": _time(last)}
                for region, (first, last) in answer.coverage.spans.items()
            ],
        },
        "keys": answer.keys,
        "matched": result.matched,
        "signaturesWithoutRecord": {"explainable": result.explainable, **_findings(result.without_record)},
        "recordsWithoutEvent": _findings(result.without_event),
        "disagreements": _findings(result.disagreements),
        "attemptsUnknown": _findings(result.unknown),
        "intentsWithoutOutcome": _findings(result.intents),
        "notCovered": {reach.value: result.out_of_reach[reach] for reach in Reach if reach is not Reach.COVERED},
        "byOwners": result.owners,
        "otherKeys": result.other_keys,
    }


def _findings(findings: Findings) -> dict[str, Any]:
    return {"count": findings.count, "listed": [_finding(finding) for finding in findings.listed]}


_NAMES = {"audit_id": "auditId", "request_id": "requestId", "key_arn": "keyArn", "event_id": "eventId"}
_NAMES |= {"event_key_arn": "eventKeyArn", "could_be": "couldBe"}


def _finding(finding: Finding) -> dict[str, Any]:
    fields = {_NAMES.get(name, name): value for name, value in finding._asdict().items() if value}
    return {**fields, "time": _time(finding.time)}


def _time(seconds: float) -> str:
    whole = float(seconds).is_integer()
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds" if whole else "milliseconds")
    return text.replace("+00:00", "Z")


def _text(answer: _Answer) -> list[Line | Table]:
    result = answer.result
    text: list[Line | Table] = [*answer.trail.warnings(), *_damages(answer.files), _verdict(answer)]
    text.append(Line(f"signatures with record and event: {result.matched}"))
    text += _section(
        f"signatures in CloudTrail without record: {result.without_record.count}, of which {result.explainable} may "
        "be attempts without answer or intents without outcome",
        result.without_record,
        "" if result.without_record.count <= result.explainable else "red",
    )
    text += _section(f"records without event: {result.without_event.count}", result.without_event, "red")
    text += _section(f"told differently: {result.disagreements.count}", result.disagreements, "red")
    text += _section(f"attempts unknown: {result.unknown.count}", result.unknown)
    text += _section(f"intents without outcome: {result.intents.count}", result.intents)
    text += [
        Line(f"{_REACHES[reach]}: {number}", style)
        for reach, style in _REACH_STYLES.items()
        if (number := result.out_of_reach[reach])
    ]
    if result.owners:
        text.append(Line(f"signatures by key owners, which need no record: {result.owners}"))
    text.append(Line(f"signatures with other keys, left aside: {result.other_keys}"))
    text += _extent(answer)
    return text


_REACHES = {
    Reach.NOT_YET: "records whose events CloudTrail may not have delivered yet",
    Reach.BEFORE: "records from before the CloudTrail files begin, not compared",
    Reach.NO_REGION: "records with keys of Regions that the CloudTrail files have nothing of, not compared",
}
_REACH_STYLES = {Reach.NOT_YET: "", Reach.BEFORE: "yellow", Reach.NO_REGION: "yellow"}


def _verdict(answer: _Answer) -> Line:
    if not answer.trail.intact:
        return Line("the trail is not intact, so that the comparison proves little", "bold red")
    if not answer.result.agrees:
        return Line("trail and CloudTrail do not agree", "bold red")
    if not answer.complete:
        return Line("what was compared agrees, but not everything could be compared", "bold yellow")
    return Line("trail and CloudTrail agree", "bold green")


def _damages(files: FilesRead) -> list[Line]:
    lines = [Line(f"{file}: at byte {at}: {what}", "red") for file, at, what in files.damages]
    if files.damage_count > len(files.damages):
        lines.append(Line(f"and {files.damage_count - len(files.damages)} more places that could not be read", "red"))
    return lines


def _section(heading: str, findings: Findings, style: str = "yellow") -> list[Line | Table]:
    if not findings.count:
        return [Line(heading)]
    rows = [_row(finding) for finding in findings.listed]
    used = [index for index in range(len(_HEADING)) if any(row[index] for row in rows)]
    heads = [_HEADING[index] for index in used]
    table = Table(heads, [[row[index] or "-" for index in used] for row in rows])
    more = findings.count - len(rows)
    return [Line(heading, style), table, *([Line(f"and {more} more")] if more else [])]


_HEADING = ("TIME", "VERDICT", "RECORD", "REQUEST", "EVENT", "KEY", "KEY OF THE EVENT", "ERROR", "BY", "COULD BE")


def _row(finding: Finding) -> list[str]:
    other = finding.event_key_arn if finding.event_key_arn != finding.key_arn else ""
    return [
        _time(finding.time),
        finding.verdict,
        finding.audit_id,
        finding.request_id,
        finding.event_id,
        finding.key_arn,
        other,
        finding.error,
        finding.principal,
        ", ".join(finding.could_be),
    ]


def _extent(answer: _Answer) -> list[Line]:
    files, report = answer.files, answer.trail.report
    spans = [f"{name} {_time(a)} to {_time(b)}" for name, (a, b) in answer.coverage.spans.items()]
    skipped = f", {counted(files.skipped, 'file')} of other kinds skipped" if files.skipped else ""
    return [
        Line(f"trail: {counted(report.records, 'record')}, {counted(len(answer.keys), 'key')}"),
        Line(f"CloudTrail: {counted(files.events, 'event')} in {counted(files.files, 'file')}{skipped}"),
        *(Line(f"  {span}") for span in spans),
    ]
