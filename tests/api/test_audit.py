import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.audit import (
    ATTEMPTS_LIMIT,
    LINE_LIMIT,
    Attempt,
    AuditEvent,
    AuditId,
    Head,
    Kind,
    LineFault,
    Outcome,
    RecordError,
    read_record,
    seal,
    start_chain,
    writer_id,
)
from tests.support.trails import (
    CHECKPOINT_INTENT,
    DECIDED,
    INTENT,
    REFUSED,
    RENEWED,
    REPEATED,
    SETTLED,
    SIGNED,
    TIME,
    checkpointed,
    rehashed,
    trail,
)

GOLDEN = Path(__file__).parents[1] / "data" / "audit" / "trail.jsonl"
HEAD = Head("signer-a", 6, "ab" * 32)
LOST = (Attempt(None, Outcome.UNKNOWN),)
TEXTS = ["request_id", "caller", "recipe", "key", "key_arn", "algorithm", "manifest", "decision", "reason"]


def forged(**changes: object) -> bytes:
    fields: dict[str, Any] = json.loads(seal(SIGNED, HEAD, time=TIME)[0])
    del fields["hash"]
    fields.update(changes)
    return rehashed(json.dumps(fields, separators=(",", ":"))[:-1])


def test_the_bytes_of_a_trail_never_change() -> None:
    assert b"".join(trail(7)[0]) == GOLDEN.read_bytes()


@pytest.mark.parametrize("line", GOLDEN.read_bytes().splitlines())
def test_a_line_is_json_that_ends_with_the_hash_of_what_is_before(line: bytes) -> None:
    body, _, rest = line.partition(b',"hash":')
    assert json.loads(line)["hash"] == hashlib.sha256(body).hexdigest() == json.loads(rest[:-1])


@pytest.mark.parametrize(
    "event",
    [
        SIGNED,
        REFUSED,
        AuditEvent(kind=Kind.INTENT),
        INTENT,
        replace(SIGNED, guarded=False),
        SETTLED,
        REPEATED,
        DECIDED,
        replace(INTENT, decision=DECIDED.decision),
        RENEWED,
        replace(RENEWED, attempts=(Attempt("r1", Outcome.FAILED), Attempt("r2", Outcome.UNKNOWN))),
        replace(REFUSED, decision=DECIDED.decision),
        CHECKPOINT_INTENT,
        checkpointed(Head("signer-a", 5, "cd" * 32)),
    ],
)
def test_what_was_sealed_is_read_back(event: AuditEvent) -> None:
    line, head = seal(event, HEAD, time=TIME)
    record = read_record(line[:-1])
    assert (record.event, record.time, record.head, record.previous) == (event, TIME, head, HEAD.hash)


@given(st.sampled_from(TEXTS), st.text(alphabet=st.characters(exclude_categories=[]), max_size=600))
def test_any_text_can_be_recorded_and_read_back(name: str, text: str) -> None:
    changed: dict[str, Any] = {name: text}
    line, _ = seal(replace(SIGNED, **changed), HEAD, time=TIME)
    assert line.isascii()
    assert line.count(b"\n") == 1
    written = getattr(read_record(line[:-1]).event, name)
    # Two halves of a surrogate pair side by side are one character in JSON.
    assert written == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") or written[-1] == "…"


def test_the_decision_stands_between_what_was_signed_and_what_became_of_it() -> None:
    line, _ = seal(DECIDED, HEAD, time=TIME)
    assert f'"claim_sha256":"{DECIDED.claim_sha256}","decision":"{DECIDED.decision}","guarded":true' in line.decode()


def test_an_intent_tells_of_what_got_lost_where_an_outcome_does() -> None:
    line = seal(RENEWED, HEAD, time=TIME)[0].decode()
    assert '"kind":"intent","intent":1,"request_id":"req-1","caller":' in line
    assert ',"guarded":true,"attempts":[{"kms_request_id":null,"outcome":"unknown"}],"hash":' in line


def test_the_longest_record_fits_in_a_line() -> None:
    worst: dict[str, Any] = dict.fromkeys(TEXTS, "\U0001f600" * 10_000)
    attempts = (Attempt("\U0001f600" * 10_000, Outcome.UNKNOWN),) * ATTEMPTS_LIMIT
    event = AuditEvent(kind=Kind.OUTCOME, outcome=Outcome.UNKNOWN, attempts=attempts, **worst)
    line, _ = seal(event, Head("w" * 128, 2**63 - 2, "ab" * 32), time=TIME)
    assert len(line) <= LINE_LIMIT
    read_record(line[:-1])


