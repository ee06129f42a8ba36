"""Certification.CreateCertificateRequest over the real door: who may, for which keys, and what comes out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind, Outcome
from byok_api.errors import Reason
from byok_api.references import KeyArn
from byok_api.signatures import spki_of, spki_sha256_of_der
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox.issuer import ServiceAccount
from byok_sandbox.software_kms import StoredKey
from byok_signer.entries import ReservedKey
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import SignAnswer
from tests.support.manifests import key_document
from tests.support.pki import identity
from tests.support.refusals import refusal_of
from tests.support.replicas import replica_of, watch
from tests.support.signer import Bench, certified_key, until

ES256 = SigningAlgorithm.ES256
SPECS = {
    SigningAlgorithm.ES256: "ECC_NIST_P256",
    SigningAlgorithm.ES384: "ECC_NIST_P384",
    SigningAlgorithm.ES512: "ECC_NIST_P521",
    SigningAlgorithm.PS256: "RSA_2048",
    SigningAlgorithm.PS384: "RSA_2048",
    SigningAlgorithm.PS512: "RSA_2048",
    SigningAlgorithm.ED25519: "ECC_NIST_EDWARDS25519",
}
SUBJECT = pb.CertificateSubject(common_name="Media signing", organization="Example Media", country="DE")


@pytest.fixture
async def signer(bench: Bench) -> AsyncIterator[Bench]:
    async with replica_of(bench) as running:
        yield running


def uncertified(bench: Bench, spec: str = "ECC_NIST_P256", **more: Any) -> StoredKey:  # noqa: ANN401 - parts of a spec
    """Have the only ByokKey be one without certificate."""
    stored = bench.kms.keys.create(spec)
    bench.apply(key_document(aws={"keyArn": stored.arn.text}, certificate=None, **more))
    return stored


async def request(bench: Bench, name: str = "media/brand", **fields: Any) -> pb.CreateCertificateRequestResponse:  # noqa: ANN401 - of the request
    namespace, _, own = name.partition("/")
    stub: rpc.CertificationAsyncStub = rpc.CertificationStub(bench.channel)
    asked = pb.CreateCertificateRequestRequest(**{"namespace": namespace, "name": own, "subject": SUBJECT, **fields})
    return await stub.CreateCertificateRequest(asked, metadata=bench.metadata)


def parsed(answer: pb.CreateCertificateRequestResponse) -> x509.CertificateSigningRequest:
    return x509.load_der_x509_csr(answer.request)


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
async def test_a_key_without_certificate_gets_a_request_that_verifies_with_every_algorithm(
    signer: Bench, algorithm: SigningAlgorithm
) -> None:
    stored = uncertified(signer, SPECS[algorithm], signingAlgorithm=str(algorithm))
    answer = await request(signer)
    csr = parsed(answer)
    assert csr.is_signature_valid
    assert spki_of(csr.public_key()) == stored.material.spki
    assert (answer.algorithm, answer.key_arn) == (algorithm, stored.arn.text)
    assert answer.spki_sha256 == spki_sha256_of_der(stored.material.spki)


async def test_the_request_says_what_was_asked_for_and_nothing_else(signer: Bench) -> None:
    uncertified(signer)
    names: dict[str, Any] = {
        "dns_names": ["media.example"],
        "email_addresses": ["press@media.example"],
        "uris": ["urn:media:1"],
    }
    csr = parsed(await request(signer, **names))
    assert csr.subject.rfc4514_string() == "CN=Media signing,O=Example Media,C=DE"
    (extension,) = csr.extensions
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert [name.value for name in extension.value] == ["media.example", "press@media.example", "urn:media:1"]
    assert parsed(await request(signer)).subject.get_attributes_for_oid(NameOID.LOCALITY_NAME) == []


async def test_the_request_is_announced_then_recorded_as_certified(signer: Bench) -> None:
    stored = uncertified(signer)
    answer = await request(signer)
    (intent,), (done,) = await signer.records(Kind.INTENT), await signer.records(Kind.CERTIFY)
    assert done == replace(
        intent, kind=Kind.CERTIFY, outcome=Outcome.SIGNED, attempts=done.attempts, intent=done.intent
    )
    assert (done.key, done.key_arn, done.algorithm, done.recipe) == ("media/brand", stored.arn.text, "ES256", None)
    assert [attempt.kms_request_id for attempt in done.attempts] == [answer.kms_request_id]
    assert answer.audit_id.endswith("/2")


async def test_a_certified_key_can_be_certified_again_and_that_counts_as_a_verified_signature(signer: Bench) -> None:
    signer.use(identity(ES256))
    watcher = watch(signer)
    assert parsed(await request(signer)).is_signature_valid
    assert (await watcher.until(pb.ProbeResult.PASSED)).HasField("last_verified")


async def test_an_alias_is_resolved(signer: Bench) -> None:
    stored = signer.kms.keys.create("ECC_NIST_P256")
    alias = signer.kms.keys.point("media", stored)
    signer.apply(key_document(aws={"keyArn": alias.text}, certificate=None))
    assert (await request(signer)).key_arn == stored.arn.text


@pytest.mark.parametrize("name", ["media/nothing", "vault/brand"])
async def test_keys_that_are_unknown_or_of_others_are_refused_alike(signer: Bench, name: str) -> None:
    uncertified(signer)
    told = await refusal_of(request(signer, name))
    assert told.reason is Reason.CertifyNotAllowed
    assert told.message == f"key {name}: there is no such key, or {JOB} may not request certificates for it"
    (record,) = await signer.records(Kind.REFUSAL)
    assert (record.reason, record.key) == ("CertifyNotAllowed", name)


JOB = ServiceAccount("media", "job").username

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no subject": ({"subject": pb.CertificateSubject()}, "subject.organization"),
    "no name": ({"subject": pb.CertificateSubject(organization="O")}, "subject.common_name"),
    "long": ({"subject": pb.CertificateSubject(organization="O", common_name="n" * 65)}, "subject.common_name"),
    "long in bytes": (
        {"subject": pb.CertificateSubject(organization="O", common_name="株式会社" * 6)},
        "subject.common_name",
    ),
    "control": ({"subject": pb.CertificateSubject(organization="O\n", common_name="n")}, "subject.organization"),
    "space": ({"subject": pb.CertificateSubject(organization=" O", common_name="n")}, "subject.organization"),
    "country": ({"subject": pb.CertificateSubject(organization="O", common_name="n", country="de")}, "country"),
    "long country": ({"subject": pb.CertificateSubject(organization="O", common_name="n", country="DEU")}, "country"),
    "wildcard": ({"dns_names": ["*.example"]}, "dns_names"),
    "dns": ({"dns_names": ["a b"]}, "dns_names"),
    "long dns": ({"dns_names": [".".join(["a" * 63] * 4)]}, "dns_names"),
    "idn": ({"dns_names": ["bücher.example"]}, "dns_names"),
    "email": ({"email_addresses": ["nobody"]}, "email_addresses"),
    "email with name": ({"email_addresses": ["A <a@b.example>"]}, "email_addresses"),
    "relative": ({"uris": ["/path"]}, "uris"),
    "uri with space": ({"uris": ["urn:a b"]}, "uris"),
    "long uri": ({"uris": ["urn:" + "a" * 1024]}, "uris"),
    "too many": ({"dns_names": ["a.example"] * 20, "uris": ["urn:a"] * 13}, "33 names; at most 32"),
    "key": ({"name": ""}, "namespace and name"),
    "key form": ({"namespace": "a/b"}, "namespace and name"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_field_that_breaks_its_rule_is_named(signer: Bench, bad: str) -> None:
    uncertified(signer)
    fields, named = BAD[bad]
    told = await refusal_of(request(signer, **fields))
    assert (told.reason, named in told.message) == (Reason.InvalidRequest, True)
    assert signer.kms.signed == 0


async def test_more_names_than_ed25519_signs_are_refused_before_kms_is_asked(signer: Bench) -> None:
    uncertified(signer, "ECC_NIST_EDWARDS25519")
    told = await refusal_of(request(signer, uris=[f"urn:{number}:" + "a" * 900 for number in range(5)]))
    assert (told.reason, "signs at most 4096" in told.message) == (Reason.InvalidRequest, True)
    assert await signer.records(Kind.INTENT) == []


def deactivated(signer: Bench) -> None:
    uncertified(signer, state="Deactivated")


def denied(signer: Bench) -> None:
    uncertified(signer).granted = frozenset()


def not_granted_to_sign(signer: Bench) -> None:
    uncertified(signer).granted = frozenset({"GetPublicKey"})


def another_spec(signer: Bench) -> None:
    uncertified(signer, "RSA_2048", signingAlgorithm="ES256")


def forbidden_spec(signer: Bench) -> None:
    uncertified(signer, "ECC_SECG_P256K1")


def claimed_by_arn(signer: Bench) -> None:
    stored = signer.kms.keys.create("ECC_NIST_P256")
    aws = {"keyArn": stored.arn.text}
    signer.apply(key_document(aws=aws, certificate=None), key_document("vault/brand", aws=aws, certificate=None))


def claimed_behind_an_alias(signer: Bench) -> None:
    stored = signer.store(identity(ES256))
    alias = signer.kms.keys.point("stolen", stored)
    theirs = certified_key(identity(ES256), stored.arn)
    theirs["metadata"] = {"namespace": "vault", "name": "brand", "creationTimestamp": "2025-01-01T00:00:00Z"}
    mine = key_document(aws={"keyArn": alias.text}, certificate=None)
    mine["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    signer.apply(mine, theirs)


def named_by_an_older_key_behind_an_alias(signer: Bench) -> None:
    stored = signer.kms.keys.create("ECC_NIST_P256")
    alias = signer.kms.keys.point("guessed", stored)
    theirs = key_document("vault/brand", aws={"keyArn": stored.arn.text}, certificate=None)
    mine = key_document(aws={"keyArn": alias.text}, certificate=None)
    theirs["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    mine["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    signer.apply(mine, theirs)


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (deactivated, Reason.KeyDeactivated),
        (denied, Reason.KeyAccessDenied),
        (not_granted_to_sign, Reason.KeyAccessDenied),
        (another_spec, Reason.KeyUsageInvalid),
        (forbidden_spec, Reason.KeyUsageInvalid),
        (claimed_by_arn, Reason.KeyClaimedElsewhere),
        (claimed_behind_an_alias, Reason.KeyClaimedElsewhere),
        (named_by_an_older_key_behind_an_alias, Reason.KeyClaimedElsewhere),
    ],
)
async def test_what_stands_against_a_key_is_named(
    signer: Bench, arrange: Callable[[Bench], None], reason: Reason
) -> None:
    arrange(signer)
    assert (await refusal_of(request(signer))).reason is reason
    assert signer.kms.signed == 0
    # Only KMS's own word on Sign comes after the intent.
    assert bool(await signer.records(Kind.INTENT)) is (arrange is not_granted_to_sign)


async def test_the_older_claim_is_certified(signer: Bench) -> None:
    claimed_behind_an_alias(signer)
    signer.call_as(ServiceAccount("vault", "owner"))
    assert parsed(await request(signer, "vault/brand")).is_signature_valid


async def test_the_checkpoint_key_is_not_certified_behind_an_alias_either(bench: Bench) -> None:
    stored = bench.kms.keys.create("ECC_NIST_P256")
    alias = bench.kms.keys.point("sly", stored)
    reserved = ReservedKey(frozenset({stored.arn}), None)
    async with replica_of(bench, checkpoint_key=reserved) as signer:
        signer.apply(key_document(aws={"keyArn": alias.text}, certificate=None))
        told = await refusal_of(request(signer))
    assert (told.reason, "checkpoints" in told.message) == (Reason.KeyInvalid, True)


FORGED: dict[str, Callable[[SignAnswer], SignAnswer]] = {
    "another signature": lambda answer: replace(answer, signature=b"\x01" * 64),
    "another key": lambda answer: replace(answer, key_arn=KeyArn(answer.key_arn.text[:-1] + "z")),
    "DER of another": lambda answer: replace(answer, signature_der=answer.signature_der[:-1] + b"\x00"),
}


@pytest.mark.parametrize("how", FORGED)
async def test_nothing_leaves_that_does_not_verify(signer: Bench, how: str) -> None:
    uncertified(signer)
    signer.kms.forge = FORGED[how]
    assert (await refusal_of(request(signer))).reason is Reason.KmsAnswerInvalid
    (record,) = await signer.records(Kind.CERTIFY)
    assert (record.outcome, record.reason) == (Outcome.FAILED, "KmsAnswerInvalid")
    assert [attempt.outcome for attempt in record.attempts] == [Outcome.SIGNED]


async def test_a_key_that_kms_denies_is_asked_for_once_in_ten_seconds(signer: Bench) -> None:
    not_granted_to_sign(signer)
    for _ in range(3):
        assert (await refusal_of(request(signer))).reason is Reason.KeyAccessDenied
    assert len(await signer.records(Kind.CERTIFY)) == 1


@pytest.mark.parametrize("change", [deactivated, another_spec, lambda signer: signer.apply()])
async def test_what_is_withdrawn_while_its_intent_is_written_is_not_signed(
    signer: Bench, change: Callable[[Bench], None]
) -> None:
    uncertified(signer)
    signer.audit.gate.clear()
    answer = asyncio.ensure_future(refusal_of(request(signer)))
    await until(lambda: signer.audit.held == 1)
    change(signer)
    signer.audit.gate.set()
    await answer
    (record,) = await signer.records(Kind.CERTIFY)
    assert (record.outcome, record.attempts, signer.kms.signed) == (Outcome.FAILED, (), 0)


async def test_who_goes_away_leaves_a_whole_trail(signer: Bench) -> None:
    uncertified(signer)
    signer.kms.gate.clear()
    stub: rpc.CertificationAsyncStub = rpc.CertificationStub(signer.channel)
    asked = pb.CreateCertificateRequestRequest(namespace="media", name="brand", subject=SUBJECT)
    call = stub.CreateCertificateRequest(asked, metadata=signer.metadata)
    await until(lambda: signer.kms.signed == 1)
    call.cancel()
    await signer.edge.idle()
    signer.kms.gate.set()
    await signer.services.certification.drain()
    (record,) = await signer.records(Kind.CERTIFY)
    assert record.outcome is Outcome.SIGNED


async def test_what_kms_did_not_answer_is_recorded_as_unknown(signer: Bench) -> None:
    uncertified(signer)
    signer.kms.failure = ZeroDivisionError("a bug")
    assert (await refusal_of(request(signer))).reason is Reason.Internal
    (record,) = await signer.records(Kind.CERTIFY)
    assert record.outcome is Outcome.UNKNOWN


async def test_a_throttled_request_is_worth_another_try(signer: Bench) -> None:
    uncertified(signer)
    signer.kms.failure = KmsError(Reason.KmsThrottled, "slow down", retry_after=0.5)
    told = await refusal_of(request(signer))
    assert (told.reason, told.retry_after) == (Reason.KmsThrottled, 0.5)


@pytest.mark.parametrize("token", ["", "garbage"])
async def test_who_has_no_good_token_certifies_nothing(signer: Bench, token: str) -> None:
    signer.token = token
    assert (await refusal_of(request(signer))).reason in (Reason.TokenMissing, Reason.TokenInvalid)


async def test_the_public_key_in_the_request_is_the_one_of_kms(signer: Bench) -> None:
    stored = uncertified(signer)
    csr = parsed(await request(signer))
    assert csr.public_key() == load_der_public_key(stored.material.spki)
    assert csr.public_bytes(Encoding.PEM).startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
