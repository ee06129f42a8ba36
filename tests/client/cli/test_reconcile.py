"""`byokctl audit reconcile`: trail files against CloudTrail's log files, as they lie in its bucket."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byok_api.audit import Attempt, AuditEvent, Kind, Outcome, TornLine, start_chain
from byok_api.audit.agreement import Period
from byok_client.cli import ledgers
from byok_client.cli.reconciling import Question, reconcile
from tests.support.cloudtrail import CALLER, KEY, OTHER_KEY, log_file, sign, with_key
from tests.support.command_line import Cli, Ended
from tests.support.trail_files import write_trail
from tests.support.trails import REFUSED, SIGNED, TIME

Run = Callable[..., Ended]
DATA = Path(__file__).parent.parent.parent / "data" / "cloudtrail"
START = TIME.timestamp()

INTENT = AuditEvent(kind=Kind.INTENT, key_arn=KEY)
REFUSED_WITH_KEY = replace(REFUSED, key_arn=KEY)
OUTCOME = replace(SIGNED, key_arn=KEY, attempts=())


def outcome(*attempts: tuple[str | None, str], intent: int | None = None, **changes: Any) -> AuditEvent:  # noqa: ANN401 - any field
    """Make the record of one request's calls of KMS: request id and what became of it."""
    calls = tuple(Attempt(request_id, Outcome(ended)) for request_id, ended in attempts)
    last = Outcome(attempts[-1][1]) if attempts else Outcome.SIGNED
    return replace(OUTCOME, outcome=last, attempts=calls, intent=intent, **changes)


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Run:
    """Reconcile events with events; a later event of another service says that CloudTrail has delivered the rest."""

    def reconcile(trail: Sequence[AuditEvent], cloudtrail: Sequence[dict[str, Any]], *arguments: object) -> Ended:
        heard = [sign("x", START + seconds, eventName="ListKeys", eventID=f"x{seconds}") for seconds in (-9, 9000)]
        write_trail(tmp_path / "audit.jsonl", trail)
        log_file(tmp_path / "ct" / "log.json.gz", [*heard, *cloudtrail])
        return cli(
            "audit", "reconcile", tmp_path / "audit.jsonl", "--cloudtrail", tmp_path / "ct", "-o", "json", *arguments
        )

    return reconcile


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    classes = (name for name in document if isinstance(document[name], dict) and "count" in document[name])
    return {name: document[name]["count"] for name in classes if document[name]["count"]}


def test_a_trail_and_its_events_agree(run: Run) -> None:
    ended = run([INTENT, outcome(("r1", "signed"), intent=1)], [sign("r1", START + 2)])
    assert (ended.status, ended.document["agrees"], ended.document["matched"]) == (0, True, 1)
    assert _counts(ended.document) == {}


def test_a_signature_without_record_is_listed_with_who_made_it(run: Run) -> None:
    stolen = sign("r2", START + 3, userIdentity={"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/Mallory"})
    ended = run([outcome(("r1", "signed"))], [sign("r1", START + 1), stolen])
    assert (ended.status, _counts(ended.document)) == (1, {"signaturesWithoutRecord": 1})
    assert ended.document["signaturesWithoutRecord"]["listed"] == [
        {
            "time": "2026-03-04T05:06:10Z",
            "verdict": "NoRecord",
            "requestId": "r2",
            "keyArn": KEY,
            "eventId": "event-r2",
            "principal": "arn:aws:iam::111122223333:user/Mallory",
        }
    ]


def test_an_intent_without_outcome_may_be_one_such_signature_and_not_two(run: Run) -> None:
    one = run([INTENT], [sign("r1", START + 1)])
    assert (one.status, one.document["signaturesWithoutRecord"]["explainable"]) == (0, 1)
    assert one.document["signaturesWithoutRecord"]["listed"][0]["couldBe"] == ["signer-a/1"]
    assert one.document["intentsWithoutOutcome"]["listed"][0]["auditId"] == "signer-a/1"
    two = run([INTENT], [sign("r1", START + 1), sign("r2", START + 1)])
    assert (two.status, two.document["signaturesWithoutRecord"]["explainable"]) == (1, 1)


def test_so_may_an_attempt_without_answer(run: Run) -> None:
    ended = run([outcome((None, "unknown"), ("r1", "signed"))], [sign("r0", START), sign("r1", START + 1)])
    assert (ended.status, _counts(ended.document)) == (0, {"signaturesWithoutRecord": 1, "attemptsUnknown": 1})


