"""What each condition of a ByokKey says, by what was observed: read the table as the specification."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from byok_api.algorithms import SigningAlgorithm
from byok_api.conditions import ConditionReason
from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.key_rules import Problem
from byok_api.objects import Unreadable
from byok_api.references import ObjectName
from byok_operator.key_plan import plan_key
from byok_operator.observations import Finding, KeyObservation, KmsFacts, Outcome, ProbeFailure
from byok_sandbox import ca
from tests.support.kinds import KEY_ARN, PRESETS
from tests.support.observed import (
    DENIED,
    NAME,
    NOW,
    PASSED,
    THROTTLED,
    certified_key,
    health,
    message,
    observed,
    planned,
    probe,
    ready_since_an_hour,
    says,
    standing,
    uncertified_key,
)
from tests.support.pki import Leaf, certified, extensions, identity, new_key

WELL = {
    "Accepted": "True/Verified",
    "Resolved": "True/Verified",
    "SignGranted": "True/Verified",
    "Usable": "True/Verified",
    "CertificateReady": "True/Verified",
    "LeastPrivilege": "Unknown/NotRequested",
    "Ready": "True/Verified",
}
UNREADABLE = Unreadable("ByokKey", NAME, Reason.KeyInvalid, f"ByokKey {NAME}: spec.aws.keyArn is missing; add it")
NOT_READ = Finding(Outcome.UNKNOWN, "", "not asked, since the key did not tell its public key")
NOT_COMPARED = Finding(Outcome.UNKNOWN, "", "not compared, since the public key could not be read")
MISMATCH = Finding(Outcome.FAILED, "CertificateMismatch", "the KMS key has another public key")
AWAY = ProbeFailure(NOW, "SignerUnreachable", "no replica of the signer answered at byok-signer:8443")
HOUR = timedelta(hours=1)


def failed(reason: str) -> Finding:
    return Finding(Outcome.FAILED, reason, f"key {NAME}: {reason}")


def every(finding: Finding) -> dict[str, Any]:
    return {"public_key": finding, "sign": finding, "certificate": NOT_COMPARED}


def whole(status_and_reason: str, *conditions: str) -> dict[str, str]:
    return dict.fromkeys(conditions, status_and_reason)


KMS = ("Resolved", "SignGranted", "Usable")
UNPROVEN = (*KMS, "CertificateReady")
WITH_TERMS = replace(Rules(installation="test", presets_namespace=PRESETS), required_terms="terms-1")

TABLE: dict[str, tuple[KeyObservation, dict[str, str], str]] = {
    # Before and after the first probe.
    "nothing was asked yet": (
        observed(),
        whole("Unknown/Validating", *UNPROVEN, "Ready"),
        "Validating",
    ),
    "all passed": (observed(probe=probe()), {}, "Active"),
    "the probe was of an older generation": (
        observed(probe=probe(), generation=2),
        whole("Unknown/Validating", *UNPROVEN, "Ready"),
        "Validating",
    ),
    # The spec.
    "the spec cannot be read": (
        observed(UNREADABLE, probe=probe()),
        whole("False/KeyInvalid", "Accepted", "Ready") | whole("Unknown/NotChecked", *UNPROVEN),
        "Failed",
    ),
    "the terms are not acknowledged": (
        observed(standing(certified_key(), WITH_TERMS)),
        whole("False/AcknowledgementMissing", "Accepted", "Ready") | whole("Unknown/NotChecked", *UNPROVEN),
        "Failed",
    ),
    "another namespace claims the key with better right": (
        observed(standing(certified_key(), older_claim=ObjectName("other", "brand"))),
        whole("False/KeyClaimedElsewhere", "Accepted", "Ready") | whole("Unknown/NotChecked", *UNPROVEN),
        "Failed",
    ),
    "only the signer refuses the spec": (
        observed(probe=probe(standing=failed("KeyInvalid"))),
        whole("False/KeyInvalid", "Accepted", "Ready"),
        "Failed",
    ),
    "the owner has deactivated it": (
        observed(certified_key(state="Deactivated"), probe=probe(standing=failed("KeyDeactivated"))),
        {"Ready": "False/KeyDeactivated"},
        "Deactivated",
    ),
    "it is deactivated and not granted": (
        observed(certified_key(state="Deactivated"), probe=probe(**every(DENIED))),
        whole("False/KeyAccessDenied", "Resolved", "SignGranted")
        | whole("Unknown/KeyAccessDenied", "Usable", "CertificateReady")
        | {"Ready": "False/KeyDeactivated"},
        "Deactivated",
    ),
    # What KMS says.
    "nothing is granted": (
        observed(probe=probe(**every(DENIED))),
        whole("False/KeyAccessDenied", "Resolved", "SignGranted", "Ready")
        | whole("Unknown/KeyAccessDenied", "Usable", "CertificateReady"),
        "Failed",
    ),
    "only Sign is not granted": (
        observed(probe=probe(sign=DENIED)),
        whole("False/KeyAccessDenied", "SignGranted", "Ready") | {"Usable": "Unknown/KeyAccessDenied"},
        "Failed",
    ),
    "Sign is not granted, and DescribeKey says that the key is enabled": (
        observed(probe=probe(sign=DENIED, facts=KmsFacts(key_arn=KEY_ARN, key_state="Enabled"))),
        whole("False/KeyAccessDenied", "SignGranted", "Ready"),
        "Failed",
    ),
    "an alias that does not tell its key": (
        observed(probe=probe(public_key=DENIED, sign=NOT_READ, certificate=NOT_COMPARED)),
        whole("False/KeyAccessDenied", "Resolved", "Ready")
        | whole("Unknown/KeyAccessDenied", "SignGranted", "Usable", "CertificateReady"),
        "Failed",
    ),
    **{
        f"KMS answers {reason}": (
            observed(probe=probe(**every(failed(reason)))),
            whole(f"False/{reason}", *KMS, "Ready") | {"CertificateReady": f"Unknown/{reason}"},
            "Failed",
        )
        for reason in ("KeyDisabled", "KeyInvalidState", "KeyUsageInvalid")
    },
    "KMS knows no such key": (
        observed(probe=probe(**every(failed("KeyNotFound")))),
        whole("False/KeyNotFound", "Resolved", "SignGranted", "Ready")
        | whole("Unknown/KeyNotFound", "Usable", "CertificateReady"),
        "Failed",
    ),
    "DescribeKey tells of a deletion that Sign has not felt yet": (
        observed(probe=probe(facts=KmsFacts(key_arn=KEY_ARN, key_state="PendingDeletion"))),
        whole("False/KeyInvalidState", "Usable", "Ready"),
        "Failed",
    ),
    "KMS throttles before anything was proven": (
        observed(probe=probe(**every(THROTTLED))),
        whole("Unknown/KmsThrottled", *UNPROVEN, "Ready"),
        "Validating",
    ),
    "KMS throttles a key that worked": (
        ready_since_an_hour(probe=probe(sign=THROTTLED)),
        whole("Unknown/KmsThrottled", "SignGranted", "Usable") | {"Ready": "True/LastVerified"},
        "Active",
    ),
    # The signer.
    "no signer answers for a key that nobody has proven": (
        observed(probe_failure=AWAY),
        whole("Unknown/SignerUnreachable", *UNPROVEN, "Ready"),
        "Validating",
    ),
    "no signer answers for a key that worked": (
        ready_since_an_hour(probe_failure=AWAY),
        whole("Unknown/SignerUnreachable", *UNPROVEN) | {"Ready": "True/LastVerified"},
        "Active",
    ),
    "no signer answers for a key that was refused": (
        replace(planned(observed(probe=probe(NOW - HOUR, **every(DENIED))), NOW - HOUR), probe_failure=AWAY),
        whole("Unknown/SignerUnreachable", *UNPROVEN, "Ready"),
        "Validating",
    ),
    "the last attempt failed, and the one before it had been denied": (
        observed(probe=probe(NOW - HOUR, sign=DENIED), probe_failure=AWAY),
        whole("Unknown/SignerUnreachable", *UNPROVEN, "Ready"),
        "Validating",
    ),
    "a signer of another version gives a reason that nobody knows": (
        observed(probe=probe(sign=Finding(Outcome.FAILED, "quota exceeded!", "no"))),
        whole("False/Internal", "SignGranted", "Ready") | {"Usable": "Unknown/Internal"},
        "Failed",
    ),
    # The certificate.
    "there is no certificate": (
        observed(uncertified_key(), probe=probe(certificate=failed("CertificateMissing"))),
        whole("False/CertificateMissing", "CertificateReady", "Ready"),
        "Failed",
    ),
    "the certificate is of another key": (
        observed(probe=probe(certificate=MISMATCH)),
        whole("False/CertificateMismatch", "CertificateReady", "Ready"),
        "Failed",
    ),
    "the certificate is no PEM": (
        observed(certified_key(certificate={"pem": "junk"}), probe=probe()),
        whole("False/CertificateInvalid", "CertificateReady", "Ready"),
        "Failed",
    ),
    # Least privilege.
    "least privilege was not asked for yet": (
        observed(certified_key(leastPrivilege="Warn"), probe=probe()),
        {"LeastPrivilege": "Unknown/Validating"},
        "Active",
    ),
    "the signer may do no more than it needs": (
        observed(certified_key(leastPrivilege="Warn"), probe=probe(least_privilege=PASSED)),
        {"LeastPrivilege": "True/Verified"},
        "Active",
    ),
    "the signer may do more, which is a warning only": (
        observed(certified_key(leastPrivilege="Warn"), probe=probe(least_privilege=failed("PermissionsTooBroad"))),
        {"LeastPrivilege": "False/PermissionsTooBroad"},
        "Active",
    ),
}


@pytest.mark.parametrize(("observation", "otherwise", "phase"), TABLE.values(), ids=TABLE)
def test_conditions_and_phase(observation: KeyObservation, otherwise: dict[str, str], phase: str) -> None:
    status = plan_key(observation, NOW).status
    assert says(status.conditions) == WELL | otherwise
    assert status.phase == phase


@pytest.mark.parametrize(("observation", "_otherwise", "_phase"), TABLE.values(), ids=TABLE)
def test_a_restart_with_nothing_new_plans_the_status_as_read(
    observation: KeyObservation, _otherwise: dict[str, str], _phase: str
) -> None:
    kept = planned(observation)
    restarted = replace(kept, probe=None, probe_failure=None, health=(), recipes_written=None)
    plan = plan_key(restarted, NOW + timedelta(minutes=5))
    assert plan.status == kept.status
    assert plan.events == ()


def last_moment() -> datetime:
    return identity().chain.not_after


@pytest.mark.parametrize(
    ("now", "ready"),
    [
        (identity().chain.not_before - timedelta(seconds=1), "False/CertificateExpired"),
        (last_moment(), "True/Verified"),
        (last_moment() + timedelta(seconds=1), "False/CertificateExpired"),
    ],
)
def test_a_certificate_counts_from_its_first_to_its_last_moment(now: datetime, ready: str) -> None:
    assert says(plan_key(observed(probe=probe(now)), now).status.conditions)["Ready"] == ready


def test_every_finding_of_the_lint_is_named() -> None:
    usage = ca.key_usage(digital_signature=False, key_cert_sign=True)
    chain = Leaf(extensions=extensions((usage, True), without=x509.ExtendedKeyUsage)).chain()
    key = certified_key(certificate={"pem": ca.pem_of(chain.certificates)})
    told = message(plan_key(observed(key, probe=probe()), NOW).status.conditions, "CertificateReady")
    for finding in ("DigitalSignatureMissing", "KeyCertSignOnLeaf", "ExtendedKeyUsageMissing"):
        assert told.count(finding) == 1


def test_the_missing_statement_stands_in_the_leaf_condition_and_not_in_ready() -> None:
    conditions = plan_key(observed(probe=probe(sign=DENIED)), NOW).status.conditions
    assert message(conditions, "SignGranted").endswith(f"Missing policy statement:\n{DENIED.missing_statement}")
    assert DENIED.message in message(conditions, "Ready")
    assert "Missing policy statement" not in message(conditions, "Ready")


def test_half_a_statement_is_never_shown() -> None:
    long = replace(DENIED, missing_statement=f'{{"Action": "{"x" * 2000}"}}')
    told = message(plan_key(observed(probe=probe(sign=long)), NOW).status.conditions, "SignGranted")
    assert told == DENIED.message


@pytest.mark.parametrize(
    ("observation", "condition"),
    [(row[0], name) for row in TABLE.values() for name in WELL],
)
def test_whatever_is_false_says_what_to_do(observation: KeyObservation, condition: str) -> None:
    status = plan_key(observation, NOW).status
    found = next(each for each in status.conditions or () if each.type == condition)
    if found.status.value == "False" and found.reason in Reason.__members__:
        assert Reason[found.reason].facts.remedy in found.message


def test_ready_names_what_else_is_false() -> None:
    both = observed(uncertified_key(), probe=probe(sign=DENIED, certificate=failed("CertificateMissing")))
    told = message(plan_key(both, NOW).status.conditions, "Ready")
    assert told.endswith("Also False: CertificateReady (CertificateMissing).")


def test_a_proof_holds_for_stale_after_and_no_longer() -> None:
    kept = ready_since_an_hour(probe_failure=AWAY)
    almost, past = NOW - HOUR + timedelta(hours=24, seconds=-1), NOW - HOUR + timedelta(hours=24)
    assert says(plan_key(kept, almost).status.conditions)["Ready"] == "True/LastVerified"
    assert says(plan_key(kept, past).status.conditions)["Ready"] == "Unknown/Stale"


def test_stale_after_is_the_specs() -> None:
    key = certified_key(verification={"staleAfter": "2h"})
    kept = replace(planned(observed(key, probe=probe())), probe_failure=AWAY)
    assert says(plan_key(kept, NOW + timedelta(hours=2)).status.conditions)["Ready"] == "Unknown/Stale"


def test_a_status_that_nobody_has_confirmed_for_long_is_not_believed() -> None:
    kept = ready_since_an_hour(probe=None)
    plan = plan_key(kept, NOW + timedelta(days=2))
    assert says(plan.status.conditions)["Ready"] == "Unknown/Stale"
    assert plan.is_provisional


@pytest.mark.parametrize(
    "denial",
    [{"probe": probe(sign=DENIED)}, {"health": (health(Outcome.FAILED, NOW - HOUR / 2),)}],
    ids=["to a probe", "to a replica"],
)
def test_no_proof_stands_once_it_was_denied(denial: dict[str, Any]) -> None:
    kept = planned(replace(ready_since_an_hour(), **denial))
    away = replace(kept, health=(), probe_failure=ProbeFailure(NOW + HOUR, "SignerUnreachable", "no answer"))
    assert says(plan_key(away, NOW + HOUR).status.conditions)["Ready"] == "Unknown/SignerUnreachable"


def test_what_was_found_of_least_privilege_stands_while_nobody_asks() -> None:
    key = certified_key(leastPrivilege="Warn")
    kept = planned(observed(key, probe=probe(least_privilege=failed("PermissionsTooBroad"))))
    later = plan_key(replace(kept, probe=probe(NOW + HOUR)), NOW + HOUR).status
    assert says(later.conditions)["LeastPrivilege"] == "False/PermissionsTooBroad"


def test_a_later_probe_keeps_what_an_earlier_one_found_of_least_privilege() -> None:
    earlier = probe(least_privilege=PASSED)
    assert probe(NOW + HOUR).succeeding(earlier).least_privilege == PASSED
    assert probe(NOW + HOUR, generation=2).succeeding(earlier).least_privilege is None


def test_other_algorithms_are_told() -> None:
    other = certified(new_key(SigningAlgorithm.ES384), SigningAlgorithm.ES384)
    key = certified_key(certificate={"pem": other.chain_pem})
    assert plan_key(observed(key, probe=probe()), NOW).status.algorithm is SigningAlgorithm.ES384


def test_a_plan_that_only_waits_for_the_first_probe_is_provisional() -> None:
    assert plan_key(observed(), NOW).is_provisional
    assert not plan_key(observed(probe=probe()), NOW).is_provisional
    assert not plan_key(observed(probe_failure=AWAY), NOW).is_provisional
    assert not plan_key(observed(UNREADABLE), NOW).is_provisional


def test_reasons_that_are_no_refusals_are_those_of_the_reference() -> None:
    allowed = {reason.value for reason in ConditionReason} | set(Reason.__members__)
    found = {each.reason for row in TABLE.values() for each in plan_key(row[0], NOW).status.conditions or ()}
    assert found <= allowed


def test_problems_are_told_in_the_rules_own_words() -> None:
    judged = standing(certified_key(), WITH_TERMS)
    assert isinstance(judged.acceptance, Problem)
    assert judged.acceptance.message in message(plan_key(observed(judged), NOW).status.conditions, "Accepted")
