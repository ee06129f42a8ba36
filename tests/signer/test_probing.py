"""KeyProbe.ProbeKey over the real door: what a key's owner is told."""

import json
import socket
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind
from byok_api.errors import Reason
from byok_api.signatures import spki_of
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.ca import pem_of
from byok_sandbox.software_kms import SIGNER
from byok_signer.entries import Refused
from byok_signer.kms.errors import KmsError
from tests.support.manifests import key_document
from tests.support.pki import Leaf, certified, extensions, identity, new_key
from tests.support.refusals import refusal_of
from tests.support.signer import JOB, Bench, certified_key

ES256 = SigningAlgorithm.ES256
PASSED, FAILED, UNKNOWN = pb.ProbeResult.PASSED, pb.ProbeResult.FAILED, pb.ProbeResult.UNKNOWN


async def probe(
    bench: Bench, name: str = "brand", *, namespace: str = "media", generation: int = 0, least_privilege: bool = False
) -> pb.ProbeKeyResponse:
    request = pb.ProbeKeyRequest(namespace=namespace, name=name, generation=generation, least_privilege=least_privilege)
    return await bench.probe.ProbeKey(request, metadata=bench.metadata)


async def test_a_good_key_passes_and_nothing_is_signed(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    answer = await probe(bench)
    checks = (answer.get_public_key, answer.sign, answer.certificate)
    assert [(check.outcome, check.reason, check.missing_statement) for check in checks] == [(PASSED, "", "")] * 3
    assert (answer.key_arn, answer.key_spec, answer.algorithm) == (stored.arn.text, "ECC_NIST_P256", "ES256")
    assert answer.public_key == spki_of(identity(ES256).public_key)
    assert (answer.external_id, answer.HasField("least_privilege")) == ("byok:test:media/brand", False)
    assert bench.kms.signed == 0


@pytest.mark.parametrize(
    ("granted", "check", "action"),
    [(set(), "get_public_key", "kms:GetPublicKey"), ({"GetPublicKey"}, "sign", "kms:Sign")],
    ids=["GetPublicKey", "Sign"],
)
async def test_a_denial_comes_with_the_statement_that_is_missing(
    bench: Bench, granted: set[str], check: str, action: str
) -> None:
    bench.use(identity(ES256)).granted = frozenset(granted)
    found: pb.ProbeResult = getattr(await probe(bench), check)
    assert (found.outcome, found.reason) == (FAILED, "KeyAccessDenied")
    statement = json.loads(found.missing_statement)
    statement = statement[0] if isinstance(statement, list) else statement
    assert (statement["Effect"], statement["Principal"]["AWS"]) == ("Allow", SIGNER)
    assert action in statement["Action"]


async def test_what_kms_cannot_be_asked_is_unknown(bench: Bench) -> None:
    bench.kms.look_failure = KmsError(Reason.KmsThrottled, "slow down")
    answer = await probe(bench)
    assert (answer.get_public_key.outcome, answer.get_public_key.reason) == (UNKNOWN, "KmsThrottled")
    assert answer.certificate.outcome == UNKNOWN


async def test_an_owner_is_not_told_to_wait_longer_for_kms(bench: Bench) -> None:
    late = Reason.KmsDeadlineExceeded
    bench.kms.look_failure = KmsError(late, f"{late.facts.cause} {late.facts.remedy}")
    found = (await probe(bench)).get_public_key
    assert (found.outcome, found.reason) == (UNKNOWN, late.name)
    assert found.message.endswith("KMS did not answer in time")


@pytest.mark.parametrize(
    ("more", "outcome", "reason"), [((), PASSED, ""), (("CreateGrant",), FAILED, "PermissionsTooBroad")]
)
async def test_least_privilege_is_proven_on_request(
    bench: Bench, more: tuple[str, ...], outcome: "pb.ProbeResult.Outcome.ValueType", reason: str
) -> None:
    bench.use(identity(ES256)).granted = frozenset({"Sign", "GetPublicKey", *more})
    found = (await probe(bench, least_privilege=True)).least_privilege
    assert (found.outcome, found.reason) == (outcome, reason)


async def test_another_key_than_the_certificates_is_a_mismatch(bench: Bench) -> None:
    other = bench.store(certified(new_key(ES256), ES256))
    bench.apply(certified_key(identity(ES256), other.arn))
    answer = await probe(bench)
    assert (answer.certificate.outcome, answer.certificate.reason) == (FAILED, "CertificateMismatch")
    assert answer.sign.outcome == PASSED


async def test_a_key_without_a_certificate_can_be_probed(bench: Bench) -> None:
    stored = bench.store(identity(ES256))
    bench.apply(key_document(aws={"keyArn": stored.arn.text}, certificate=None))
    answer = await probe(bench)
    assert (answer.certificate.outcome, answer.certificate.reason) == (FAILED, "CertificateMissing")
    assert (answer.sign.outcome, answer.algorithm) == (PASSED, "ES256")


@pytest.mark.parametrize("certificate", [{"pem": identity(ES256).chain_pem}, None], ids=["with", "without"])
async def test_an_endpoint_that_the_installation_does_not_allow_stands_against_the_spec(
    bench: Bench, certificate: dict[str, str] | None
) -> None:
    arn = bench.store(identity(ES256)).arn.text
    bench.apply(key_document(aws={"keyArn": arn, "endpoint": "https://example.com"}, certificate=certificate))
    bench.kms.look_failure = KmsError(Reason.KeyInvalid, "endpoint https://example.com is not one that is allowed")
    standing = (await probe(bench)).standing
    assert (standing.outcome, standing.reason) == (FAILED, "KeyInvalid")
    assert "endpoint" in standing.message


@pytest.mark.parametrize("state", ["Active", "Deactivated"])
async def test_a_chain_that_breaks_the_profile_is_told_whatever_the_keys_state(bench: Bench, state: str) -> None:
    private_key = identity(ES256).private_key
    assert isinstance(private_key, EllipticCurvePrivateKey)
    bad = Leaf(extensions=extensions(without=type(extensions()[1][0])), public_key=private_key.public_key()).chain()
    stored = bench.store(identity(ES256))
    bench.apply(
        key_document(aws={"keyArn": stored.arn.text}, certificate={"pem": pem_of(bad.certificates)}, state=state)
    )
    answer = await probe(bench)
    assert (answer.certificate.outcome, answer.certificate.reason) == (FAILED, "CertificateInvalid")


async def test_a_certificate_that_has_expired_fails(bench: Bench) -> None:
    bench.clock.offset = timedelta(days=1000)
    bench.token = bench.issuer.mint(JOB, now=bench.clock.now())
    answer = await probe(bench)
    assert (answer.certificate.outcome, answer.certificate.reason) == (FAILED, "CertificateExpired")


async def test_a_generation_that_has_not_arrived_is_worth_waiting_for(bench: Bench) -> None:
    document = certified_key(identity(ES256), bench.store(identity(ES256)).arn)
    document["metadata"]["generation"] = 3
    bench.apply(document)
    told = await refusal_of(probe(bench, generation=4))
    assert (told.reason, told.retry_after) == (Reason.GenerationNotSeen, 0.1)
    assert [(await probe(bench, generation=seen)).generation for seen in (0, 2, 3)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("namespace", "name", "reason"),
    [
        ("media", "nothing", Reason.ProbeNotAllowed),
        ("vault", "brand", Reason.ProbeNotAllowed),
        ("media", "", Reason.InvalidRequest),
        ("a/b", "c", Reason.InvalidRequest),
        ("media", "x" * 100_000, Reason.InvalidRequest),
    ],
    ids=["unknown", "foreign", "no name", "no such form", "long"],
)
async def test_a_refused_probe_is_recorded(bench: Bench, namespace: str, name: str, reason: Reason) -> None:
    assert (await refusal_of(probe(bench, name, namespace=namespace))).reason is reason
    (event,) = await bench.records(Kind.REFUSAL)
    assert (event.reason, (event.key or "")[:400]) == (reason.name, f"{namespace}/{name}"[:400])


async def test_a_probe_takes_a_token_before_anything_else(bench: Bench) -> None:
    bench.token = ""
    assert (await refusal_of(probe(bench, name="", namespace=""))).reason is Reason.TokenMissing


async def test_facts_that_are_not_granted_are_left_out_and_not_asked_for_again_at_once(bench: Bench) -> None:
    answer = await probe(bench)
    assert (answer.key_state, answer.origin, answer.HasField("multi_region")) == ("", "", False)
    stored = bench.kms.keys.find(bench.entry.key.handle.arn)
    stored.granted |= {"DescribeKey"}
    assert (await probe(bench)).key_state == ""
    bench.clock.offset = timedelta(seconds=3601)
    bench.call_as(JOB)
    answer = await probe(bench)
    assert (answer.key_state, answer.origin, answer.multi_region) == ("Enabled", "AWS_KMS", False)


async def test_a_disabled_keys_state_is_told_though_its_public_key_is_not(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    stored.granted |= {"DescribeKey"}
    stored.state = "Disabled"
    answer = await probe(bench)
    assert (answer.get_public_key.reason, answer.key_state) == ("KeyDisabled", "Disabled")


@pytest.mark.parametrize(
    ("spec", "outcome", "reason"),
    [({}, PASSED, ""), ({"state": "Deactivated"}, FAILED, "KeyDeactivated")],
    ids=["active", "deactivated"],
)
async def test_the_signers_own_rules_are_told_apart_from_kms(
    bench: Bench, spec: dict[str, str], outcome: "pb.ProbeResult.Outcome.ValueType", reason: str
) -> None:
    bench.use(identity(ES256), **spec)
    answer = await probe(bench)
    assert (answer.standing.outcome, answer.standing.reason, answer.sign.outcome) == (outcome, reason, PASSED)
    assert answer.replica == socket.gethostname()


async def test_kms_is_not_asked_about_a_key_that_the_rules_do_not_let_this_object_name(bench: Bench) -> None:
    bench.use(identity(ES256))
    denied = Refused(bench.entry.key.name, Reason.KeyOwnershipDenied, "key media/brand names another's key")
    entry = replace(bench.entry.key, problem=denied, acceptance_problem=denied)
    bench.catalogue = replace(bench.catalogue, keys={entry.name: entry})
    answer = await probe(bench, least_privilege=True)
    assert (answer.standing.outcome, answer.standing.reason) == (FAILED, "KeyOwnershipDenied")
    assert {answer.get_public_key.outcome, answer.sign.outcome, answer.certificate.outcome} == {UNKNOWN}
    assert (answer.public_key, answer.key_arn, answer.HasField("least_privilege")) == (b"", "", False)
    assert bench.kms.looks == 0


async def test_an_object_of_the_same_name_that_is_another_one_is_worth_waiting_for(bench: Bench) -> None:
    bench.use(identity(ES256))
    request = pb.ProbeKeyRequest(namespace="media", name="brand", generation=1, uid="of another")
    key = bench.entry.key
    metadata = key.manifest.metadata.model_copy(update={"uid": "of this", "generation": 1})
    manifest = key.manifest.model_copy(update={"metadata": metadata})
    entry = replace(key, standing=replace(key.standing, key=manifest))
    bench.catalogue = replace(bench.catalogue, keys={key.name: entry})
    told = await refusal_of(bench.probe.ProbeKey(request, metadata=bench.metadata))
    assert (told.reason, told.retry_after) == (Reason.GenerationNotSeen, 0.1)
    request.uid = "of this"
    assert (await bench.probe.ProbeKey(request, metadata=bench.metadata)).sign.outcome == PASSED


async def test_a_key_that_has_not_arrived_is_worth_waiting_for_if_its_generation_is_known(bench: Bench) -> None:
    told = await refusal_of(probe(bench, "tomorrow", generation=1))
    assert (told.reason, told.retry_after) == (Reason.GenerationNotSeen, 0.1)
    assert await bench.records(Kind.REFUSAL) == []
    assert (
        await refusal_of(probe(bench, "tomorrow", namespace="vault", generation=1))
    ).reason is Reason.ProbeNotAllowed


async def test_a_key_that_cannot_be_read_is_asked_about_again_if_its_generation_is_known(bench: Bench) -> None:
    name = bench.entry.key.name
    bad = Refused(name, Reason.KeyInvalid, "key media/brand is no ByokKey")
    bench.catalogue = replace(bench.catalogue, keys={name: bad})
    delays = [(await refusal_of(probe(bench, generation=generation))).retry_after for generation in (0, 1)]
    assert delays == [None, 0.1]
