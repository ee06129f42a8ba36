"""From verdicts to conditions and events."""

from datetime import datetime, timedelta

import pytest

from byok_api.conditions import Condition, ConditionReason, ConditionStatus
from byok_api.errors import Reason
from byok_operator.key_plan import plan_key
from byok_operator.observations import ProbeFailure
from byok_operator.transitions import (
    MESSAGE_LIMIT,
    NOTE_LIMIT,
    EventType,
    Verdict,
    by_type,
    conditions_of,
    events_of,
    fails,
    holds,
    repeated,
    unclear,
)
from tests.support.observed import DENIED, NOW, certified_key, observed, probe, ready_since_an_hour

LATER = NOW + timedelta(minutes=7, microseconds=5)
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


def condition(verdict: Verdict, name: str = "Ready", before: Condition | None = None, now: datetime = NOW) -> Condition:
    (made,) = conditions_of({name: verdict}, {name: before} if before else {}, generation=1, now=now)
    return made


def events(before: dict[str, Verdict], after: dict[str, Verdict]) -> list[tuple[str, str]]:
    known = {name: condition(verdict, name) for name, verdict in before.items()}
    found = events_of(known, [condition(verdict, name) for name, verdict in after.items()])
    return [(event.type.value, event.note) for event in found]


# Conditions.


@pytest.mark.parametrize(
    ("verdict", "moves"),
    [(holds("other"), False), (fails("KeyDisabled", ""), True), (unclear("Stale", ""), True)],
)
def test_the_time_of_a_transition_is_when_the_status_changed(verdict: Verdict, *, moves: bool) -> None:
    made = condition(verdict, before=condition(holds("")), now=LATER)
    assert made.last_transition_time == (LATER.replace(microsecond=0) if moves else NOW)


def test_a_long_message_is_cut_and_says_so() -> None:
    made = condition(holds("é" * 5000))
    assert len(made.message) == MESSAGE_LIMIT
    assert made.message.endswith(" ...")


@pytest.mark.parametrize("reason", ["", "two words", "x" * 64, "Größe", "A1"])
def test_a_reason_that_the_api_server_refuses_is_internal(reason: str) -> None:
    assert condition(fails(reason, "told")).reason == "Internal"


def test_a_false_condition_says_what_to_do_once() -> None:
    once = fails("KeyDisabled", "it is disabled")
    assert once.message == "it is disabled. The key's owner enables it."
    assert fails("KeyDisabled", once.message).message == once.message


def test_what_could_not_be_asked_says_what_to_do() -> None:
    assert unclear("SignerUnreachable", "no answer").message.endswith(
        "checks that the signer runs and that the operator reaches it."
    )


def test_a_remedy_that_the_message_ends_in_is_told_once() -> None:
    once = fails("CertificateExpired", "key keys/brand: valid until 2026-01-01 UTC only; register a valid certificate")
    remedy = Reason.CertificateExpired.facts.remedy
    assert once.message == f"key keys/brand: valid until 2026-01-01 UTC only. {remedy}"
    assert fails("CertificateExpired", once.message) == once


def test_nobody_who_reads_a_status_is_told_to_wait_longer_for_kms() -> None:
    facts = Reason.KmsDeadlineExceeded.facts
    told = unclear("KmsDeadlineExceeded", f"key keys/brand: kms:Sign: no answer. {facts.cause} {facts.remedy}")
    assert facts.remedy not in told.message
    assert told.message.endswith(
        f"{facts.cause} It is asked again; if it lasts, the platform team checks network "
        "policy, endpoint and AWS's health dashboard."
    )
    assert unclear("KmsDeadlineExceeded", told.message) == told


def test_a_role_that_is_refused_points_to_its_trust_policy() -> None:
    assert "the role's trust policy" in fails("KeyAccessDenied", "key keys/brand: sts:AssumeRole: AccessDenied").message


def test_which_replica_did_not_answer_this_time_is_no_news() -> None:
    before = condition(unclear("SignerUnreachable", "no answer from 10.0.0.1"))
    assert condition(unclear("SignerUnreachable", "no answer from 10.0.0.2"), before=before, now=LATER) == before
    assert condition(unclear("KmsThrottled", "told"), before=before).message.startswith("told")
    denied = condition(fails("KeyAccessDenied", "one"))
    assert condition(fails("KeyAccessDenied", "two"), before=denied).message.startswith("two")


