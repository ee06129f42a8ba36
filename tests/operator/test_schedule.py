"""When a key is probed, and when it is looked at though nothing was heard."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from byok_api.installation import Rules
from byok_operator.observations import Finding, KeyObservation, Outcome, ProbeFailure
from byok_operator.schedule import (
    CONTRADICTION_GAP,
    Timetable,
    asks_for_least_privilege,
    attempted,
    begin,
    look_again_at,
    occasion_of,
    probe_due_at,
)
from tests.support.kinds import PRESETS
from tests.support.observed import (
    DENIED,
    NOW,
    PASSED,
    THROTTLED,
    certified_key,
    health,
    observed,
    planned,
    probe,
    ready_since_an_hour,
    standing,
    uncertified_key,
)
from tests.support.pki import identity

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
HEALTHY = observed(probe=probe())
REFUSED = standing(certified_key(), replace(Rules(installation="i", presets_namespace=PRESETS), required_terms="t"))
AWAY = ProbeFailure(NOW, "SignerUnreachable", "no answer")


def after(observation: KeyObservation, failures: int = 0, chance: float = 0.5) -> Timetable:
    """Make the timetable after an attempt that found what the observation holds."""
    occasion = occasion_of(observation, NOW)
    before = Timetable(occasion, NOW, failures=failures)
    return attempted(before, observation, asked_for=occasion, now=NOW, chance=chance)


def wait(observation: KeyObservation, failures: int = 0, chance: float = 0.5) -> timedelta:
    return after(observation, failures, chance).due - NOW


# The first probe of a process.


def test_a_key_that_was_never_judged_is_probed_at_once() -> None:
    assert begin(observed(), NOW, 0.9).due == NOW


@pytest.mark.parametrize(("chance", "due"), [(0.0, timedelta(0)), (0.5, 5 * MINUTE), (1.0, 10 * MINUTE)])
def test_after_a_restart_healthy_keys_are_spread_over_the_interval(chance: float, due: timedelta) -> None:
    assert begin(ready_since_an_hour(probe=None), NOW, chance).due - NOW == due


def test_after_a_long_absence_no_proof_grows_stale_before_its_turn() -> None:
    kept = ready_since_an_hour(probe=None)
    assert begin(kept, NOW + timedelta(days=3), 1.0).due == NOW + timedelta(days=3)
    slow = certified_key(verification={"interval": "20h", "staleAfter": "20h"})
    kept = replace(planned(observed(slow, probe=probe())), probe=None)
    assert begin(kept, NOW + timedelta(hours=10), 1.0).due == NOW + timedelta(hours=18)


def test_after_a_restart_others_come_first() -> None:
    kept = replace(planned(observed(probe=probe(sign=DENIED))), probe=None)
    assert begin(kept, NOW, 1.0).due - NOW == 30 * SECOND


def test_after_a_restart_an_edit_is_probed_at_once() -> None:
    assert begin(ready_since_an_hour(probe=None, generation=2), NOW, 1.0).due == NOW


def test_after_a_restart_a_word_of_reverify_that_was_handled_is_not_again() -> None:
    kept = replace(planned(observed(probe=probe(reverify="one"))), probe=None, reverify="one")
    assert begin(kept, NOW, 1.0).due > NOW
    assert begin(replace(kept, reverify="two"), NOW, 1.0).due == NOW


# The next ones.


@pytest.mark.parametrize(("chance", "minutes"), [(0.0, 8), (0.5, 10), (1.0, 12)])
def test_healthy_keys_are_probed_at_the_interval_give_or_take_a_fifth(chance: float, minutes: int) -> None:
    assert wait(HEALTHY, chance=chance) == minutes * MINUTE


def test_the_interval_is_the_specs() -> None:
    assert wait(observed(certified_key(verification={"interval": "1h"}), probe=probe())) == 60 * MINUTE


def test_no_proof_grows_stale_for_want_of_a_probe() -> None:
    key = certified_key(verification={"interval": "2h", "staleAfter": "2h"})
    assert wait(observed(key, probe=probe()), chance=1.0) < 120 * MINUTE


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 900), (6, 900), (5000, 900)],
)
def test_other_keys_are_probed_soon_and_then_ever_later(failures: int, seconds: int) -> None:
    assert wait(observed(probe=probe(sign=DENIED)), failures) == seconds * SECOND


@pytest.mark.parametrize(
    "observation",
    [
        observed(probe=probe(public_key=THROTTLED)),
        observed(probe=probe(certificate=Finding(Outcome.FAILED, "CertificateMismatch"))),
        observed(uncertified_key(), probe=probe(certificate=Finding(Outcome.FAILED, "CertificateMissing"))),
        observed(probe=probe(), probe_failure=AWAY),
        observed(probe=probe(), generation=2),
    ],
)
def test_whatever_may_be_found_otherwise_soon_is_looked_for_soon(observation: KeyObservation) -> None:
    assert wait(observation) == 30 * SECOND


def test_a_deactivated_key_is_as_healthy_as_its_grant() -> None:
    assert wait(observed(certified_key(state="Deactivated"), probe=probe())) == 10 * MINUTE


def test_success_ends_the_count_of_failures() -> None:
    assert after(HEALTHY, failures=7).failures == 0


# Occasions.


@pytest.mark.parametrize(
    "changed",
    [
        replace(HEALTHY, generation=2),
        replace(HEALTHY, reverify="now"),
        replace(HEALTHY, uid="uid-9"),
        replace(HEALTHY, standing=standing(certified_key(state="Deactivated"))),
        replace(HEALTHY, health=(health(Outcome.FAILED, NOW + SECOND),)),
    ],
    ids=["generation", "reverify", "another object", "rules", "health"],
)
def test_an_occasion_makes_a_probe_due_at_once(changed: KeyObservation) -> None:
    now = NOW + MINUTE
    assert probe_due_at(after(HEALTHY), HEALTHY, now) == NOW + 10 * MINUTE
    assert probe_due_at(after(HEALTHY), changed, now) == now


def test_an_edit_during_a_probe_makes_another_due() -> None:
    edited = replace(HEALTHY, generation=2)
    timetable = attempted(begin(HEALTHY, NOW, 0), edited, asked_for=occasion_of(HEALTHY, NOW), now=NOW, chance=0.5)
    assert probe_due_at(timetable, edited, NOW) == NOW


def test_a_returned_grant_makes_a_probe_due_at_once() -> None:
    denied = observed(probe=probe(sign=DENIED))
    signs = replace(denied, health=(health(Outcome.PASSED, NOW, last_verified=NOW + SECOND),))
    assert probe_due_at(after(denied, failures=9), signs, NOW + MINUTE) == NOW + MINUTE


def test_a_contradiction_that_a_failed_attempt_left_waits_like_any_other() -> None:
    refused = replace(HEALTHY, health=(health(Outcome.FAILED, NOW + SECOND),), probe_failure=AWAY)
    assert probe_due_at(after(refused), refused, NOW + SECOND) == NOW + 30 * SECOND


def test_contradictions_are_probed_one_after_the_other() -> None:
    refused = replace(HEALTHY, health=(health(Outcome.FAILED, NOW + SECOND),))
    assert probe_due_at(after(HEALTHY), refused, NOW + SECOND) == NOW + CONTRADICTION_GAP


def test_a_contradiction_that_is_over_needs_no_probe() -> None:
    refused = replace(HEALTHY, health=(health(Outcome.FAILED, NOW + SECOND),))
    assert probe_due_at(after(refused), HEALTHY, NOW + MINUTE) == after(refused).due


@pytest.mark.parametrize(("chance", "due"), [(0.0, 1 * SECOND), (1.0, 11 * SECOND)])
def test_once_a_signer_is_back_keys_that_none_answered_about_are_spread_over_ten_seconds(
    chance: float, due: timedelta
) -> None:
    away = observed(probe_failure=AWAY)
    back = replace(away, signer_came=NOW + SECOND)
    assert probe_due_at(after(away, failures=9, chance=chance), back, NOW + SECOND) == NOW + due


def test_a_key_about_which_nobody_answered_since_a_signer_came_waits_its_turn() -> None:
    away = observed(probe_failure=AWAY, signer_came=NOW - SECOND)
    assert probe_due_at(after(away, failures=9), away, NOW) == NOW + 15 * MINUTE


def test_a_key_that_was_answered_about_is_not_probed_for_a_signer_that_comes() -> None:
    table, back = after(observed(probe=probe(sign=DENIED))), replace(HEALTHY, signer_came=NOW + SECOND)
    assert probe_due_at(table, back, NOW + SECOND) == table.due


def test_the_moment_from_which_a_certificate_is_valid_is_an_occasion() -> None:
    start = identity().chain.not_before
    early = attempted(
        begin(HEALTHY, start - MINUTE, 0),
        HEALTHY,
        asked_for=occasion_of(HEALTHY, start - MINUTE),
        now=start - MINUTE,
        chance=1.0,
    )
    assert look_again_at(HEALTHY, start - MINUTE) == start
    assert probe_due_at(early, HEALTHY, start) == start


def test_kms_is_not_asked_for_a_spec_that_is_refused() -> None:
    refused = observed(REFUSED)
    assert probe_due_at(begin(refused, NOW, 0), refused, NOW) is None
    accepted = observed()
    assert probe_due_at(begin(refused, NOW, 1.0), accepted, NOW + MINUTE) == NOW + MINUTE


# Least privilege.

WARN = certified_key(leastPrivilege="Warn")


@pytest.mark.parametrize(
    ("observation", "asks"),
    [
        (observed(), False),
        (observed(WARN), True),
        (observed(WARN, probe=probe(least_privilege=PASSED)), False),
        (observed(WARN, probe=probe(least_privilege=THROTTLED)), True),
        (observed(WARN, probe=probe(least_privilege=PASSED), generation=2), True),
        (observed(WARN, probe=probe(least_privilege=PASSED, reverify="one"), reverify="one"), False),
        (observed(WARN, probe=probe(least_privilege=PASSED, reverify="one"), reverify="two"), True),
        (replace(planned(observed(WARN, probe=probe(least_privilege=PASSED))), probe=None), False),
    ],
)
def test_least_privilege_is_asked_for_once_a_generation_and_when_somebody_says_so(
    observation: KeyObservation, *, asks: bool
) -> None:
    assert asks_for_least_privilege(observation) is asks


# Looks.


@pytest.mark.parametrize(
    ("observation", "moment"),
    [
        (observed(), identity().chain.not_after + SECOND),
        (observed(uncertified_key()), None),
        (HEALTHY, NOW + timedelta(hours=24)),
        (
            replace(HEALTHY, health=(health(Outcome.UNKNOWN, NOW - 10 * SECOND),)),
            NOW + 20 * SECOND,
        ),
        (replace(planned(HEALTHY), recipes=5, recipes_written=NOW - 10 * SECOND), NOW + 20 * SECOND),
    ],
)
def test_a_key_is_looked_at_when_time_alone_changes_its_status(
    observation: KeyObservation, moment: datetime | None
) -> None:
    assert look_again_at(observation, NOW) == moment
