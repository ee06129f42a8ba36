"""A probe tells apart what is granted, denied and unknown; what it says is missing makes it pass once pasted."""

import dataclasses
import json
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee, Statement, as_json, key_policy_statements, session_tags, trust_statements
from byok_api.references import KeyArn, ObjectName
from byok_sandbox.kms.emulator import DEFAULT_ACCOUNT
from byok_sandbox.kms.identities import Identity
from byok_sandbox.kms.policies import parse_policy
from byok_signer.kms.port import KeyHandle
from byok_signer.probe import CheckOutcome, ProbeReport, ProbeRequest, probe_key
from tests.support.kms_benches import BENCHES, INSTALLATION, NAME, SIGNER_ROLE, Bench, EmulatorBench, handle
from tests.support.kms_benches import emulator_bench as emulator

PASSED, FAILED, UNKNOWN = CheckOutcome.PASSED, CheckOutcome.FAILED, CheckOutcome.UNKNOWN
ES256 = SigningAlgorithm.ES256
OWNERS_ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/media"


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with BENCHES[request.param]() as made:
        yield made


async def probe(
    bench: Bench,
    key: KeyHandle,
    *,
    algorithm: SigningAlgorithm | None = None,
    spki: bytes | None = None,
    least_privilege: bool = False,
) -> ProbeReport:
    request = ProbeRequest(
        key=key, algorithm=algorithm, registered_spki=spki, least_privilege=least_privilege, timeout=10
    )
    return await probe_key(bench.kms, request)


def pasted(text: str) -> list[Statement]:
    statements: list[Statement] = json.loads(f"[{text}]")
    return statements