def test_text_over_its_limit_is_cut_and_says_so() -> None:
    line, _ = seal(replace(SIGNED, caller="x" * 513, manifest="y" * 600), HEAD, time=TIME)
    event = read_record(line[:-1]).event
    assert isinstance(event, AuditEvent)
    assert (event.caller, event.manifest) == ("x" * 511 + "…", "y" * 511 + "…")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": Kind.CHAIN_START, "outcome": None, "attempts": ()},
        {"outcome": None},
        {"kind": Kind.REFUSAL, "reason": "KeyMissing"},
        {"kind": Kind.REFUSAL, "outcome": None, "attempts": ()},
        {"kind": Kind.INTENT, "outcome": None},
        {"suppressed": 1},
        {"attempts": (Attempt(None, Outcome.UNKNOWN),) * (ATTEMPTS_LIMIT + 1)},
        {"kind": Kind.INTENT, "outcome": None, "attempts": (), "reason": "KeyMissing"},
        {"kind": Kind.INTENT, "outcome": None, "attempts": (), "intent": 1},
        {"kind": Kind.INTENT, "outcome": None, "attempts": LOST},
        {"kind": Kind.INTENT, "outcome": None, "attempts": LOST, "intent": 0},
        {"kind": Kind.INTENT, "outcome": None, "attempts": LOST, "intent": 1, "repeats": 1},
        {"kind": Kind.INTENT, "outcome": None, "attempts": LOST * (ATTEMPTS_LIMIT + 1), "intent": 1},
        {"kind": Kind.INTENT, "outcome": None, "attempts": (Attempt("r1", Outcome.FAILED),), "intent": 1},
        {"kind": Kind.INTENT, "outcome": None, "attempts": (*LOST, Attempt("r1", Outcome.SIGNED)), "intent": 1},
        {"kind": Kind.REFUSAL, "outcome": None, "attempts": LOST, "reason": "KeyMissing", "intent": 1},
        {"kind": Kind.REFUSAL, "outcome": None, "attempts": (), "reason": "KeyMissing", "intent": 1},
        {"intent": 0},
        {"intent": 2**63},
        {"repeats": 1},
        {"repeats": 1, "attempts": (), "intent": 1},
        {"repeats": 1, "attempts": (), "outcome": Outcome.FAILED},
        {"kind": Kind.CERTIFY, "repeats": 1, "attempts": ()},
        {"kind": Kind.CHECKPOINT, "intent": 1, "outcome": Outcome.FAILED, "decision": "d"},
        {"head": "signer-a/1"},
        {"head_hash": "ab" * 32},
        {"public_key": "c2ln"},
        {"signature": "c2ln"},
    ],
)
def test_an_event_whose_fields_do_not_go_together_is_a_bug(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(SIGNED, **fields)


@pytest.mark.parametrize("name", ["recipe_hash", "claim_sha256"])
@pytest.mark.parametrize("digest", ["ab", "AB" * 32, "ab" * 33, "é" * 64, ""])
def test_a_hash_of_another_form_is_never_sealed(name: str, digest: str) -> None:
    changed: dict[str, Any] = {name: digest}
    with pytest.raises(ValueError, match="64 lower-case"):
        seal(replace(INTENT, **changed), HEAD, time=TIME)


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=2))])
def test_a_time_outside_utc_is_a_bug(zone: timezone | None) -> None:
    with pytest.raises(ValueError, match="UTC"):
        seal(SIGNED, HEAD, time=TIME.replace(tzinfo=zone))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", LineFault.NOT_A_RECORD),
        (b"{}", LineFault.NOT_A_RECORD),
        (b"\x00" * 500, LineFault.NOT_A_RECORD),
        (b"x" * LINE_LIMIT, LineFault.LINE_TOO_LONG),
        (rehashed("["), LineFault.NOT_A_RECORD),
        (rehashed("[" * 100_000), LineFault.NOT_A_RECORD),
        (rehashed('{"schema":1'), LineFault.NOT_A_RECORD),
        (rehashed('{"schema":' + "9" * 5000), LineFault.NOT_A_RECORD),
        (rehashed('{"schema":"\ud7ff\\ud800'), LineFault.NOT_A_RECORD),
        (forged(schema=2), LineFault.UNKNOWN_SCHEMA),
        (forged(schema="1"), LineFault.UNKNOWN_SCHEMA),
        (forged(kind="gossip"), LineFault.NOT_A_RECORD),
        (forged(kind=["outcome"]), LineFault.NOT_A_RECORD),
        (forged(kind="chain-start"), LineFault.NOT_A_RECORD),
        (forged(sequence=0), LineFault.NOT_A_RECORD),
        (forged(sequence=-1), LineFault.NOT_A_RECORD),
        (forged(sequence=True), LineFault.NOT_A_RECORD),
        (forged(sequence=1e300), LineFault.NOT_A_RECORD),
        (forged(sequence=2**70), LineFault.NOT_A_RECORD),
        (forged(writer="../etc"), LineFault.NOT_A_RECORD),
        (forged(writer=7), LineFault.NOT_A_RECORD),
        (forged(previous="0"), LineFault.NOT_A_RECORD),
        (forged(time="yesterday"), LineFault.NOT_A_RECORD),
        (forged(time="2026-03-04T05:06:07.890123+02:00"), LineFault.NOT_A_RECORD),
        (forged(time="0001-01-01T00:00:00.000000+12:00"), LineFault.NOT_A_RECORD),
        (forged(caller=5), LineFault.NOT_A_RECORD),
        (forged(caller=None), LineFault.NOT_A_RECORD),
        (forged(caller="x" * 513), LineFault.NOT_A_RECORD),
        (forged(outcome="perhaps"), LineFault.NOT_A_RECORD),
        (forged(guarded=1), LineFault.NOT_A_RECORD),
        (forged(attempts={}), LineFault.NOT_A_RECORD),
        (forged(attempts=[5]), LineFault.NOT_A_RECORD),
        (forged(attempts=[{"kms_request_id": 5, "outcome": "signed"}]), LineFault.NOT_A_RECORD),
        (forged(suppressed=0), LineFault.NOT_A_RECORD),
        (forged(surprise="x"), LineFault.NOT_A_RECORD),
        (forged(intent=1), LineFault.NOT_A_RECORD),  # not where it belongs
        (forged(intent=True), LineFault.NOT_A_RECORD),
        (forged(intent="1"), LineFault.NOT_A_RECORD),
        (forged(repeats=1.0), LineFault.NOT_A_RECORD),
        (seal(replace(SETTLED, intent=7), HEAD, time=TIME)[0][:-1], LineFault.NOT_A_RECORD),
        (seal(replace(REPEATED, repeats=8), HEAD, time=TIME)[0][:-1], LineFault.NOT_A_RECORD),
    ],
)
def test_a_line_that_is_no_record_is_refused_by_name(line: bytes, fault: LineFault) -> None:
    with pytest.raises(RecordError) as error:
        read_record(line)
    assert error.value.fault is fault


