"""What a ByokKey amounts to, as a table: one change to a key that works, and the reason that its users are told."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.inventory import Inventory
from byok_api.key_rules import KeyStanding
from byok_api.ownership import KeyOwnership
from byok_api.references import ObjectName
from byok_sandbox.ca import pem_of
from tests.support.manifests import KEY_ARN, PRESETS, key
from tests.support.pki import NOW, Leaf, extensions, identity

RULES = Rules(installation="test", presets_namespace=PRESETS)
BRAND = ObjectName("media", "brand")
ROLE = "arn:aws:iam::111122223333:role/signing"
MULTI_REGION = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
TERMS = hashlib.sha256(b"the terms").hexdigest()


def rules(**changes: Any) -> Rules:  # noqa: ANN401 - any of Rules' fields
    return Rules(**{"installation": "test", "presets_namespace": PRESETS} | changes)


def standing(*keys: ByokKey, name: ObjectName = BRAND, under: Rules = RULES) -> KeyStanding:
    inventory = Inventory(under)
    inventory.replace_all(keys, {})
    found = inventory.key(name)
    assert isinstance(found, KeyStanding)
    return found


def reason(*keys: ByokKey, name: ObjectName = BRAND, under: Rules = RULES) -> Reason | None:
    problem = standing(*keys, name=name, under=under).problem
    return problem.reason if problem else None


def test_an_active_certified_key_can_sign() -> None:
    found = standing(key())
    assert (found.problem, found.acceptance, found.certificate) == (None, None, None)
    assert found.algorithm is SigningAlgorithm.ES256
    assert found.chain is not None
    assert found.chain.ders == identity().chain.ders


CASES: dict[str, tuple[dict[str, Any], Reason]] = {
    "deactivated": ({"state": "Deactivated"}, Reason.KeyDeactivated),
    "no certificate": ({"certificate": None}, Reason.CertificateMissing),
    "garbage for a certificate": ({"certificate": {"pem": "garbage"}}, Reason.CertificateInvalid),
    "another key's algorithm": ({"signingAlgorithm": "PS256"}, Reason.KeyInvalid),
}


@pytest.mark.parametrize(("spec", "expected"), CASES.values(), ids=CASES)
def test_a_key_that_cannot_be_used_names_why(spec: dict[str, Any], expected: Reason) -> None:
    found = standing(key(**spec))
    assert found.problem is not None
    assert found.problem.reason is expected
    assert found.problem.message.startswith("key media/brand ")


def test_a_certificate_that_breaks_the_profile_is_refused_by_its_finding() -> None:
    chain = Leaf(extensions=extensions(without=x509.ExtendedKeyUsage)).chain()
    found = standing(key(certificate={"pem": pem_of(chain.certificates)}))
    assert found.certificate == found.problem
    assert found.problem is not None
    assert found.problem.reason is Reason.CertificateInvalid
    assert "ExtendedKeyUsageMissing" in found.problem.message


def test_what_is_wrong_with_the_certificate_is_said_of_a_deactivated_key_too() -> None:
    found = standing(key(state="Deactivated", certificate={"pem": "garbage"}))
    assert found.deactivated
    assert found.problem is not None
    assert found.certificate is not None
    assert (found.problem.reason, found.certificate.reason) == (Reason.KeyDeactivated, Reason.CertificateInvalid)


def test_a_key_that_is_being_deleted_is_as_good_as_deactivated() -> None:
    going = key()
    going = going.model_copy(update={"metadata": going.metadata.model_copy(update={"deletion_timestamp": NOW})})
    found = standing(going)
    assert found.deactivated
    assert found.problem is not None
    assert (found.problem.reason, found.problem.message) == (
        Reason.KeyDeactivated,
        "key media/brand is being deleted",
    )


def test_a_key_without_a_certificate_is_accepted() -> None:
    assert standing(key(certificate=None)).acceptance is None


def test_validity_is_a_matter_of_the_moment() -> None:
    found = standing(key())
    assert found.chain is not None
    assert found.valid_at(NOW) is None
    for moment in (found.chain.not_before - timedelta(seconds=1), found.chain.not_after + timedelta(seconds=1)):
        problem = found.valid_at(moment)
        assert problem is not None
        assert problem.reason is Reason.CertificateExpired


def test_a_key_without_a_chain_is_valid_at_any_moment() -> None:
    assert standing(key(certificate=None)).valid_at(NOW) is None


# Whose key is it?


def aged(found: ByokKey, day: int | None) -> ByokKey:
    created = datetime(2026, 1, day, tzinfo=UTC) if day else None
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"creation_timestamp": created})})


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (1, 2, None),
        (2, 1, Reason.KeyClaimedElsewhere),
        (1, 1, Reason.KeyClaimedElsewhere),
        (1, None, None),
        (None, 1, Reason.KeyClaimedElsewhere),
        (None, None, Reason.KeyClaimedElsewhere),
    ],
)
def test_of_two_namespaces_that_claim_one_key_the_older_has_it(
    mine: int | None, theirs: int | None, expected: Reason | None
) -> None:
    assert reason(aged(key(), mine), aged(key("thief/brand"), theirs)) is expected


def test_a_claim_is_to_the_public_key_whatever_arn_names_it() -> None:
    alias = KEY_ARN.split(":key/")[0] + ":alias/brand"
    thief = aged(key("thief/brand", aws={"keyArn": alias}), 2)
    assert reason(aged(key(), 1), thief, name=thief.name) is Reason.KeyClaimedElsewhere


def test_one_namespace_may_name_a_key_twice() -> None:
    assert reason(key(), key("media/second")) is None


def test_the_oldest_of_several_other_claims_is_named() -> None:
    others = [aged(key(f"{namespace}/brand"), day) for namespace, day in (("b", 3), ("a", 2), ("c", 2))]
    problem = standing(aged(key(), 4), *others).problem
    assert problem is not None
    assert "a/brand" in problem.message


def test_without_certificates_claims_are_compared_by_arn() -> None:
    older, younger = aged(key(certificate=None), 1), aged(key("thief/brand", certificate=None), 2)
    accepted, denied = standing(older, younger), standing(older, younger, name=younger.name)
    assert accepted.acceptance is None
    assert denied.acceptance is not None
    assert denied.acceptance.reason is Reason.KeyClaimedElsewhere


def test_a_key_without_certificate_is_compared_with_certified_ones_by_any_region_of_a_multi_region_key() -> None:
    replica = MULTI_REGION.replace("eu-central-1", "us-east-1")
    certified = aged(key(aws={"keyArn": MULTI_REGION}), 1)
    late = aged(key("thief/brand", aws={"keyArn": replica}, certificate=None), 2)
    assert standing(certified, late, name=late.name).acceptance is not None


def test_a_key_without_certificate_takes_nothing_from_a_certified_one() -> None:
    squatter = aged(key("thief/brand", certificate=None), 1)
    assert reason(aged(key(), 2), squatter) is None


def owned(**patterns: str) -> Rules:
    return rules(ownership=KeyOwnership({namespace: (pattern,) for namespace, pattern in patterns.items()}))


def test_where_ownership_is_set_a_namespace_names_only_what_it_is_given() -> None:
    assert reason(key(), under=owned(media=KEY_ARN)) is None
    assert reason(key(), under=owned(media=KEY_ARN[:-1] + "0")) is Reason.KeyOwnershipDenied
    assert reason(key(), under=owned(other=KEY_ARN)) is Reason.KeyOwnershipDenied


def test_ownership_is_demanded_of_every_replica() -> None:
    aws = {"keyArn": MULTI_REGION, "replicas": [MULTI_REGION.replace("eu-central-1", "us-east-1")]}
    assert reason(key(aws=aws), under=owned(media=MULTI_REGION)) is Reason.KeyOwnershipDenied
    assert reason(key(aws=aws), under=owned(media=MULTI_REGION.replace("eu-central-1", "*"))) is None


def test_ownership_is_told_before_the_certificate_and_by_the_arn_that_is_denied() -> None:
    problem = standing(key(certificate=None), under=owned()).problem
    assert problem is not None
    assert problem.reason is Reason.KeyOwnershipDenied
    assert KEY_ARN in problem.message


def test_where_ownership_is_set_an_older_claim_elsewhere_takes_nothing() -> None:
    squatter = aged(key("thief/brand", aws={"keyArn": KEY_ARN.replace("111122223333", "444455556666")}), 1)
    under = owned(media="arn:aws:kms:*:111122223333:*", thief="arn:aws:kms:*:444455556666:*")
    assert reason(aged(key(), 2), squatter, under=under) is None
    assert reason(aged(key(), 2), squatter) is Reason.KeyClaimedElsewhere


# What an installation may demand.


def test_an_external_id_that_an_installation_demands_takes_a_role() -> None:
    bare, assumed = key(), key(aws={"keyArn": KEY_ARN, "assumeRole": {"arn": ROLE}})
    assert reason(bare, under=rules(require_external_id=True)) is Reason.KeyInvalid
    assert reason(assumed, under=rules(require_external_id=True)) is None
    assert reason(bare, under=rules(require_external_id=True, default_role=ROLE)) is None


ACCEPTED = {"terms": "terms-2", "acceptedBy": "ada", "acceptedAt": "2026-01-01T00:00:00Z"}
DEMANDED: dict[str, tuple[dict[str, Any], dict[str, Any] | None, Reason | None]] = {
    "by name, none given": ({"required_terms": "terms-2"}, None, Reason.AcknowledgementMissing),
    "by name, others": ({"required_terms": "terms-2"}, ACCEPTED | {"terms": "terms-1"}, Reason.AcknowledgementMissing),
    "by name": ({"required_terms": "terms-2"}, ACCEPTED, None),
    "by hash, none given": ({"required_terms_sha256": TERMS}, None, Reason.AcknowledgementMissing),
    "by hash, the name only": ({"required_terms_sha256": TERMS}, ACCEPTED, Reason.AcknowledgementMissing),
    "by hash, another text": (
        {"required_terms_sha256": TERMS},
        ACCEPTED | {"termsSHA256": "0" * 64},
        Reason.AcknowledgementMissing,
    ),
    "by hash": ({"required_terms_sha256": TERMS}, ACCEPTED | {"termsSHA256": TERMS}, None),
    "by both, another name": (
        {"required_terms": "terms-3", "required_terms_sha256": TERMS},
        ACCEPTED | {"termsSHA256": TERMS},
        Reason.AcknowledgementMissing,
    ),
    "none": ({}, None, None),
}


@pytest.mark.parametrize(("demand", "given", "expected"), DEMANDED.values(), ids=DEMANDED)
def test_terms_that_an_installation_demands_must_be_the_ones_acknowledged(
    demand: dict[str, Any], given: dict[str, Any] | None, expected: Reason | None
) -> None:
    found = standing(key(acknowledgement=given), under=rules(**demand))
    assert (found.acceptance.reason if found.acceptance else None) is expected
    assert found.problem == found.acceptance


def test_of_several_problems_the_one_to_solve_first_is_told() -> None:
    under = rules(required_terms="terms-2", require_external_id=True, ownership=KeyOwnership({}))
    wrong = {"certificate": {"pem": "garbage"}, "signingAlgorithm": "PS256"}
    everything = key(state="Deactivated", **wrong)
    told = [reason(everything, under=under), reason(key(**wrong), under=under)]
    told += [reason(key(**wrong), under=rules(required_terms="terms-2", require_external_id=True))]
    told += [reason(key(**wrong), under=rules(required_terms="terms-2")), reason(key(**wrong))]
    assert told == [
        Reason.KeyDeactivated,
        Reason.KeyOwnershipDenied,
        Reason.KeyInvalid,
        Reason.AcknowledgementMissing,
        Reason.CertificateInvalid,
    ]