async def test_a_granted_key_passes(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    spki = (await bench.kms.get_public_key(handle(arn), timeout=30)).spki
    report = await probe(bench, handle(await bench.point("media", arn)), spki=spki, least_privilege=True)
    assert report.least_privilege is not None
    checks = (report.get_public_key, report.sign, report.certificate, report.least_privilege)
    assert [check.outcome for check in checks] == [PASSED] * 4
    assert report.public_key is not None
    assert (report.public_key.key_arn, report.algorithm) == (arn, ES256)
    assert report.external_id == "byok:test:team/photo"
    assert report.get_public_key.request_id
    assert report.sign.request_id


async def test_what_is_denied_is_reported_apart(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    await bench.grant(arn, frozenset({"GetPublicKey"}))
    report = await probe(bench, handle(arn))
    assert (report.get_public_key.outcome, report.sign.outcome) == (PASSED, FAILED)
    assert (report.sign.reason, report.sign.request_id != "") == (Reason.KeyAccessDenied, True)
    await bench.grant(arn, frozenset({"Sign"}))
    report = await probe(bench, handle(arn), algorithm=ES256)
    assert (report.get_public_key.outcome, report.sign.outcome) == (FAILED, PASSED)


async def test_without_a_public_key_the_certificate_tells_the_algorithm(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    spki = (await bench.kms.get_public_key(handle(arn), timeout=30)).spki
    await bench.grant(arn, frozenset({"Sign"}))
    report = await probe(bench, handle(arn), spki=spki)
    assert (report.sign.outcome, report.algorithm, report.certificate.outcome) == (PASSED, ES256, UNKNOWN)


async def test_sign_is_not_asked_where_the_key_or_algorithm_is_unknown(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    await bench.grant(arn, frozenset())
    for key, algorithm in ((handle(arn), None), (handle(await bench.point("media", arn)), ES256)):
        report = await probe(bench, key, algorithm=algorithm, least_privilege=key.arn.is_alias)
        assert (report.get_public_key.outcome, report.sign.outcome) == (FAILED, UNKNOWN)
        assert "not asked" in report.sign.message
    assert report.least_privilege is not None
    assert report.least_privilege.outcome is UNKNOWN


async def test_certificates_are_compared(bench: Bench) -> None:
    first, second = await bench.create("ECC_NIST_P256"), await bench.create("ECC_NIST_P256")
    spki = (await bench.kms.get_public_key(handle(second), timeout=30)).spki
    assert (await probe(bench, handle(first), spki=spki)).certificate.reason is Reason.CertificateMismatch
    assert (await probe(bench, handle(first))).certificate.reason is Reason.CertificateMissing


async def test_an_algorithm_that_the_key_cannot_do_is_named(bench: Bench) -> None:
    report = await probe(bench, handle(await bench.create("RSA_2048")), algorithm=ES256)
    assert (report.sign.outcome, report.sign.reason) == (FAILED, Reason.KeyUsageInvalid)
    assert "spec RSA_2048 cannot sign with ES256; it can sign with: PS256, PS384, PS512" in report.sign.message


async def test_too_many_permissions_are_named(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    await bench.grant(arn, frozenset({"Sign", "GetPublicKey", "CreateGrant", "GetKeyPolicy"}))
    check = (await probe(bench, handle(arn), least_privilege=True)).least_privilege
    assert check is not None
    assert (check.outcome, check.reason) == (FAILED, Reason.PermissionsTooBroad)
    assert "also allowed kms:CreateGrant and kms:GetKeyPolicy" in check.message


async def test_without_time_everything_is_unknown(bench: Bench) -> None:
    key = handle(await bench.create("ECC_NIST_P256"))
    request = ProbeRequest(key=key, algorithm=ES256, registered_spki=b"", least_privilege=True, timeout=0)
    report = await probe_key(bench.kms, request)
    checks = (report.get_public_key, report.sign, report.certificate, report.least_privilege)
    assert [check.outcome for check in checks if check] == [UNKNOWN] * 4


async def test_the_missing_statements_are_what_was_missing() -> None:
    async with emulator() as bench:
        arn = await bench.create("ECC_NIST_P256")
        await bench.grant(arn, frozenset())
        report = await probe(bench, handle(arn), algorithm=ES256)
        statements = pasted(report.get_public_key.missing_statement) + pasted(report.sign.missing_statement)
        assert statements == key_policy_statements(Grantee(SIGNER_ROLE), ES256)
        await bench.put_policy(arn, statements)
        report = await probe(bench, handle(arn), least_privilege=True)
        assert report.least_privilege is not None
        assert (report.sign.outcome, report.least_privilege.outcome) == (PASSED, PASSED)


async def test_across_accounts_the_signers_own_policy_is_named_too() -> None:
    async with emulator() as bench:
        foreign = KeyArn("arn:aws:kms:eu-central-1:444455556666:key/00000000-0000-4000-8000-000000000000")
        denied = (await probe(bench, handle(foreign))).get_public_key
    assert denied.reason is Reason.KeyAccessDenied
    assert f"the IAM policy of {SIGNER_ROLE} must allow it too" in denied.message


def role_key(arn: KeyArn) -> KeyHandle:
    return dataclasses.replace(handle(arn), role_arn=OWNERS_ROLE)


def put_role(bench: EmulatorBench, statements: list[Statement]) -> None:
    trust = parse_policy(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    bench.emulator.directory.put(Identity(OWNERS_ROLE, trust_policy=trust))
    bench.emulator.directory.put(Identity(SIGNER_ROLE, ("sts:AssumeRole", "sts:TagSession")))


async def test_a_role_that_cannot_be_assumed_wants_its_trust_policy_and_then_the_keys() -> None:
    async with emulator() as bench:
        key = role_key(await bench.create("ECC_NIST_P256"))
        put_role(bench, [{"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}])
        report = await probe(bench, key, algorithm=ES256, least_privilege=True)
        assert report.get_public_key.reason is Reason.KeyAccessDenied
        assert f"sts:AssumeRole on {OWNERS_ROLE}" in report.get_public_key.message
        assert report.least_privilege is not None
        assert report.least_privilege.outcome is UNKNOWN
        put_role(bench, pasted(report.get_public_key.missing_statement))
        report = await probe(bench, key, algorithm=ES256)
        assert f"kms:Sign on {key.arn}" in report.sign.message
        missing = pasted(report.get_public_key.missing_statement) + pasted(report.sign.missing_statement)
        await bench.put_policy(key.arn, missing)
        assert (await probe(bench, key)).sign.outcome is PASSED


async def test_a_role_is_assumed_for_one_key_only() -> None:
    async with emulator() as bench:
        mine, other = role_key(await bench.create("ECC_NIST_P256")), ObjectName("team", "audio")
        grantee = Grantee(OWNERS_ROLE, session_tags(INSTALLATION, NAME), assumed_by=SIGNER_ROLE)
        put_role(bench, trust_statements(grantee, mine.external_id))
        await bench.put_policy(mine.arn, key_policy_statements(grantee, ES256))
        answer = await bench.kms.sign(mine, ES256, message=b"claim", timeout=30)
        spki = (await bench.kms.get_public_key(mine, timeout=30)).spki
        signatures.verify(load_der_public_key(spki), ES256, answer.signature, message=b"claim")
        foreign = dataclasses.replace(mine, name=other, external_id="byok:test:team/audio")
        denied = (await probe(bench, foreign, algorithm=ES256)).sign
        assert (denied.outcome, denied.reason) == (FAILED, Reason.KeyAccessDenied)
        assert as_json(trust_statements(grantee, mine.external_id)) != denied.missing_statement
