"""Health and certificate requests of a whole signer on the emulated KMS, by KMS's own log."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509

from byok_api.audit import Kind
from byok_api.errors import Reason
from byok_api.signatures import spki_sha256
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_signer.breaker import TRIAL_SECONDS
from tests.support.emulator import Aws, running_emulator
from tests.support.faults import FaultBench, fault_bench, unaccounted
from tests.support.refusals import refusal_of
from tests.support.replicas import Watcher

PASSED, FAILED = pb.ProbeResult.PASSED, pb.ProbeResult.FAILED


@pytest.fixture
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


@pytest.fixture
async def bench(aws: Aws, tmp_path: Path) -> AsyncIterator[FaultBench]:
    async with fault_bench(tmp_path, aws, ["brand"]) as running:
        yield running


async def sign(bench: FaultBench) -> pb.SignClaimResponse:
    metadata = bench.metadata()
    recipe = await bench.signer.GetRecipe(pb.GetRecipeRequest(recipe="brand"), metadata=metadata)
    request = pb.SignClaimRequest(recipe="brand", expected_recipe_hash=recipe.effective_hash, claim=bench.key.claim())
    return await bench.signer.SignClaim(request, metadata=metadata)


async def signs_again(bench: FaultBench) -> None:
    """Call until a call is let through, as a job does."""
    async with asyncio.timeout(60):
        while True:
            try:
                await sign(bench)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - each try may end either way
                await asyncio.sleep(0.1)
            else:
                return


async def test_a_grant_revoked_and_returned_on_kms_is_seen_soon_after_the_call_that_met_it(
    bench: FaultBench, aws: Aws
) -> None:
    kms, key = aws.kms(), bench.key.arn
    granted = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    policy = json.loads(granted)
    policy["Statement"] = policy["Statement"][:1]
    watcher = Watcher(bench.probe, bench.metadata())
    await sign(bench)
    await watcher.until(PASSED)
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
    assert (await refusal_of(sign(bench))).reason is Reason.KeyAccessDenied
    refused_at = time.monotonic()
    async with asyncio.timeout(10):
        assert (await watcher.until(FAILED)).reason == "KeyAccessDenied"
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=granted)
    await signs_again(bench)
    assert time.monotonic() - refused_at < TRIAL_SECONDS + 5
    async with asyncio.timeout(10):
        assert (await watcher.until(PASSED)).reason == ""


async def test_every_signature_in_kms_log_is_accounted_for_those_of_certificate_requests_too(bench: FaultBench) -> None:
    stub: rpc.CertificationAsyncStub = rpc.CertificationStub(bench.channel)
    subject = pb.CertificateSubject(common_name="Media signing", organization="Example Media")
    request = pb.CreateCertificateRequestRequest(namespace="media", name="brand", subject=subject)
    answer = await stub.CreateCertificateRequest(request, metadata=bench.metadata())
    csr = x509.load_der_x509_csr(answer.request)
    assert csr.is_signature_valid
    assert spki_sha256(csr.public_key()) == answer.spki_sha256 == bench.key.chain.spki_sha256
    await sign(bench)
    events = bench.trail.events()
    assert [event.kind for event in events] == [Kind.INTENT, Kind.CERTIFY, Kind.INTENT, Kind.OUTCOME]
    assert (bench.trail.is_intact(), unaccounted(bench.signatures(), events)) == (True, 0)
    assert answer.kms_request_id in bench.signatures()


async def test_a_whole_signer_serves_certification_and_says_so(bench: FaultBench) -> None:
    stub: rpc.CertificationAsyncStub = rpc.CertificationStub(bench.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateCertificateRequest(pb.CreateCertificateRequestRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
