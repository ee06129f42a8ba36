"""Signatures are told from what was only given out again, refused or failed; periods are UTC's."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.audit import AuditEvent, AuditRecord, Head, Kind, Outcome, activity, read_record, seal, start_chain
from byok_api.audit.activity import By, Summary, TooManyRowsError, Totals, What, signature_of
from tests.support.trails import INTENT, REFUSED, RENEWED, REPEATED, SETTLED, SIGNED, TIME

CERTIFY = replace(SETTLED, kind=Kind.CERTIFY, recipe=None, manifest=None)
BARE = replace(SIGNED, guarded=False, manifest=None, claim_sha256=None)
FAILED = replace(SIGNED, outcome=Outcome.FAILED, reason="KmsUnavailable", attempts=())
UNKNOWN = replace(SIGNED, outcome=Outcome.UNKNOWN, reason="Internal")


def recorded(event: AuditEvent, time: datetime = TIME) -> AuditRecord:
    line, _ = seal(event, Head("signer-a", 8, "0" * 64), time=time)
    return read_record(line[:-1])


def totals_of(*events: AuditEvent) -> Totals:
    totals = Totals()
    for event in events:
        totals.take(recorded(event))
    return totals


@pytest.mark.parametrize(
    ("event", "what"),
    [(SIGNED, What.CLAIM), (SETTLED, What.CLAIM), (BARE, What.BARE_DIGEST), (CERTIFY, What.CERTIFICATE_REQUEST)],
)
def test_a_signature_says_what_was_signed(event: AuditEvent, what: What) -> None:
    signature = signature_of(recorded(event))
    assert signature is not None
    assert (signature.what, signature.audit_id, signature.time) == (what, "signer-a/9", "2026-03-04T05:06:07.890123Z")
    assert signature.kms_request_id == "b1946ac9-2492-4d23-8b1f-3c59dcbbc1de"


@pytest.mark.parametrize("event", [INTENT, RENEWED, REFUSED, REPEATED, FAILED, UNKNOWN])
def test_nothing_else_is_a_signature(event: AuditEvent) -> None:
    assert signature_of(recorded(event)) is None


def test_a_chain_start_is_nothing() -> None:
    start = read_record(start_chain("signer-a", time=TIME)[0][:-1])
    summary, totals = Summary(By.DAY), Totals()
    summary.take(start)
    totals.take(start)
    assert (signature_of(start), list(summary.rows()), totals.signed.total()) == (None, [], 0)


def test_totals_tell_what_became_of_requests() -> None:
    totals = totals_of(INTENT, RENEWED, SETTLED, BARE, REPEATED, REPEATED, FAILED, UNKNOWN, REFUSED)
    assert totals.signed == {What.CLAIM: 1, What.BARE_DIGEST: 1}
    assert (totals.repeated, totals.failed, totals.unknown) == (2, 1, 1)
    assert totals.refused == 1 + REFUSED.suppressed
    assert totals.reasons == {"KmsUnavailable": 1, "Internal": 1, "KeyNotAllowed": 1}


def test_reasons_without_end_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "REASONS_LIMIT", 2)
    totals = totals_of(*(replace(FAILED, reason=f"Reason{number}") for number in range(5)))
    assert totals.reasons == {"Reason0": 1, "Reason1": 1, "others": 3}


PERIODS = [
    (By.HOUR, "2027-01-01T00"),
    (By.DAY, "2027-01-01"),
    (By.WEEK, "2026-W53"),
    (By.MONTH, "2027-01"),
]


@pytest.mark.parametrize(("by", "period"), PERIODS)
def test_a_period_is_named_as_iso_8601_does(by: By, period: str) -> None:
    summary = Summary(by)
    summary.take(recorded(SIGNED, datetime(2027, 1, 1, 0, 59, 59, 999999, UTC)))
    assert [row.period for row, _, _ in summary.rows()] == [period]


def test_rows_differ_in_any_of_caller_recipe_key_and_what() -> None:
    summary = Summary(By.MONTH)
    for change in (
        {},
        {"caller": "other"},
        {"recipe": "a/b@2"},
        {"key": "a/k"},
        {"key_arn": "arn"},
        {"guarded": False},
    ):
        summary.take(recorded(replace(SIGNED, **change)))
    assert [signed for _, signed, _ in summary.rows()] == [1] * 6


def test_a_summary_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "ROWS_LIMIT", 2)
    summary = Summary(By.DAY)
    first, second, third = (recorded(replace(SIGNED, caller=f"caller-{number}")) for number in range(3))
    summary.take(first)
    summary.take(second)
    with pytest.raises(TooManyRowsError, match="over 2 rows"):
        summary.take(third)


@given(events=st.lists(st.sampled_from([INTENT, SETTLED, SIGNED, BARE, REPEATED, FAILED, UNKNOWN, REFUSED, CERTIFY])))
def test_rows_list_and_totals_count_the_same_signatures(events: Sequence[AuditEvent]) -> None:
    summary, totals = Summary(By.DAY), Totals()
    records = [recorded(event) for event in events]
    for record in records:
        summary.take(record)
        totals.take(record)
    rows = list(summary.rows())
    assert (
        sum(signed for _, signed, _ in rows)
        == totals.signed.total()
        == len(list(filter(None, map(signature_of, records))))
    )
    assert sum(repeated for _, _, repeated in rows) == totals.repeated
