"""Intents without outcome are listed, and what settles none, or one again, is found."""

from dataclasses import replace

import pytest

from byok_api.audit import Attempt, AuditEvent, ChainReport, Head, Kind, Outcome, read_record, seal, verify_chain
from byok_api.audit import intents as intents_module
from byok_api.audit.chain import INTENTS_LIMIT
from tests.support.trails import INTENT, REFUSED, RENEWED, SIGNED, TIME, found, sealed, verdict


def settling(sequence: int, outcome: Outcome = Outcome.SIGNED) -> AuditEvent:
    attempts = () if outcome is Outcome.FAILED else (Attempt(None, outcome),)
    return replace(SIGNED, intent=sequence, outcome=outcome, attempts=attempts)


def unsettled(report: ChainReport) -> list[tuple[int, str]]:
    """List a report's intents without outcome as (line, id)."""
    return [(intent.line, str(intent.id)) for intent in report.intents]


def test_an_intent_without_outcome_is_listed_and_no_tampering() -> None:
    report = verify_chain(sealed(INTENT, replace(INTENT, manifest="urn:c2pa:2"), settling(1)))
    assert (report.intact, report.intent_count) == (True, 1)
    (intent,) = report.intents
    assert (intent.line, str(intent.id), intent.time, intent.manifest) == (3, "signer-a/2", TIME, "urn:c2pa:2")
    assert (intent.caller, intent.recipe, intent.key) == (INTENT.caller, INTENT.recipe, INTENT.key)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_outcome_settles_its_intent_whatever_it_is(outcome: Outcome) -> None:
    report = verify_chain(sealed(INTENT, settling(1, outcome)))
    assert (report.intact, report.intent_count, report.unknown) == (True, 0, int(outcome is Outcome.UNKNOWN))


def test_outcomes_come_in_any_order() -> None:
    report = verify_chain(sealed(INTENT, INTENT, INTENT, settling(2), REFUSED, settling(3), settling(1)))
    assert (report.intact, report.intent_count) == (True, 0)


def test_unknown_attempts_are_counted_one_by_one() -> None:
    attempts = (Attempt(None, Outcome.UNKNOWN), Attempt(None, Outcome.UNKNOWN), Attempt("id", Outcome.SIGNED))
    assert verify_chain(sealed(INTENT, replace(SIGNED, intent=1, attempts=attempts))).unknown == 2


@pytest.mark.parametrize("kind", [Kind.OUTCOME, Kind.CERTIFY])
def test_what_settles_no_intent_is_found(kind: Kind) -> None:
    assert verdict(sealed(INTENT, REFUSED, replace(settling(2), kind=kind))) == [("IntentMissing", 4)]


def test_an_intent_is_settled_once() -> None:
    assert verdict(sealed(INTENT, settling(1), REFUSED, settling(1))) == [("IntentSettledTwice", 5)]


def renewing(sequence: int) -> AuditEvent:
    return replace(RENEWED, intent=sequence)


def test_an_intent_settles_the_one_whose_answer_got_lost_and_waits_for_its_own() -> None:
    report = verify_chain(sealed(INTENT, renewing(1), renewing(2)))
    assert (report.intact, report.unknown, unsettled(report)) == (True, 2, [(4, "signer-a/3")])
    report = verify_chain(sealed(INTENT, renewing(1), renewing(2), settling(3)))
    assert (report.intact, report.unknown, report.intent_count) == (True, 2, 0)


@pytest.mark.parametrize(
    ("events", "finding"),
    [
        ((INTENT, REFUSED, renewing(2)), ("IntentMissing", 4)),
        ((INTENT, renewing(1), settling(1)), ("IntentSettledTwice", 4)),
        ((INTENT, renewing(1), renewing(1)), ("IntentSettledTwice", 4)),
        ((INTENT, settling(1), renewing(1)), ("IntentSettledTwice", 4)),
    ],
)
def test_an_intent_settles_one_that_is_there_and_once(events: tuple[AuditEvent, ...], finding: tuple[str, int]) -> None:
    assert verdict(sealed(*events)) == [finding]


def test_an_outcome_settles_no_intent_of_another_chain() -> None:
    lines = sealed(INTENT)
    after = sealed(REFUSED, settling(1), writer="signer-b", predecessor=read_record(lines[-1][:-1]).head)
    report = verify_chain(lines + after)
    assert (found(report), unsettled(report)) == ([("IntentMissing", 5)], [(2, "signer-a/1")])


def test_a_restart_leaves_the_intents_before_it_open() -> None:
    lines = sealed(INTENT, INTENT, settling(1))
    after = sealed(INTENT, settling(1), writer="signer-b", predecessor=read_record(lines[-1][:-1]).head)
    report = verify_chain(lines + after)
    assert (report.intact, unsettled(report)) == (True, [(3, "signer-a/2")])


@pytest.mark.parametrize("begins", [1, 2, 3])
def test_a_trail_that_begins_in_the_middle_of_a_chain_has_no_other_finding(begins: int) -> None:
    lines = sealed(INTENT, INTENT, INTENT, settling(1), settling(3), settling(2))
    assert verdict(lines[begins:]) == [("ChainStartMissing", 1)]


@pytest.mark.parametrize("first", range(1, 6))
@pytest.mark.parametrize("count", [1, 2])
def test_lines_that_are_missing_are_one_finding(first: int, count: int) -> None:
    lines = sealed(INTENT, INTENT, INTENT, settling(1), settling(3), settling(2), REFUSED)
    assert verdict(lines[:first] + lines[first + count :]) == [("Missing", first + 1)]


def test_an_altered_intent_is_one_finding() -> None:
    lines = sealed(INTENT, settling(1))
    assert verdict([lines[0], lines[1].replace(b"ES256", b"ES512"), lines[2]]) == [("Altered", 2)]


def test_an_altered_outcome_leaves_its_intent_open() -> None:
    lines = sealed(INTENT, settling(1), REFUSED)
    report = verify_chain([*lines[:2], lines[2].replace(b"ES256", b"ES512"), lines[3]])
    assert (found(report), unsettled(report)) == ([("Altered", 3)], [(2, "signer-a/1")])


def test_a_repeated_outcome_is_one_finding() -> None:
    lines = sealed(INTENT, settling(1), REFUSED)
    assert verdict([*lines[:3], *lines[2:]]) == [("OutOfOrder", 4)]


def test_intents_are_listed_and_followed_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents_module, "FOLLOWED_LIMIT", 10)
    lines = sealed(*[INTENT] * (INTENTS_LIMIT + 30), settling(INTENTS_LIMIT + 30))
    report = verify_chain(lines)
    assert (report.intact, report.intent_count, len(report.intents)) == (True, INTENTS_LIMIT + 29, INTENTS_LIMIT)
    assert unsettled(report)[:: INTENTS_LIMIT - 1] == [(2, "signer-a/1"), (1001, "signer-a/1000")]


def test_what_was_settled_long_ago_and_is_settled_again_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents_module, "FOLLOWED_LIMIT", 1)
    assert verdict(sealed(INTENT, settling(1), INTENT, settling(3), settling(1))) == [("IntentMissing", 6)]


def test_an_outcome_names_an_intent_before_it() -> None:
    line, _ = seal(settling(5), Head("signer-a", 4, "ab" * 32), time=TIME)
    assert verdict([line]) == [("NotARecord", 1), ("ChainStartMissing", 1)]
