"""Attempts and events are paired by request id, each once; excuses are set against signatures without record."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.audit.cloudtrail import SignEvent
from byok_api.audit.reconciliation import (
    GROUP_LIMIT,
    NEAR,
    Attempted,
    Excuse,
    Judgement,
    Verdict,
    explain,
    intent_without_outcome,
    join,
    unknown_attempt,
)
from tests.support.cloudtrail import CALLER, KEY, OTHER_KEY, OWNER

T = 1_800_000_000.0


def attempted(request_id: str = "r1", number: int = 0, **changes: Any) -> Attempted:  # noqa: ANN401 - any field
    return Attempted(request_id, "signer-a/1", number, "signed", T, KEY)._replace(**changes)


def event(request_id: str = "r1", event_id: str = "e1", **changes: Any) -> SignEvent:  # noqa: ANN401 - any field
    return SignEvent(request_id, event_id, OWNER, T, KEY, "", "arn:aws:sts::1:assumed-role/signer/1", "AROA1")._replace(
        **changes
    )


def joined(attempts: Sequence[Attempted], events: Sequence[SignEvent]) -> list[Judgement]:
    return list(join(sorted(attempts), sorted(events)))


ANOTHER = "AccessDenied"
TABLE = [
    ("Agrees", [attempted()], [event()]),
    ("NoRecord", [], [event()]),
    ("NoEvent", [attempted()], []),
    ("EventFailed", [attempted()], [event(error=ANOTHER)]),
    ("KeyDiffers", [attempted()], [event(key_arn=OTHER_KEY)]),
    ("RecordedAsFailed", [attempted(outcome="failed")], [event()]),
    ("UnknownSigned", [attempted(outcome="unknown")], [event()]),
    ("UnknownFailed", [attempted(outcome="unknown")], [event(error=ANOTHER)]),
    ("UnknownNoEvent", [attempted(outcome="unknown")], []),
    ("NoRequestId", [attempted("")], []),
    ("", [attempted(outcome="failed")], [event(error=ANOTHER)]),
    ("", [attempted(outcome="failed")], []),
    ("", [], [event(error="DryRunOperationException")]),
    # The event of a signature always names its key; should one not, nothing speaks against the record's.
    ("Agrees", [attempted()], [event(key_arn="")]),
    # CloudTrail may deliver an event twice, and a call of another account's key is an event in both accounts.
    ("Agrees", [attempted()], [event(), event()]),
    ("Agrees", [attempted()], [event(), event(event_id="e2", account=CALLER)]),
    ("Agrees NoRecord", [attempted()], [event(), event(event_id="e2")]),
    # Neither does a record count twice.
    ("Agrees", [attempted(), attempted()], [event()]),
    ("Agrees NoEvent", [attempted(), attempted(audit_id="signer-b/1")], [event()]),
    ("NoEvent NoRecord", [attempted("r1")], [event("r2")]),
    ("NoRequestId NoRecord", [attempted("")], [event("")]),
    ("Agrees UnknownSigned", [attempted(), attempted(number=1, outcome="unknown")], [event(), event(event_id="e2")]),
]


@pytest.mark.parametrize(("verdicts", "attempts", "events"), TABLE)
def test_an_attempt_and_its_event_are_judged(verdicts: str, attempts: list[Attempted], events: list[SignEvent]) -> None:
    assert [judgement.verdict for judgement in joined(attempts, events)] == verdicts.split()


def test_a_replica_of_a_multi_region_key_is_the_same_key() -> None:
    here, there = (f"arn:aws:kms:{region}:{OWNER}:key/mrk-12ab" for region in ("us-west-2", "eu-west-1"))
    assert joined([attempted(key_arn=here)], [event(key_arn=there)])[0].verdict is Verdict.AGREES


def test_a_request_id_with_no_end_of_attempts_is_compared_in_parts() -> None:
    attempts = [attempted(number=number) for number in range(2 * GROUP_LIMIT)]
    assert Counter(judgement.verdict for judgement in joined(attempts, [event()])) == {
        Verdict.AGREES: 1,
        Verdict.NO_EVENT: 2 * GROUP_LIMIT - 1,
    }


_IDS = st.sampled_from(["r1", "r2", "r3"])
_KEYS = st.sampled_from([KEY, OTHER_KEY])
_ATTEMPTS = st.lists(
    st.builds(
        Attempted,
        request_id=_IDS,
        audit_id=st.sampled_from(["a/1", "a/2", "b/1"]),
        number=st.integers(0, 1),
        outcome=st.sampled_from(["signed", "failed", "unknown"]),
        time=st.just(T),
        key_arn=_KEYS,
    ),
    unique_by=lambda attempt: attempt[:3],
    max_size=12,
)
_EVENTS = st.lists(
    st.builds(
        SignEvent,
        request_id=_IDS,
        event_id=st.sampled_from(["e1", "e2", "e3", "e4"]),
        account=st.sampled_from([OWNER, CALLER]),
        time=st.just(T),
        key_arn=_KEYS,
        error=st.sampled_from(["", "AccessDenied"]),
        principal=st.just("p"),
        actor=st.just("AROA1"),
    ),
    unique_by=lambda found: found[:3],
    max_size=12,
)


def _naive(attempts: Sequence[Attempted], events: Sequence[SignEvent]) -> Counter[str]:
    """Count the verdicts by arithmetic on how many there are of each."""
    verdicts: Counter[str] = Counter()
    for request_id in {attempt.request_id for attempt in attempts} | {found.request_id for found in events}:
        tried = [attempt for attempt in attempts if attempt.request_id == request_id]
        by_account = [[e for e in events if (e.request_id, e.account) == (request_id, a)] for a in (OWNER, CALLER)]
        calls = max(by_account, key=len)
        said = Counter(attempt.outcome for attempt in tried)
        keys = Counter(attempt.key_arn for attempt in tried if attempt.outcome == "signed")
        made = Counter(call.key_arn for call in calls if not call.error)
        refused = sum(bool(call.error) for call in calls)
        agrees = (keys & made).total()
        signed, left = keys.total() - agrees, made.total() - agrees
        differs = min(signed, left)
        signed, left = signed - differs, left - differs
        failed = min(signed, refused)
        refused -= failed
        unknown_signed = min(said["unknown"], left)
        unknown_failed = min(said["unknown"] - unknown_signed, refused)
        left -= unknown_signed
        verdicts += Counter(
            Agrees=agrees,
            KeyDiffers=differs,
            EventFailed=failed,
            NoEvent=signed - failed,
            UnknownSigned=unknown_signed,
            UnknownFailed=unknown_failed,
            UnknownNoEvent=said["unknown"] - unknown_signed - unknown_failed,
            RecordedAsFailed=min(said["failed"], left),
            NoRecord=left - min(said["failed"], left),
        )
    return verdicts


@given(attempts=_ATTEMPTS, events=_EVENTS)
def test_every_verdict_is_the_naive_models(attempts: list[Attempted], events: list[SignEvent]) -> None:
    verdicts = Counter(judgement.verdict.value for judgement in joined(attempts + attempts[:3], events + events[:3]))
    assert verdicts == _naive(attempts, events)


@given(attempts=_ATTEMPTS, events=_EVENTS)
def test_each_attempt_and_each_event_is_judged_at_most_once(attempts: list[Attempted], events: list[SignEvent]) -> None:
    judgements = joined(attempts, events)
    judged = Counter(row for judgement in judgements for row in judgement[1:] if row is not None)
    assert set(judged.values()) <= {1}
    assert {row for row in judged if isinstance(row, Attempted)} >= {a for a in attempts if a.outcome != "failed"}


def _explained(
    events: Sequence[SignEvent], excuses: Sequence[Excuse], actors: Collection[str] = ()
) -> list[tuple[SignEvent, tuple[Excuse, ...], bool]]:
    return list(explain(sorted(events, key=lambda e: (e.key_arn, e.time)), sorted(excuses), actors))


def test_an_excuse_explains_a_signature_of_its_key_and_time() -> None:
    intent = intent_without_outcome("a/7", T, KEY)
    near, far = event(time=T + NEAR), event(time=T + NEAR + 1)
    assert _explained([near], [intent]) == [(near, (intent,), True)]
    assert _explained([far], [intent]) == [(far, (), False)]
    assert _explained([event(key_arn=OTHER_KEY)], [intent])[0][1:] == ((), False)


def test_an_unknown_attempt_may_have_signed_from_its_intent_on() -> None:
    attempt = attempted("", outcome="unknown", time=T + 5000)
    assert [_explained([event(time=T)], [unknown_attempt(attempt, asked)])[0][2] for asked in (T, T + 5000)] == [
        True,
        False,
    ]


def test_what_another_than_the_signers_signed_has_no_excuse() -> None:
    intent = intent_without_outcome("a/7", T, KEY)
    found = _explained([event(actor="AIDA2"), event(event_id="e2")], [intent], actors={"AROA1"})
    assert [(could_be, explained) for _, could_be, explained in found] == [((), False), ((intent,), True)]


def test_one_excuse_explains_one_signature_and_could_be_either() -> None:
    intent = intent_without_outcome("a/7", T, KEY)
    found = _explained([event(event_id="e1"), event(event_id="e2")], [intent])
    assert [(could_be, explained) for _, could_be, explained in found] == [((intent,), True), ((intent,), False)]


_TIMES = st.integers(0, 8).map(float)
_EXCUSES = st.lists(
    st.tuples(_KEYS, _TIMES, _TIMES, st.integers()).map(
        lambda x: Excuse(x[0], min(x[1:3]), max(x[1:3]), f"a/{x[3]}", "IntentWithoutOutcome", x[1], x[0])
    ),
    max_size=7,
)
_SIGNATURES = st.lists(st.builds(lambda key, time: event(key_arn=key, time=time), _KEYS, _TIMES), max_size=7)


def _most(events: Sequence[SignEvent], excuses: Sequence[Excuse]) -> int:
    """Match as many as can be matched (Kuhn's algorithm)."""
    taken: dict[int, int] = {}

    def find(index: int, seen: set[int]) -> bool:
        for number, excuse in enumerate(excuses):
            fits = excuse.family == events[index].key_arn and excuse.start <= events[index].time <= excuse.end
            if fits and number not in seen:
                seen.add(number)
                if number not in taken or find(taken[number], seen):
                    taken[number] = index
                    return True
        return False

    return sum(find(index, set()) for index in range(len(events)))


@given(events=_SIGNATURES, excuses=_EXCUSES)
def test_as_many_signatures_are_explained_as_can_be(events: list[SignEvent], excuses: list[Excuse]) -> None:
    found = _explained(events, excuses)
    assert len(found) == len(events)
    assert sum(explained for _, _, explained in found) == _most(events, excuses)
    for signature, could_be, explained in found:
        assert could_be or not explained
        assert all(x.family == signature.key_arn and x.start <= signature.time <= x.end for x in could_be)