def test_an_intent_that_tells_of_lost_answers_is_no_excuse_for_more_than_those(run: Run) -> None:
    killed = [INTENT, *(replace(INTENT, intent=n, attempts=(Attempt(None, Outcome.UNKNOWN),)) for n in (1, 2))]
    signed = [sign(f"r{number}", START + number) for number in range(4)]
    ended = run(killed, signed[:3])
    assert (ended.status, ended.document["signaturesWithoutRecord"]["explainable"]) == (0, 3)
    assert _counts(ended.document) == {
        "signaturesWithoutRecord": 3,
        "attemptsUnknown": 2,
        "intentsWithoutOutcome": 1,
    }
    assert [found["auditId"] for found in ended.document["attemptsUnknown"]["listed"]] == ["signer-a/2", "signer-a/3"]
    ended = run(killed, signed)
    assert (ended.status, ended.document["signaturesWithoutRecord"]["explainable"]) == (1, 3)
    settled = run([*killed, outcome(("r2", "signed"), intent=3)], signed[:3])
    assert (settled.status, settled.document["matched"]) == (0, 1)


def test_a_request_lost_with_its_id_is_looked_up_in_an_intent_too(run: Run) -> None:
    lost = replace(INTENT, intent=1, attempts=(Attempt("r1", Outcome.UNKNOWN),))
    ended = run([INTENT, lost, outcome(("r2", "signed"), intent=2)], [sign("r1", START), sign("r2", START + 1)])
    assert (ended.status, _counts(ended.document)) == (0, {"attemptsUnknown": 1})
    assert ended.document["attemptsUnknown"]["listed"][0]["verdict"] == "UnknownSigned"


def test_cloudtrail_says_what_became_of_an_attempt_with_a_request_id(run: Run) -> None:
    attempts = outcome(("r1", "unknown"), ("r2", "unknown"), ("r3", "unknown"))
    ended = run([attempts], [sign("r1", START), sign("r2", START, errorCode="KMSInternalException")])
    assert [found["verdict"] for found in ended.document["attemptsUnknown"]["listed"]] == [
        "UnknownFailed",
        "UnknownNoEvent",
        "UnknownSigned",
    ]
    assert (ended.status, ended.document["agrees"]) == (0, True)


DISAGREE = [
    ("recordsWithoutEvent", "NoEvent", "signed", {"requestID": "other", "eventName": "Verify"}),
    ("disagreements", "EventFailed", "signed", {"errorCode": "AccessDenied"}),
    ("disagreements", "KeyDiffers", "signed", with_key(OTHER_KEY)),
    ("disagreements", "RecordedAsFailed", "failed", {}),
]


@pytest.mark.parametrize(("where", "verdict", "recorded", "changes"), DISAGREE)
def test_what_cloudtrail_tells_otherwise_is_a_discrepancy(
    run: Run, where: str, verdict: str, recorded: str, changes: dict[str, Any]
) -> None:
    ended = run([outcome(("r1", recorded))], [sign("r1", START + 1, **changes)])
    assert (ended.status, _counts(ended.document)) == (1, {where: 1})
    assert ended.document[where]["listed"][0]["verdict"] == verdict


def test_dry_runs_refused_calls_and_copies_are_no_further_signatures(run: Run) -> None:
    events = [
        sign("r1", START + 1),
        sign("r1", START + 1),
        sign("r1", START + 1, recipientAccountId=CALLER, eventID="event-r1-caller"),
        sign("r1", START + 1, eventCategory="NetworkActivity", eventID="event-r1-network"),
        sign("r2", START + 1, errorCode="DryRunOperationException"),
        sign("r3", START + 1, errorCode="AccessDenied", resources=None),
        sign("r4", START + 1, eventName="GetPublicKey"),
    ]
    assert _counts(run([outcome(("r1", "signed"))], events).document) == {}


def test_signatures_with_other_keys_are_counted_unless_the_key_is_asked_for(run: Run) -> None:
    events = [sign("r1", START + 1), sign("r2", START + 1, **with_key(OTHER_KEY))]
    assert run([outcome(("r1", "signed"))], events).document["otherKeys"] == 1
    ended = run([outcome(("r1", "signed"))], events, "--key", OTHER_KEY)
    assert (ended.status, _counts(ended.document)) == (1, {"signaturesWithoutRecord": 1})


