"""What a ByokKey's status tells beside its conditions, and how often it is written for that."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from byok_api.errors import Reason
from byok_api.objects import Unreadable
from byok_api.statuses import ByokKeyStatus
from byok_operator.key_plan import plan_key
from byok_operator.observations import Finding, KeyObservation, KmsFacts, Outcome, ProbeFailure
from tests.support.kinds import KEY_ARN
from tests.support.observed import (
    DENIED,
    NAME,
    NOW,
    THROTTLED,
    certified_key,
    observed,
    planned,
    probe,
    ready_since_an_hour,
    uncertified_key,
)
from tests.support.pki import identity

GOLDEN = Path(__file__).parent / "golden"
ALIAS = "arn:aws:kms:eu-central-1:111122223333:alias/brand"
MISSING = Finding(Outcome.FAILED, "CertificateMissing", "The key has no certificate yet.")
MINUTE = timedelta(minutes=1)


def status(observation: KeyObservation, now: datetime = NOW) -> ByokKeyStatus:
    return plan_key(observation, now).status


def fixed(planned_status: ByokKeyStatus) -> dict[str, object]:
    """Put in place of what differs in each session what does not."""
    text = planned_status.model_dump_json(by_alias=True, exclude_none=True)
    chain, public_key = identity().chain, planned_status.public_key
    replacements = {
        NOW.strftime("%Y-%m-%dT%H:%M:%SZ"): "NOW",
        chain.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"): "NOT-AFTER",
        json.dumps(public_key.pem if public_key else "")[1:-1]: "PEM",
        chain.spki_sha256: "SPKI",
    }
    for found, written in replacements.items():
        text = text.replace(found, written) if found else text
    parsed: dict[str, object] = json.loads(text)
    return parsed


@pytest.mark.parametrize(
    ("name", "observation"),
    [
        ("ready", observed(probe=probe(), recipes=3)),
        ("denied", observed(probe=probe(sign=DENIED))),
        ("uncertified", observed(uncertified_key(), probe=probe(certificate=MISSING))),
    ],
)
def test_a_whole_status(name: str, observation: KeyObservation) -> None:
    assert fixed(status(observation)) == json.loads((GOLDEN / f"key-{name}.json").read_text())


def test_the_public_key_is_the_one_that_kms_gave() -> None:
    public_key = status(observed(probe=probe())).public_key
    assert public_key is not None
    read = load_pem_public_key((public_key.pem or "").encode())
    assert read == identity().public_key


def test_what_describe_key_tells_is_shown() -> None:
    facts = KmsFacts(
        key_arn=KEY_ARN, key_state="Enabled", origin="EXTERNAL", multi_region=True, key_spec="ECC_NIST_P256"
    )
    key = status(observed(probe=probe(facts=facts))).key
    assert key is not None
    assert (key.key_spec, key.key_state, key.origin, key.multi_region) == ("ECC_NIST_P256", "Enabled", "EXTERNAL", True)


@pytest.mark.parametrize(
    "found", [{"probe": probe(public_key=THROTTLED)}, {"probe": probe(public_key=DENIED)}, {"probe": None}]
)
def test_what_kms_told_is_told_until_it_tells_otherwise(found: dict[str, Any]) -> None:
    kept = ready_since_an_hour()
    later = status(replace(kept, **found))
    assert kept.status is not None
    assert (later.key, later.public_key, later.resolved_key_arn) == (
        kept.status.key,
        kept.status.public_key,
        kept.status.resolved_key_arn,
    )


@pytest.mark.parametrize(("arn", "kept"), [(KEY_ARN, KEY_ARN), (ALIAS, None)])
def test_another_spec_may_name_another_key(arn: str, kept: str | None) -> None:
    key = certified_key(aws={"keyArn": arn})
    before = planned(observed(key, probe=probe()))
    assert status(replace(before, probe=None, generation=2)).resolved_key_arn == kept


def test_a_signers_answer_beyond_all_limits_still_gives_a_status() -> None:
    wild = KmsFacts(
        key_arn="a" * 900, public_key=b"x" * 9000, key_spec="k" * 90, algorithm="HS256", external_id="e" * 900
    )
    found = status(observed(uncertified_key(), probe=probe(facts=wild)))
    assert ByokKeyStatus.model_validate_json(found.model_dump_json(by_alias=True)) == found
    assert found.public_key is None
    assert found.algorithm is None


def test_an_unreadable_spec_keeps_what_is_known_of_the_key() -> None:
    broken = Unreadable("ByokKey", NAME, Reason.KeyInvalid, "broken")
    assert status(replace(ready_since_an_hour(), standing=broken)).public_key is not None


# How often.


@pytest.mark.parametrize(("after", "moves"), [(30 * MINUTE, False), (59 * MINUTE, False), (60 * MINUTE, True)])
def test_the_time_of_the_last_proof_moves_on_once_an_hour(after: timedelta, *, moves: bool) -> None:
    kept = planned(observed(probe=probe()))
    found = status(replace(kept, probe=probe(NOW + after)), NOW + after)
    assert found.last_verified_time == (NOW + after if moves else NOW)


def test_what_others_wrote_beside_it_is_no_difference() -> None:
    kept = planned(observed(probe=probe()))
    assert kept.status is not None
    assert kept.status.conditions is not None
    foreign = kept.status.conditions[0].model_copy(update={"type": "Foreign"})
    forged = replace(
        kept, status=kept.status.model_copy(update={"conditions": (foreign, *reversed(kept.status.conditions))})
    )
    assert status(replace(forged, probe=probe(NOW + MINUTE)), NOW + MINUTE).last_verified_time == NOW


def test_it_moves_on_along_with_whatever_else_differs() -> None:
    kept = planned(observed(probe=probe()))
    facts = KmsFacts(key_arn=KEY_ARN, key_state="Enabled")
    found = status(replace(kept, probe=probe(NOW + MINUTE, facts=facts)), NOW + MINUTE)
    assert found.last_verified_time == NOW + MINUTE


def test_it_never_goes_back_and_does_not_come_from_the_future() -> None:
    kept = planned(observed(probe=probe()))
    assert status(replace(kept, probe=probe(NOW - MINUTE)), NOW).last_verified_time == NOW
    assert kept.status is not None
    forged = replace(kept, status=kept.status.model_copy(update={"last_verified_time": NOW + timedelta(days=9)}))
    assert status(forged).last_verified_time == NOW


@pytest.mark.parametrize(
    ("written", "shown"),
    [(None, 7), (NOW - timedelta(seconds=29), 0), (NOW - timedelta(seconds=30), 7)],
)
def test_the_count_of_recipes_is_written_twice_a_minute(written: datetime | None, shown: int) -> None:
    kept = planned(observed(probe=probe(NOW - MINUTE)), NOW - MINUTE)
    assert status(replace(kept, recipes=7, recipes_written=written)).recipes == shown


def test_the_count_of_recipes_is_written_along_with_whatever_else_differs() -> None:
    kept = ready_since_an_hour(recipes=7, recipes_written=NOW)
    assert status(kept).recipes == 0
    assert status(replace(kept, probe_failure=ProbeFailure(NOW, "SignerUnreachable", "no answer"))).recipes == 7


def test_the_word_of_reverify_is_kept_once_a_probe_has_answered_it() -> None:
    asked = replace(ready_since_an_hour(), reverify="again")
    assert status(asked).last_handled_reverify is None
    answered = replace(asked, probe=probe(reverify="again"))
    assert status(answered).last_handled_reverify == "again"
    assert status(replace(planned(answered), probe=None)).last_handled_reverify == "again"


def test_a_long_word_of_reverify_is_cut() -> None:
    assert status(observed(reverify="x" * 900, probe=probe(reverify="x" * 900))).last_handled_reverify == "x" * 256
