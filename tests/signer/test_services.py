"""Every RPC of the real server, to the end: what is signed is verified with the public key."""

import hashlib
import json

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind, Outcome
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from tests.support.claims import created_claim
from tests.support.manifests import recipe_document
from tests.support.pki import Identity, identity
from tests.support.refusals import refusal_of
from tests.support.signer import Bench, certified_key

ES256, ED25519 = SigningAlgorithm.ES256, SigningAlgorithm.ED25519
CLAIM = created_claim().sig_structure
DIGEST = hashlib.sha256(CLAIM).digest()


def verify(who: Identity, answer: pb.SignClaimResponse, claim: bytes) -> None:
    """Check the signature, and for ECDSA that its DER form is the same one."""
    signatures.verify(who.public_key, who.algorithm, answer.signature, message=claim)
    if who.algorithm.facts.coordinate_size:
        assert signatures.p1363_from_der(answer.signature_der, who.algorithm) == answer.signature
    else:
        assert not answer.signature_der


def digest_request(bench: Bench, digest: bytes = DIGEST, evidence: bytes = b"") -> pb.SignDigestRequest:
    recipe_hash = bench.entry.recipe.hash
    return pb.SignDigestRequest(recipe="photo", expected_recipe_hash=recipe_hash, digest=digest, evidence=evidence)


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
async def test_a_claim_is_signed_with_every_algorithm(bench: Bench, algorithm: SigningAlgorithm) -> None:
    who, claim = identity(algorithm), created_claim(algorithm).sig_structure
    bench.use(who)
    answer = await bench.sign(bench.request(claim))
    verify(who, answer, claim)
    assert answer.algorithm == algorithm