USER, ROLE = "arn:aws:iam::111122223333:user/owner", "arn:aws:sts::111122223333:assumed-role/owner"
OWNERS = [
    (USER, USER, 1),
    (f"{ROLE}/monday", ROLE, 1),
    (f"{ROLE}/monday", f"{ROLE}/monday", 1),
    (f"{ROLE}/monday", f"{ROLE}/tuesday", 0),
    (f"{ROLE}-2/monday", ROLE, 0),
    (USER, USER.removesuffix("/owner"), 0),
]


@pytest.mark.parametrize(("principal", "owner", "excused"), OWNERS)
def test_what_a_key_owner_signs_needs_no_record(run: Run, principal: str, owner: str, excused: int) -> None:
    request = sign("r2", START + 1, userIdentity={"arn": principal})
    ended = run([outcome(("r1", "signed"))], [sign("r1", START + 1), request], "--owner", owner)
    assert (ended.status, ended.document["byOwners"]) == (1 - excused, excused)


def test_certificate_requests_and_checkpoints_are_signatures_too(run: Run) -> None:
    certify = outcome(("r1", "signed"), kind=Kind.CERTIFY, intent=1)
    assert run([INTENT, certify], [sign("r1", START + 1)]).document["matched"] == 1


def test_a_repeated_answer_is_no_further_signature(run: Run) -> None:
    repeat = replace(OUTCOME, repeats=1)
    ended = run([outcome(("r1", "signed")), repeat], [sign("r1", START + 1)])
    assert (ended.status, ended.document["matched"]) == (0, 1)


def test_what_cloudtrail_may_yet_deliver_is_no_discrepancy(cli: Cli, tmp_path: Path) -> None:
    trail = write_trail(tmp_path / "audit.jsonl", [outcome(("r1", "signed")), outcome(("r2", "signed"))])
    arguments = ("audit", "reconcile", trail, "--cloudtrail", log_file(tmp_path / "l.jsonl", [sign("r1", START + 2)]))
    ended = cli(*arguments, "-o", "json")
    assert (ended.status, ended.document["notCovered"]["NotDeliveredYet"]) == (0, 1)
    assert cli(*arguments, "--delay-minutes", "0").status == 0
    later = log_file(tmp_path / "later.jsonl", [sign("x", START + 903, eventName="ListKeys")])
    assert cli(*arguments, "--cloudtrail", later).status == 1


@pytest.mark.parametrize(("region", "reach"), [("eu-west-1", "RegionMissing"), ("us-west-2", "BeforeTheFiles")])
def test_files_that_do_not_reach_a_record_leave_the_comparison_incomplete(
    cli: Cli, tmp_path: Path, region: str, reach: str
) -> None:
    trail = write_trail(tmp_path / "audit.jsonl", [outcome(("r1", "signed"))])
    files = log_file(tmp_path / "log.json", [sign("x", START + 8000, awsRegion=region, eventName="ListKeys")])
    ended = cli("audit", "reconcile", trail, "--cloudtrail", files, "-o", "json")
    assert (ended.status, ended.document["agrees"], ended.document["complete"]) == (1, True, False)
    assert ended.document["notCovered"][reach] == 1


def test_from_says_that_the_files_begin_there(cli: Cli, tmp_path: Path) -> None:
    trail = write_trail(tmp_path / "audit.jsonl", [outcome(("r1", "signed"))])
    files = log_file(tmp_path / "log.json", [sign("x", START + 8000, eventName="ListKeys")])
    ended = cli("audit", "reconcile", trail, "--cloudtrail", files, "--from", "2026-03-04", "-o", "json")
    assert (ended.status, _counts(ended.document)) == (1, {"recordsWithoutEvent": 1})


def test_what_lies_outside_of_the_period_is_left_out_and_still_matched(run: Run) -> None:
    trail = [outcome((f"r{number}", "signed")) for number in range(1, 4)]
    events = [sign("r2", START + 2.5), sign("s1", START - 60), sign("s2", START + 600)]
    ended = run(trail, events, "--from", "2026-03-04T05:06:09Z", "--to", "2026-03-04T05:06:10.5+00:00")
    assert (ended.status, ended.document["matched"], _counts(ended.document)) == (0, 1, {})


