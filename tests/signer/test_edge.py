"""What comes in at the gRPC door, however bad, and what goes out of it."""

import logging
import random
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind
from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.edge import REQUEST_ID_KEY
from byok_signer.rpc_status import status_of
from tests.support.claims import created_claim
from tests.support.pki import identity
from tests.support.refusals import refusal_of, told_by
from tests.support.signer import Bench, until

ES256 = SigningAlgorithm.ES256
LIMIT = 5 * 1024 * 1024
SIGNER = "/byok.signer.v1.Signer/"
UNARY = [
    *(SIGNER + name for name in ("GetRecipe", "SignClaim", "SignDigest", "Verify", "GetPublicKey")),
    "/byok.signer.v1.KeyProbe/ProbeKey",
    "/grpc.health.v1.Health/Check",
]
STREAMS = [SIGNER + "SignClaims", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]
# A field of wire type 2 whose length lies beyond the message; a lone end of a group; text that is no UTF-8.
NO_PROTOBUF = [b"\xff", b"\x0a\xff", b"\x0c", b"\x0a\x02\xff\xfe", b"\x0a" + bytes([0xFF] * 20)]


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever comes in: nothing goes unhandled."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def serves(bench: Bench) -> None:
    answer = await bench.sign()
    signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=created_claim().sig_structure)


async def status_after(bench: Bench, method: str, data: bytes) -> grpc.StatusCode:
    try:
        await bench.raw_unary(method)(data, metadata=bench.metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("method", UNARY)
async def test_what_is_no_protobuf_is_refused_by_name(bench: Bench, method: str) -> None:
    for data in NO_PROTOBUF:
        told = await refusal_of(bench.raw_unary(method)(data, metadata=bench.metadata))
        assert (told.reason, method.rpartition("/")[2] in told.message) == (Reason.InvalidRequest, True)
    await serves(bench)


@pytest.mark.parametrize("method", STREAMS)
async def test_what_is_no_protobuf_in_a_stream_is_refused_by_name(bench: Bench, method: str) -> None:
    for data in NO_PROTOBUF:
        call = bench.raw_stream(method)(iter([data]), metadata=bench.metadata)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert method.rpartition("/")[2] in await call.details()
    await serves(bench)


@pytest.mark.parametrize("method", UNARY)
async def test_random_bytes_are_refused_and_the_server_goes_on(bench: Bench, method: str) -> None:
    source = random.Random(method)  # noqa: S311 - to be the same each time
    good = (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND) if method.endswith("Check") else ()
    bad = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED)
    for size in (0, 1, 2, 3, 5, 8, 13, 100, 1000, 10_000, 100_000):
        assert await status_after(bench, method, source.randbytes(size)) in (*good, *bad)
    await serves(bench)


SIZES = {
    "an empty claim": (0, Reason.ClaimRefused),
    "a byte": (1, Reason.ClaimRefused),
    "the guard's limit": (64 * 1024, Reason.ClaimRefused),
    "beyond the guard's limit": (64 * 1024 + 1, Reason.ClaimRefused),
    "nearly the message limit": (LIMIT - 1000, Reason.ClaimRefused),
}


@pytest.mark.parametrize(("size", "reason"), SIZES.values(), ids=SIZES)
async def test_a_claim_of_any_size_that_is_none_is_refused(bench: Bench, size: int, reason: Reason) -> None:
    for claim in (bytes(size), random.Random(size).randbytes(size)):  # noqa: S311 - to be the same each time
        assert (await refusal_of(bench.sign(bench.request(claim)))).reason is reason
    await serves(bench)


async def test_the_largest_message_is_read_and_a_larger_one_is_grpcs_to_refuse(bench: Bench) -> None:
    request = bench.request(b"")
    rest = LIMIT - request.ByteSize()
    request.claim = bytes(rest - 5)
    assert request.ByteSize() == LIMIT
    assert (await refusal_of(bench.sign(request))).reason is Reason.ClaimRefused
    request.claim += b"\0"
    assert await status_after(bench, SIGNER + "SignClaim", request.SerializeToString()) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    await serves(bench)


async def test_a_method_that_is_not_there_is_unimplemented(bench: Bench) -> None:
    for method in (SIGNER + "Nothing", "/x/y", "/"):
        assert await status_after(bench, method, b"") is grpc.StatusCode.UNIMPLEMENTED


TOKENS = {
    "none": ((), Reason.TokenMissing),
    "empty": ((("authorization", "Bearer "),), Reason.TokenMissing),
    "of another scheme": ((("authorization", "Basic YTpi"),), Reason.TokenMissing),
    "garbage": ((("authorization", "Bearer garbage"),), Reason.TokenInvalid),
    "long": ((("authorization", "Bearer " + "x" * 20_000),), Reason.TokenInvalid),
}


@pytest.mark.parametrize(("metadata", "reason"), TOKENS.values(), ids=TOKENS)
async def test_a_bad_token_is_refused_by_name(
    bench: Bench, metadata: tuple[tuple[str, str], ...], reason: Reason
) -> None:
    call = bench.signer.GetRecipe(pb.GetRecipeRequest(recipe="photo"), metadata=metadata)
    assert (await refusal_of(call)).reason is reason


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(bench: Bench, scheme: str) -> None:
    metadata = (("authorization", f"{scheme} {bench.token}"),)
    assert (await bench.signer.GetRecipe(pb.GetRecipeRequest(recipe="photo"), metadata=metadata)).name == "photo"


async def test_a_refused_caller_is_told_the_id_that_the_audit_trail_knows_the_call_by(bench: Bench) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.sign(bench.request(b""))
    (record,) = await bench.records(Kind.REFUSAL)
    assert dict(caught.value.trailing_metadata())[REQUEST_ID_KEY] == record.request_id


async def test_refusals_are_counted_by_method_and_reason(bench: Bench) -> None:
    await refusal_of(bench.sign(bench.request(b"")))
    assert 'byok_signer_refusals_total{reason="ClaimRefused"} 1.0' in bench.metrics.exposition().decode()
    # A call is counted once its answer has left.
    counted = 'byok_signer_requests_total{code="INVALID_ARGUMENT",method="SignClaim"} 1.0'
    await until(lambda: counted in bench.metrics.exposition().decode())


@pytest.mark.parametrize("letter", ["x", "é", "漢", "\U0001f600", "\udcff", "\n", "%"])
def test_a_long_message_fits_into_the_headers_of_http2(letter: str) -> None:
    metadata = dict.fromkeys(("key", "recipe", "check", "found", "expected"), letter * 5000)
    status = status_of(Refusal(Reason.KeyInvalid, letter * 5000, metadata=metadata))
    percent_encoded, base64 = 3 * len(status.message.encode()), len(status.SerializeToString()) * 4 // 3
    assert percent_encoded + base64 < 8 * 1024
    assert told_by(status).reason is Reason.KeyInvalid