def started(**changes: object) -> bytes:
    fields: dict[str, Any] = json.loads(start_chain("signer-b", time=TIME, predecessor=HEAD)[0])
    del fields["hash"]
    fields.update(changes)
    return rehashed(json.dumps(fields, separators=(",", ":"))[:-1])


@pytest.mark.parametrize(
    "line",
    [
        started(previous="0" * 64),
        started(predecessor=None),
        started(predecessor=["a/1"]),
        started(predecessor="a/01"),
        started(predecessor="no-slash"),
        started(pod=7),
        started(pod=["byok-signer-0"]),
        started(sequence=1),
        started(torn="abc"),
        started(torn=[{"size": "1", "sha256": "ab" * 32}]),
        started(torn=[{"size": 1, "sha256": "ab" * 32}] * 9),
        started(caller="x"),
    ],
)
def test_a_malformed_chain_start_is_refused(line: bytes) -> None:
    with pytest.raises(RecordError):
        read_record(line)


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_the_record_error(garbage: bytes) -> None:
    for line in (garbage, rehashed(garbage.decode("latin-1"))):
        with pytest.raises(RecordError):
            read_record(line)


def test_duplicate_keys_are_not_canonical() -> None:
    body = seal(SIGNED, HEAD, time=TIME)[0].partition(b',"hash"')[0].decode()
    with pytest.raises(RecordError, match="canonical"):
        read_record(rehashed(body.replace('"kind"', '"caller":"evil","kind"')))


def test_audit_ids_are_read_as_printed() -> None:
    assert AuditId.parse(str(AuditId("signer-a", 12))) == AuditId("signer-a", 12)
    with pytest.raises(ValueError, match="writer/sequence"):
        AuditId.parse("signer-a")


def test_no_two_runs_share_a_writer() -> None:
    assert writer_id("Pod_1.example", b"12345678") == "Pod-1-example-3132333435363738"
    assert writer_id("", b"12345678") == "signer-3132333435363738"
    with pytest.raises(ValueError, match="random"):
        writer_id("pod", b"1234567")


def test_a_chain_start_seals_a_bounded_number_of_torn_lines_for_a_well_named_writer() -> None:
    line, _ = start_chain("w", time=datetime(2026, 1, 1, tzinfo=UTC))
    assert json.load(io.BytesIO(line))["time"] == "2026-01-01T00:00:00.000000Z"
    with pytest.raises(ValueError, match="malformed"):
        start_chain("a/b", time=TIME)