def test_an_intent_is_settled_in_the_next_file(cli: Cli, tmp_path: Path) -> None:
    whole = (
        write_trail(tmp_path / "whole", [INTENT, outcome(("r1", "signed"), intent=1)])
        .read_bytes()
        .splitlines(keepends=True)
    )
    parts = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for part, lines in zip(parts, (whole[:2], whole[2:]), strict=True):
        part.write_bytes(b"".join(lines))
    files = log_file(tmp_path / "log.json", [sign("r1", START + 2)])
    ended = cli("audit", "reconcile", *parts, "--cloudtrail", files, "-o", "json")
    assert (ended.status, ended.document["trail"]["intact"], _counts(ended.document)) == (0, True, {})


def test_a_tail_cut_off_in_one_file_is_no_damage_to_the_next(cli: Cli, tmp_path: Path) -> None:
    torn = write_trail(tmp_path / "a.jsonl", [outcome(("r1", "signed"))])
    torn.write_bytes(torn.read_bytes() + b'{"schema":1,"wri')
    other = write_trail(tmp_path / "b.jsonl", [outcome(("r2", "signed"))], "signer-b")
    files = log_file(tmp_path / "log.json", [sign("r1", START + 1), sign("r2", START + 1)])
    ended = cli("audit", "reconcile", torn, other, "--cloudtrail", files, "-o", "json")
    assert (ended.status, ended.document["trail"]["tornFiles"]) == (0, [str(torn)])