def test_what_is_repeated_makes_the_same_condition() -> None:
    made = condition(fails("KeyAccessDenied", "denied", '{"Effect": "Allow"}'))
    assert condition(repeated(made)) == made


# Events.

WELL = {"SignGranted": holds("may sign"), "Ready": holds("all is well")}
DENIAL = fails("KeyAccessDenied", "denied", '{"Effect": "Allow"}')


def test_nothing_is_told_where_nothing_flips() -> None:
    assert events(WELL, WELL) == []
    assert events(WELL, {"SignGranted": holds("other words"), "Ready": holds("x", ConditionReason.LAST_VERIFIED)}) == []


def test_what_flips_for_one_reason_is_told_once_with_cause_and_remedy() -> None:
    found = events(WELL, {"SignGranted": DENIAL, "Ready": fails("KeyAccessDenied", "summary")})
    assert found == [("Warning", f"SignGranted and Ready are False: {DENIAL.message}")]


def test_what_is_well_again_is_told() -> None:
    assert events({"SignGranted": DENIAL, "Ready": DENIAL}, WELL) == [
        ("Normal", "SignGranted and Ready are True: all is well")
    ]


@pytest.mark.parametrize("reason", ["Validating", "NotRequested", "NotChecked"])
def test_what_nobody_has_asked_is_no_news(reason: str) -> None:
    assert events({}, {"Ready": unclear(reason, "")}) == []
    assert events(WELL, {"SignGranted": unclear(reason, "")}) == []


def test_what_cannot_be_asked_is_news() -> None:
    assert [kind for kind, _ in events({}, {"Ready": unclear("SignerUnreachable", "no answer")})] == ["Warning"]


def test_what_only_follows_is_not_told() -> None:
    followed = {"SignGranted": DENIAL, "Usable": unclear("KeyAccessDenied", "who knows")}
    assert len(events(WELL, followed)) == 1


def test_ready_for_another_reason_is_news_and_a_leaf_is_not() -> None:
    other = fails("KeyDisabled", "disabled")
    assert len(events({"Ready": DENIAL}, {"Ready": other})) == 1
    assert events({"SignGranted": DENIAL}, {"SignGranted": other}) == []


@pytest.mark.parametrize("reason", ["NoKey", "KeyDeactivated", "SigningDisabled"])
def test_what_the_owner_wants_is_no_warning(reason: str) -> None:
    assert [kind for kind, _ in events(WELL, {"Ready": fails(reason, "as wanted")})] == ["Normal"]


def test_a_note_keeps_the_limit_in_bytes() -> None:
    ((_, note),) = events(WELL, {"Ready": fails("KeyDisabled", "é" * 2000)})
    assert NOTE_LIMIT - 3 <= len(note.encode()) <= NOTE_LIMIT


# Of whole plans.


def test_a_new_key_that_works_is_told_in_one_event() -> None:
    (event,) = plan_key(observed(probe=probe()), NOW).events
    assert (event.type, event.reason) == (EventType.NORMAL, "Verified")
    assert event.note == "Ready is True: The signer can sign with this key."


def test_of_a_new_key_that_does_not_work_it_is_told_why() -> None:
    (event,) = plan_key(observed(probe=probe(sign=DENIED)), NOW).events
    assert event.note.startswith("SignGranted and Ready are False")


def test_a_lost_grant_is_told_in_one_event() -> None:
    (event,) = plan_key(ready_since_an_hour(probe=probe(sign=DENIED)), NOW).events
    assert (event.type, event.reason) == (EventType.WARNING, "KeyAccessDenied")
    assert DENIED.message in event.note
    assert "Missing policy statement" not in event.note


def test_a_signer_that_is_away_is_told_in_one_event() -> None:
    away = ready_since_an_hour(probe_failure=ProbeFailure(NOW, "SignerUnreachable", "no answer"))
    assert [event.reason for event in plan_key(away, NOW).events] == ["SignerUnreachable"]


def test_deactivating_is_told_calmly() -> None:
    kept = ready_since_an_hour()
    off = observed(certified_key(state="Deactivated"), probe=probe(generation=2), generation=2, status=kept.status)
    (event,) = plan_key(off, NOW).events
    assert (event.type, event.reason) == (EventType.NORMAL, "KeyDeactivated")


def test_conditions_are_found_by_type() -> None:
    assert by_type(None) == {}
    assert by_type([condition(holds("x"))])["Ready"].message == "x"