async def test_an_answer_names_what_was_signed_with_what_and_where_it_is_recorded(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    answer = await bench.sign()
    (event,) = await bench.records(Kind.OUTCOME)
    assert (answer.key, answer.key_arn, answer.recipe_hash) == ("media/brand", str(stored.arn), bench.entry.recipe.hash)
    assert (answer.manifest_id, answer.claim_sha256) == (event.manifest, event.claim_sha256)
    assert [(a.kms_request_id, a.outcome) for a in event.attempts] == [(answer.kms_request_id, Outcome.SIGNED)]
    assert answer.audit_id.endswith("/2")


@pytest.mark.parametrize("algorithm", [a for a in SigningAlgorithm if a is not ED25519])
async def test_a_digest_is_signed_with_its_claim_as_evidence(bench: Bench, algorithm: SigningAlgorithm) -> None:
    who, claim = identity(algorithm), created_claim(algorithm).sig_structure
    bench.use(who)
    request = digest_request(bench, algorithm.digest(claim), claim)
    answer = await bench.signer.SignDigest(request, metadata=bench.metadata)
    verify(who, answer, claim)
    assert answer.manifest_id


async def test_a_bare_digest_is_signed_where_the_key_allows_it_and_recorded_as_unguarded(bench: Bench) -> None:
    bench.use(identity(ES256), bareDigests="Allow")
    answer = await bench.signer.SignDigest(digest_request(bench), metadata=bench.metadata)
    verify(identity(ES256), answer, CLAIM)
    (event,) = await bench.records(Kind.OUTCOME)
    assert (event.guarded, answer.manifest_id, answer.claim_sha256) == (False, "", "")


REFUSED_DIGESTS = {
    "bare, where the key denies it": (ES256, DIGEST, b"", {"bareDigests": "Deny"}, Reason.EvidenceMissing),
    "bare, where the key says nothing": (ES256, DIGEST, b"", {}, Reason.EvidenceMissing),
    "of something else": (ES256, bytes(32), CLAIM, {}, Reason.ClaimRefused),
    "too short": (ES256, DIGEST[:20], CLAIM, {}, Reason.DigestMismatch),
    "none": (ES256, b"", CLAIM, {}, Reason.DigestMismatch),
    "garbage for evidence": (ES256, DIGEST, b"garbage", {"bareDigests": "Allow"}, Reason.ClaimRefused),
    "bare for Ed25519": (ED25519, DIGEST, b"", {"bareDigests": "Allow"}, Reason.DigestMismatch),
    "Ed25519 with evidence": (ED25519, bytes(64), CLAIM, {}, Reason.DigestMismatch),
}


@pytest.mark.parametrize(
    ("algorithm", "digest", "evidence", "spec", "reason"), REFUSED_DIGESTS.values(), ids=REFUSED_DIGESTS
)
async def test_a_digest_that_may_not_be_signed_is_refused(  # noqa: PLR0913, PLR0917 - a table's row
    bench: Bench, algorithm: SigningAlgorithm, digest: bytes, evidence: bytes, spec: dict[str, str], reason: Reason
) -> None:
    bench.use(identity(algorithm), **spec)
    call = bench.signer.SignDigest(digest_request(bench, digest, evidence), metadata=bench.metadata)
    assert (await refusal_of(call)).reason is reason
    assert bench.kms.signed == 0


async def test_a_recipe_is_told_with_all_that_signing_under_it_takes(bench: Bench) -> None:
    stored = bench.store(identity(ES256))
    bench.apply(certified_key(identity(ES256), stored.arn), recipe_document(mediaType="image"))
    recipe = await bench.signer.GetRecipe(pb.GetRecipeRequest(recipe="photo@1"), metadata=bench.metadata)
    assert hashlib.sha256(recipe.effective_json).hexdigest() == recipe.effective_hash == bench.entry.recipe.hash
    assert json.loads(recipe.effective_json)["mediaType"] == recipe.media_type == "image"
    assert tuple(recipe.x5chain) == identity(ES256).chain.ders
    assert (recipe.namespace, recipe.name, recipe.version, recipe.algorithm) == ("media", "photo", 1, "ES256")
    assert recipe.certificate_not_after.ToDatetime() == identity(ES256).chain.not_after.replace(tzinfo=None)


async def test_the_reserved_size_holds_the_chain_and_a_time_stamp(bench: Bench) -> None:
    stored = bench.store(identity(ES256))
    bench.apply(certified_key(identity(ES256), stored.arn), recipe_document(timestamp={"url": "http://tsa.example"}))
    recipe = await bench.signer.GetRecipe(pb.GetRecipeRequest(recipe="photo"), metadata=bench.metadata)
    assert recipe.timestamp_url == "http://tsa.example"
    assert recipe.reserve_size > sum(map(len, recipe.x5chain)) + 10_000


async def test_the_public_key_is_the_certificates(bench: Bench) -> None:
    answer = await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    assert answer.public_key == signatures.spki_of(identity(ES256).public_key)
    assert answer.spki_sha256 == hashlib.sha256(answer.public_key).hexdigest()
    assert tuple(answer.x5chain) == identity(ES256).chain.ders
    assert (answer.key, answer.algorithm) == ("media/brand", "ES256")


GOOD = identity(ES256).sign(CLAIM)
VERDICTS = {
    "claim": ({"claim": CLAIM, "signature": GOOD}, True),
    "digest": ({"digest": DIGEST, "signature": GOOD}, True),
    "another claim": ({"claim": CLAIM + b"x", "signature": GOOD}, False),
    "another digest": ({"digest": bytes(32), "signature": GOOD}, False),
    "another signature": ({"claim": CLAIM, "signature": GOOD[::-1]}, False),
    "no signature": ({"claim": CLAIM}, False),
    "a signature of zeros": ({"digest": DIGEST, "signature": bytes(64)}, False),
    "a long signature": ({"digest": DIGEST, "signature": bytes(100_000)}, False),
    "no claim": ({"claim": b"", "signature": GOOD}, False),
}


@pytest.mark.parametrize(("fields", "valid"), VERDICTS.values(), ids=VERDICTS)
async def test_a_signature_is_judged_by_the_recipes_key_without_kms(
    bench: Bench,
    fields: dict[str, bytes],
    valid: bool,  # noqa: FBT001 - a table's row
) -> None:
    request = pb.VerifyRequest(recipe="photo", **fields)
    answer = await bench.signer.Verify(request, metadata=bench.metadata)
    assert (answer.valid, answer.key, answer.algorithm) == (valid, "media/brand", "ES256")
    assert (bench.kms.signed, bench.kms.looks) == (0, 0)


UNVERIFIABLE = {
    "nothing": (ES256, {}, "neither claim nor digest"),
    "a short digest": (ES256, {"digest": b"short"}, "has 5 bytes, ES256 takes 32"),
    "an Ed25519 digest": (ED25519, {"digest": DIGEST}, "signs the message itself"),
}


@pytest.mark.parametrize(("algorithm", "fields", "said"), UNVERIFIABLE.values(), ids=UNVERIFIABLE)
async def test_what_cannot_be_verified_is_refused_and_recorded(
    bench: Bench, algorithm: SigningAlgorithm, fields: dict[str, bytes], said: str
) -> None:
    bench.use(identity(algorithm))
    told = await refusal_of(bench.signer.Verify(pb.VerifyRequest(recipe="photo", **fields), metadata=bench.metadata))
    assert (told.reason, said in told.message) == (Reason.InvalidRequest, True)
    assert [event.reason for event in await bench.records(Kind.REFUSAL)] == ["InvalidRequest"]


@pytest.mark.parametrize("service", ["", "byok.signer.v1.Signer", "byok.signer.v1.KeyProbe"])
async def test_health_is_told_without_a_token(bench: Bench, service: str) -> None:
    check = bench.raw_unary("/grpc.health.v1.Health/Check")
    answer = await check(health_pb2.HealthCheckRequest(service=service).SerializeToString())
    status = health_pb2.HealthCheckResponse.FromString(answer).status
    assert status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_describes_the_signer(bench: Bench) -> None:
    request = ServerReflectionRequest(file_containing_symbol="byok.signer.v1.Signer").SerializeToString()
    reflect = bench.raw_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    (answer,) = [ServerReflectionResponse.FromString(data) async for data in reflect(iter([request]))]
    files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    assert {"Signer", "KeyProbe"} <= {service.name for file in files for service in file.service}