def test_a_torn_line_that_the_next_file_accounts_for_is_whole(cli: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    line, head = start_chain("signer-a", time=TIME)
    fragment = b'{"schema":1,"wri'
    first.write_bytes(line + fragment)
    second.write_bytes(start_chain("signer-b", time=TIME, predecessor=head, torn=(TornLine.of(fragment),))[0])
    files = log_file(tmp_path / "log.json", [sign("x", START, eventName="ListKeys")])
    assert cli("audit", "reconcile", first, second, "--cloudtrail", files, "-o", "json").status == 0


def test_a_trail_that_is_not_intact_fails_with_the_place(cli: Cli, tmp_path: Path) -> None:
    good = write_trail(tmp_path / "a.jsonl", [outcome(("r1", "signed"))])
    bad = write_trail(tmp_path / "b.jsonl", [outcome(("r2", "signed"))], "signer-b")
    bad.write_bytes(bad.read_bytes().replace(b'"r2"', b'"r3"'))
    files = log_file(tmp_path / "log.json", [sign("r1", START + 1)])
    ended = cli("audit", "reconcile", good, bad, "--cloudtrail", files)
    assert (ended.status, f"{bad}, line 2: Altered" in ended.out) == (1, True)
    assert ended.out.startswith("the trail is not intact (1 finding)")


def test_a_record_that_is_there_twice_counts_once(cli: Cli, tmp_path: Path) -> None:
    trail = write_trail(tmp_path / "a.jsonl", [outcome(("r1", "signed"))])
    files = log_file(tmp_path / "log.json", [sign("r1", START + 1)])
    ended = cli("audit", "reconcile", trail, trail, "--cloudtrail", files, "-o", "json")
    assert (ended.status, ended.document["matched"], ended.document["trail"]["leftOut"]) == (1, 1, 2)


SAMPLE = [
    INTENT,
    outcome(("00000001-46cf-48b9-be99-bf2ebc9ab9fb", "signed"), intent=1),
    INTENT,
    outcome((None, "unknown"), ("00000002-46cf-48b9-be99-bf2ebc9ab9fb", "signed"), intent=3),
    INTENT,
    outcome(("00000004-46cf-48b9-be99-bf2ebc9ab9fb", "signed")),
]


@pytest.mark.parametrize("form", ["text", "json"])
def test_cloudtrails_folders_are_read_as_they_lie_in_the_bucket(
    cli: Cli, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    trail = write_trail(tmp_path / "audit.jsonl", SAMPLE)
    ended = cli("audit", "reconcile", trail, "--cloudtrail", "AWSLogs", "-o", form)
    assert (ended.status, ended.out) == (1, (DATA / f"reconciled.{form}").read_text())


WRONG = [
    (("--cloudtrail", "nowhere"), 1, "CloudTrail files nowhere: there is no such file"),
    ((), 2, "Missing option '--cloudtrail'"),
    (("--cloudtrail", ".", "--key", "alias/studio"), 2, "is not the ARN of a KMS key"),
    (("--cloudtrail", ".", "--key", KEY.replace(":key/", ":alias/")), 2, "names an alias"),
    (("--cloudtrail", ".", "--from", "noon"), 2, "is no date or time"),
    (("--cloudtrail", ".", "--from", "2026-03-05", "--to", "2026-03-05"), 2, "--from is not earlier than --to"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), WRONG)
def test_wrong_usage_is_named(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    ended = cli("audit", "reconcile", write_trail(tmp_path / "audit.jsonl", []), *arguments)
    assert (ended.status, message in ended.err) == (status, True)


def test_a_missing_trail_is_refused_by_name(cli: Cli, tmp_path: Path) -> None:
    ended = cli("audit", "reconcile", tmp_path / "none", "--cloudtrail", tmp_path)
    assert (ended.status, f"audit file {tmp_path}/none: cannot be read" in ended.err) == (1, True)


def test_intents_beyond_what_memory_holds_are_settled_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_OPEN_LIMIT", 2)
    monkeypatch.setattr(ledgers, "_NAMES_LIMIT", 2)
    monkeypatch.setattr(ledgers, "_BATCH", 2)
    intents = [INTENT] * 7
    outcomes = [outcome((f"r{number}", "signed"), intent=number) for number in range(1, 7)]
    ended = run([*intents, *outcomes], [sign(f"r{number}", START + 7) for number in range(1, 7)])
    assert (ended.status, ended.document["matched"], _counts(ended.document)) == (0, 6, {"intentsWithoutOutcome": 1})
    assert ended.document["intentsWithoutOutcome"]["listed"][0]["auditId"] == "signer-a/7"


def test_no_room_to_sort_is_refused_with_what_helps(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_SCHEMA", ledgers._SCHEMA + "PRAGMA max_page_count = 12;")  # noqa: SLF001 - a small disk
    trail = write_trail(tmp_path / "audit.jsonl", [])
    files = log_file(tmp_path / "log.json.gz", [sign(f"r{number}", START) for number in range(2000)])
    ended = cli("audit", "reconcile", trail, "--cloudtrail", files)
    assert (ended.status, "let TMPDIR name a folder with more" in ended.err) == (1, True)


_REQUESTS = st.dictionaries(
    st.integers(0, 30).map(str),
    st.tuples(
        st.sampled_from([None, "signed", "failed", "unknown"]),  # the record
        st.sampled_from([None, "", "AccessDenied"]),  # the event, by its error code
        st.sampled_from([KEY, OTHER_KEY]),  # the event's key
        st.booleans(),  # whether CloudTrail delivers it twice
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=_REQUESTS, silent=st.integers(0, 3), crashed=st.integers(0, 3))
def test_every_class_of_findings_is_the_naive_models(
    tmp_path: Path, requests: dict[str, tuple[str | None, str | None, str, bool]], silent: int, crashed: int
) -> None:
    trail = [outcome((name, recorded)) for name, (recorded, *_) in requests.items() if recorded]
    trail += [outcome((None, "unknown"))] * silent + [INTENT] * crashed + [REFUSED_WITH_KEY]
    events = [sign("x", START + seconds, eventName="ListKeys", eventID=f"x{seconds}") for seconds in (-9, 9000)]
    for name, (_, error, key, twice) in requests.items():
        if error is not None:
            events += [sign(name, START + 5, errorCode=error or None, **with_key(key))] * (1 + twice)
    question = Question(
        trails=[write_trail(tmp_path / "audit.jsonl", trail)],
        cloudtrail=[log_file(tmp_path / "log.json.gz", events)],
        keys=[],
        owners=[],
        period=Period(),
        delay=900.0,
    )
    document = reconcile(question).document

    def count(recorded: str | None, error: str | None, *keys: str) -> int:
        found = [(r, e, k) for r, e, k, _ in requests.values() if not keys or k in keys]
        return sum((r, e) == (recorded, error) for r, e, _ in found)

    without_record = count(None, "", KEY)
    assert _counts(document) == {
        name: number
        for name, number in {
            "signaturesWithoutRecord": without_record,
            "recordsWithoutEvent": count("signed", None),
            "disagreements": count("signed", "AccessDenied") + count("signed", "", OTHER_KEY) + count("failed", ""),
            "attemptsUnknown": silent + sum(recorded == "unknown" for recorded, *_ in requests.values()),
            "intentsWithoutOutcome": crashed,
        }.items()
        if number
    }
    assert document["matched"] == count("signed", "", KEY)
    assert document["otherKeys"] == count(None, "", OTHER_KEY)
    assert document["signaturesWithoutRecord"]["explainable"] == min(without_record, silent + crashed)
