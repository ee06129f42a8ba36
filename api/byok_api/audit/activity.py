"""Who had what signed, when, with which key and recipe: the signatures in a trail, one by one and summed up. Pure."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from byok_api.audit.events import Kind, Outcome
from byok_api.audit.records import AuditRecord, ChainStart

ROWS_LIMIT = 100_000
"""Rows of a summary that are held; who needs more asks for a part of the time, or for longer periods."""
REASONS_LIMIT = 1000


class By(StrEnum):
    """How long the periods of a summary are; all in UTC, weeks as ISO 8601 counts them."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_FORMS = {By.HOUR: "%Y-%m-%dT%H", By.DAY: "%Y-%m-%d", By.WEEK: "%G-W%V", By.MONTH: "%Y-%m"}


class What(StrEnum):
    """What was signed."""

    CLAIM = "claim"
    """A C2PA claim that was checked against the recipe, or a digest of one."""
    BARE_DIGEST = "bare digest"
    """Unguarded: a digest whose claim nobody saw."""
    CERTIFICATE_REQUEST = "certificate request"
    CHECKPOINT = "checkpoint"
    """The head of an audit chain."""


class Signature(NamedTuple):
    """A signature that was released. What does not apply is empty."""

    time: str
    """RFC 3339, in UTC, in microseconds."""
    caller: str
    recipe: str
    """`namespace/name@version`."""
    recipe_hash: str
    key: str
    """The ByokKey, `namespace/name`."""
    key_arn: str
    algorithm: str
    what: str
    """A `What`."""
    manifest: str
    claim_sha256: str
    kms_request_id: str
    audit_id: str


class Row(NamedTuple):
    """Signatures of one period that have the rest in common."""

    period: str
    caller: str
    recipe: str
    key: str
    key_arn: str
    what: str


class TooManyRowsError(ValueError):
    """A summary has more rows than are held."""


def signature_of(record: AuditRecord) -> Signature | None:
    """Read a signature that was released; None for any other record, a signature that was given out again included."""
    event = record.event
    if isinstance(event, ChainStart) or event.outcome is not Outcome.SIGNED or event.repeats is not None:
        return None
    answered = (attempt.kms_request_id for attempt in event.attempts if attempt.outcome is Outcome.SIGNED)
    return Signature(
        time=record.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        caller=event.caller or "",
        recipe=event.recipe or "",
        recipe_hash=event.recipe_hash or "",
        key=event.key or "",
        key_arn=event.key_arn or "",
        algorithm=event.algorithm or "",
        what=_what(event.kind, guarded=event.guarded is not False).value,
        manifest=event.manifest or "",
        claim_sha256=event.claim_sha256 or "",
        kms_request_id=next(answered, None) or "",
        audit_id=str(record.head.id),
    )


def _what(kind: Kind, *, guarded: bool) -> What:
    match kind:
        case Kind.CERTIFY:
            return What.CERTIFICATE_REQUEST
        case Kind.CHECKPOINT:
            return What.CHECKPOINT
        case _:
            return What.CLAIM if guarded else What.BARE_DIGEST


class Totals:
    """What became of all requests, apart from who made them."""

    def __init__(self) -> None:
        self.signed: Counter[What] = Counter()
        self.repeated = 0
        """Signatures given out again to a retry: KMS did not sign twice."""
        self.failed = 0
        """KMS was asked, or about to be, and nothing was released."""
        self.unknown = 0
        """The same, and KMS may have signed."""
        self.refused = 0
        """Refused before KMS was asked, those included that were only counted."""
        self.reasons: Counter[str] = Counter()
        """Records of what was failed, unknown or refused, by reason."""

    def take(self, record: AuditRecord) -> None:
        """Count a record."""
        event = record.event
        if isinstance(event, ChainStart) or event.kind is Kind.INTENT:
            return
        if event.kind is Kind.REFUSAL:
            self.refused += 1 + event.suppressed
        elif event.outcome is Outcome.SIGNED and event.repeats is not None:
            self.repeated += 1
        elif event.outcome is Outcome.SIGNED:
            self.signed[_what(event.kind, guarded=event.guarded is not False)] += 1
        elif event.outcome is Outcome.UNKNOWN:
            self.unknown += 1
        else:
            self.failed += 1
        if event.outcome is not Outcome.SIGNED:
            reason = event.reason or "none"
            known = reason in self.reasons or len(self.reasons) < REASONS_LIMIT
            self.reasons[reason if known else "others"] += 1


class Summary:
    """Signatures counted by period, caller, recipe, key and what they are; repetitions apart."""

    def __init__(self, by: By) -> None:
        self._form = _FORMS[by]
        self._signed: Counter[Row] = Counter()
        self._repeated: Counter[Row] = Counter()

    def take(self, record: AuditRecord) -> None:
        """Count a record; TooManyRowsError if there is no end of them."""
        event = record.event
        if isinstance(event, ChainStart) or event.outcome is not Outcome.SIGNED:
            return
        what = _what(event.kind, guarded=event.guarded is not False).value
        key, key_arn = event.key or "", event.key_arn or ""
        row = Row(self._period(record.time), event.caller or "", event.recipe or "", key, key_arn, what)
        counts = self._signed if event.repeats is None else self._repeated
        counts[row] += 1
        if len(counts) > ROWS_LIMIT:
            raise TooManyRowsError(f"the summary has over {ROWS_LIMIT} rows")

    def rows(self) -> Iterator[tuple[Row, int, int]]:
        """Give the rows in order, each with the signatures, and how often one was given out again."""
        for row in sorted(self._signed.keys() | self._repeated.keys()):
            yield row, self._signed[row], self._repeated[row]

    def _period(self, time: datetime) -> str:
        return time.strftime(self._form)
