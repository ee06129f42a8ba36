"""Whose word counts: the signer's probe, or replicas that sign. Times are seconds before and after the probe."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from byok_api.byokkey import ByokKey
from byok_api.objects import parse_object
from byok_operator.evidence import verified_at
from byok_operator.key_plan import plan_key
from byok_operator.observations import Finding, KeyObservation, Outcome, ProbeFailure, ReplicaHealth
from tests.support.kinds import KEY_ARN, manifest
from tests.support.observed import (
    DENIED,
    NAME,
    NOW,
    certified_key,
    health,
    message,
    observed,
    planned,
    probe,
    ready_since_an_hour,
    says,
    uncertified_key,
)

LATER = NOW + timedelta(minutes=5)


def at(seconds: float) -> Any:  # noqa: ANN401 - for the times of health reports
    return NOW + timedelta(seconds=seconds)


def passed(seconds: float, **changes: Any) -> ReplicaHealth:  # noqa: ANN401 - any fields
    return health(Outcome.PASSED, at(-3600), last_verified=at(seconds), **changes)


def denied(seconds: float, **changes: Any) -> ReplicaHealth:  # noqa: ANN401 - any fields
    return health(Outcome.FAILED, at(seconds), **({"message": DENIED.message} | changes))


def silent(seconds: float, **changes: Any) -> ReplicaHealth:  # noqa: ANN401 - any fields
    return health(Outcome.UNKNOWN, at(seconds), message="KMS could not be reached or failed.", **changes)


def mismatch(seconds: float) -> ReplicaHealth:
    return denied(seconds, reason="CertificateMismatch")


AWAY = ProbeFailure(at(60), "SignerUnreachable", "no answer")
GOOD, BAD = observed(probe=probe()), observed(probe=probe(sign=DENIED))
OTHER = {"replica": "signer-1"}

TABLE: dict[str, tuple[KeyObservation, tuple[ReplicaHealth, ...], str]] = {
    "nobody signs": (GOOD, (), "True/Verified"),
    "a replica was refused after the probe": (GOOD, (denied(1),), "False/KeyAccessDenied"),
    "a replica was refused before the probe": (GOOD, (denied(-1),), "True/Verified"),
    "a replica signed after the probe was denied": (BAD, (passed(1),), "True/Verified"),
    "a replica signed before the probe was denied": (BAD, (passed(-1),), "False/KeyAccessDenied"),
    "one signs and another was refused": (GOOD, (passed(2), denied(1, **OTHER)), "False/KeyAccessDenied"),
    "it was refused under an older spec": (GOOD, (denied(1, generation=0),), "True/Verified"),
    "KMS does not answer since a moment ago": (GOOD, (silent(280),), "True/Verified"),
    "KMS does not answer since a while ago": (GOOD, (silent(270),), "Unknown/KmsUnavailable"),
    "KMS answers one replica": (GOOD, (silent(10), passed(20, **OTHER)), "True/Verified"),
    "KMS did not answer before the probe": (GOOD, (silent(-60),), "True/Verified"),
    "probes fail, and nobody signs": (replace(GOOD, probe_failure=AWAY), (), "Unknown/SignerUnreachable"),
    "probes fail, and a replica signs": (replace(GOOD, probe_failure=AWAY), (passed(30),), "True/Verified"),
    "probes fail, and a replica was refused": (
        replace(GOOD, probe_failure=AWAY),
        (denied(1),),
        "False/KeyAccessDenied",
    ),
    "nobody has probed it yet, and a replica signs": (observed(), (passed(1),), "True/Verified"),
    "nobody has probed it yet, and a replica was refused": (observed(), (denied(1),), "False/KeyAccessDenied"),
}


@pytest.mark.parametrize(("observation", "reports", "granted"), TABLE.values(), ids=TABLE)
def test_the_newer_word_counts(observation: KeyObservation, reports: tuple[ReplicaHealth, ...], granted: str) -> None:
    plan = plan_key(replace(observation, health=reports), LATER)
    assert says(plan.status.conditions)["SignGranted"] == granted


def test_a_replica_that_signed_an_interval_before_probes_fail_stands_in_for_none() -> None:
    away = replace(GOOD, probe_failure=replace(AWAY, at=at(30) + timedelta(minutes=10)))
    found = plan_key(replace(away, health=(passed(30),)), LATER + timedelta(minutes=10)).status.conditions
    assert says(found)["SignGranted"] == "Unknown/SignerUnreachable"


def test_a_refusal_while_signing_shows_in_ready_at_once() -> None:
    kept = ready_since_an_hour()
    assert (
        says(plan_key(replace(kept, health=(denied(-30),)), NOW).status.conditions)["Ready"] == "False/KeyAccessDenied"
    )


def test_a_signature_that_verified_counts_as_proof() -> None:
    kept = ready_since_an_hour(probe_failure=AWAY, health=(passed(30),))
    later = replace(kept, probe_failure=replace(AWAY, at=at(7200)))
    assert verified_at(later, at(7200)) == at(30)
    assert says(plan_key(later, at(7200)).status.conditions)["Ready"] == "True/LastVerified"


def test_a_signature_shows_that_the_certificate_is_the_keys() -> None:
    before = Finding(Outcome.FAILED, "CertificateMismatch", "another key")
    found = plan_key(observed(probe=probe(certificate=before), health=(passed(1),)), LATER).status.conditions
    assert says(found)["CertificateReady"] == "True/Verified"


def test_a_mismatch_while_signing_is_the_certificates_and_not_the_grants() -> None:
    found = says(plan_key(replace(GOOD, health=(mismatch(1),)), LATER).status.conditions)
    assert found["CertificateReady"] == found["Ready"] == "False/CertificateMismatch"
    assert found["SignGranted"] == "True/Verified"


def test_a_key_disabled_while_signing_is_not_usable() -> None:
    found = says(plan_key(replace(GOOD, health=(denied(1, reason="KeyDisabled"),)), LATER).status.conditions)
    assert found["Usable"] == found["SignGranted"] == found["Ready"] == "False/KeyDisabled"


@pytest.mark.parametrize(
    ("observation", "reports", "named"),
    [
        (GOOD, (denied(1), passed(2, **OTHER)), "signer-1 (signs)"),
        (GOOD, (denied(-1, **OTHER),), "signer-1 (KeyAccessDenied)"),
        (GOOD, (denied(-1),), ""),
        (BAD, (passed(-1, **OTHER),), ""),
        (GOOD, tuple(denied(-1, replica=f"r{number}") for number in range(7)), "r4 (KeyAccessDenied) and 2 more"),
    ],
)
def test_replicas_that_see_it_otherwise_are_named(
    observation: KeyObservation, reports: tuple[ReplicaHealth, ...], named: str
) -> None:
    told = message(plan_key(replace(observation, health=reports), LATER).status.conditions, "SignGranted")
    assert ("see it otherwise" in told) == bool(named)
    assert named in told


def born(seconds: float) -> ByokKey:
    document = manifest("ByokKey", str(NAME), {"aws": {"keyArn": KEY_ARN}})
    document["metadata"]["creationTimestamp"] = at(seconds).isoformat()
    parsed = parse_object(document, "test.yaml")
    assert isinstance(parsed, ByokKey)
    return parsed


def test_reports_of_an_earlier_object_of_the_name_do_not_count() -> None:
    again = observed(born(60), probe=probe(at(61)))
    assert says(plan_key(replace(again, health=(denied(62),)), LATER).status.conditions)["SignGranted"].startswith(
        "False"
    )
    again = replace(again, probe=None)
    assert says(plan_key(replace(again, health=(denied(59),)), LATER).status.conditions)["SignGranted"].startswith(
        "Unknown"
    )


def test_after_a_restart_the_snapshot_of_old_news_changes_nothing() -> None:
    kept = planned(replace(GOOD, health=(passed(-60),)))
    restarted = replace(kept, probe=None, health=(passed(-60), denied(-120, **OTHER)))
    assert plan_key(restarted, LATER).status == kept.status


def test_after_a_restart_what_happened_meanwhile_counts() -> None:
    kept = replace(planned(GOOD), probe=None)
    assert (
        says(plan_key(replace(kept, health=(denied(1),)), LATER).status.conditions)["Ready"] == "False/KeyAccessDenied"
    )
    refused = replace(planned(BAD), probe=None)
    found = says(plan_key(replace(refused, health=(passed(1),)), LATER).status.conditions)
    assert found["SignGranted"] == "True/Verified"


def test_a_certificate_request_key_says_nothing_of_certificates_by_health() -> None:
    missing = Finding(Outcome.FAILED, "CertificateMissing", "none")
    found = says(plan_key(observed(uncertified_key(), probe=probe(certificate=missing)), NOW).status.conditions)
    assert found["SignGranted"] == "True/Verified"
    assert found["CertificateReady"] == "False/CertificateMissing"


def test_the_interval_of_the_spec_says_how_long_a_replica_stands_in() -> None:
    key = certified_key(verification={"interval": "1h"})
    away = observed(key, probe=probe(), probe_failure=replace(AWAY, at=at(3000)), health=(passed(30),))
    assert says(plan_key(away, at(3001)).status.conditions)["SignGranted"] == "True/Verified"


DISABLED = Finding(Outcome.FAILED, "KeyDisabled", "The KMS key is disabled.")
UNASKED = Finding(Outcome.UNKNOWN, "KeyDisabled", "not asked")
REFUSED_TWICE = {
    "the probe was refused too, in its own words": {"sign": DENIED},
    "the probe could not ask for a signature any more": {"public_key": DISABLED, "sign": UNASKED},
}


@pytest.mark.parametrize("found", REFUSED_TWICE.values(), ids=REFUSED_TWICE)
def test_a_restart_says_nothing_new_of_a_refusal_that_is_written(found: dict[str, Finding]) -> None:
    by_replica = planned(replace(GOOD, health=(denied(10.5, message="in the replica's words"),)), at(10.7))
    kept = planned(replace(by_replica, probe=probe(at(10.8), **found)), at(10.9))
    plan = plan_key(replace(kept, probe=None), at(40))
    assert plan.status == kept.status
    assert plan.events == ()


def test_a_refusal_since_the_last_write_counts_after_a_restart() -> None:
    kept = planned(GOOD, at(1))
    plan = plan_key(replace(kept, probe=None, health=(denied(10.5),)), at(40))
    assert says(plan.status.conditions)["SignGranted"] == "False/KeyAccessDenied"
