"""Who is let in, before a byte of any message is read, and how much each may have under way."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from byok_api.audit import Kind
from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.issuer import ServiceAccount
from byok_service.setting_types import UnixSocket
from byok_signer.limits import Limits
from byok_signer.server import SignerServer
from byok_signer.work import Call
from tests.support.claims import created_claim
from tests.support.many_claims import another_claim
from tests.support.refusals import Told, refusal_of
from tests.support.signer import DEADLINE, JOB, Bench, until

if TYPE_CHECKING:
    RawCall = grpc.aio.StreamStreamCall[bytes, bytes]

SIGNER = "/byok.signer.v1.Signer/"
SIGN_CLAIM, SIGN_CLAIMS = SIGNER + "SignClaim", SIGNER + "SignClaims"
WATCH_HEALTH = "/byok.signer.v1.KeyProbe/WatchHealth"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = [
    *(SIGNER + name for name in ("GetRecipe", "SignClaim", "SignDigest", "SignClaims", "Verify", "GetPublicKey")),
    "/byok.signer.v1.KeyProbe/ProbeKey",
    WATCH_HEALTH,
    "/byok.signer.v1.Certification/CreateCertificateRequest",
]
OTHER = ServiceAccount("media", "other")


@asynccontextmanager
async def limited(bench: Bench, **limits: float) -> AsyncIterator[Bench]:
    """Have the bench's channel lead to a server with other limits."""
    address = UnixSocket(bench.folder / "limited")
    settings = bench.settings.model_copy(update={"listen": address})
    server = SignerServer(settings, bench.services, replace(Limits.of(settings), **limits))  # type: ignore[arg-type]  # some are whole
    await server.start()
    before = bench.channel
    # Without it gRPC takes megabytes ahead of a reader.
    async with grpc.aio.insecure_channel(str(address), options=(("grpc.http2.bdp_probe", 0),)) as bench.channel:
        yield bench
        bench.kms.gate.set()
    bench.channel = before
    await server.stop(DEADLINE)


def headers_only(bench: Bench, method: str) -> "RawCall":
    """Begin a call, of whatever kind, and send no message."""
    return bench.raw_stream(method)(metadata=bench.metadata, timeout=DEADLINE)


async def told_at_the_end_of(call: "RawCall") -> Told:
    return await refusal_of(read_to_the_end(call))


async def read_to_the_end(call: "RawCall") -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def in_flight(bench: Bench, calls: int) -> bool:
    return f"byok_signer_in_flight {calls}.0" in bench.metrics.exposition().decode()


async def sign(bench: Bench) -> pb.SignClaimResponse:
    """Sign what nobody else does: what is equal is asked of KMS once."""
    return await bench.sign(bench.request(another_claim()))


async def answered(waiting: Awaitable[pb.SignClaimResponse]) -> bool:
    return bool((await waiting).signature)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("token", "reason"), [("", Reason.TokenMissing), ("garbage", Reason.TokenInvalid)])
async def test_who_has_no_good_token_is_refused_before_sending_a_message(
    bench: Bench, method: str, token: str, reason: Reason
) -> None:
    bench.token = token
    assert (await told_at_the_end_of(headers_only(bench, method))).reason is reason
    assert "byok_signer_unauthenticated_total 1.0" in bench.metrics.exposition().decode()
    assert await bench.records(Kind.REFUSAL) == []


@pytest.mark.parametrize("method", [SIGN_CLAIM, WATCH_HEALTH, CHECK, WATCH])
async def test_a_message_that_does_not_come_ends_its_call(bench: Bench, method: str) -> None:
    async with limited(bench, message_seconds=0.1):
        told = await told_at_the_end_of(headers_only(bench, method))
    assert (told.reason, "did not come within 0.1 s" in told.message) == (Reason.InvalidRequest, True)


async def test_a_call_without_a_message_is_refused_and_recorded(bench: Bench) -> None:
    call = headers_only(bench, SIGN_CLAIM)
    await call.done_writing()
    assert (await told_at_the_end_of(call)).message == "the call has no message"
    (record,) = await bench.records(Kind.REFUSAL)
    assert (record.reason, record.caller) == ("InvalidRequest", JOB.username)


async def test_one_call_too_many_of_a_caller_is_refused_recorded_and_no_others(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with limited(bench, calls_per_caller=2):
        calls = [asyncio.ensure_future(sign(bench)) for _ in range(2)]
        await until(lambda: bench.kms.signed == 2)
        told = await refusal_of(sign(bench))
        assert (told.reason, told.retry_after) == (Reason.CallerLimited, 0.5)
        job = bench.token
        bench.call_as(OTHER)
        other = asyncio.ensure_future(sign(bench))
        await until(lambda: bench.kms.signed == 3)
        bench.kms.gate.set()
        assert all(await asyncio.gather(*map(answered, (*calls, other))))
        bench.token = job
        assert await answered(sign(bench))
    (record,) = await bench.records(Kind.REFUSAL)
    assert (record.reason, record.caller) == ("CallerLimited", JOB.username)


async def test_calls_that_send_nothing_hold_only_their_callers_places(bench: Bench) -> None:
    async with limited(bench, calls=4, calls_per_caller=3):
        idle = [headers_only(bench, SIGN_CLAIM) for _ in range(3)]
        await until(lambda: in_flight(bench, 3))
        assert (await refusal_of(sign(bench))).reason is Reason.CallerLimited
        bench.call_as(OTHER)
        assert await answered(sign(bench))
        for call in idle:
            call.cancel()
        bench.call_as(JOB)
        await until(lambda: in_flight(bench, 0))
        assert await answered(sign(bench))


async def test_one_stream_too_many_of_a_caller_is_refused(bench: Bench) -> None:
    async with limited(bench, streams_per_caller=1):
        stream = headers_only(bench, SIGN_CLAIMS)
        await until(lambda: in_flight(bench, 1))
        assert (await told_at_the_end_of(headers_only(bench, SIGN_CLAIMS))).reason is Reason.CallerLimited
        assert await answered(sign(bench))
        stream.cancel()


async def test_messages_are_read_only_as_there_is_room_for_them(bench: Bench) -> None:
    size = bench.settings.max_message_bytes
    async with limited(bench, bytes_per_caller=size):
        idle = headers_only(bench, SIGN_CLAIM)
        await until(lambda: in_flight(bench, 1))
        waiting = asyncio.ensure_future(sign(bench))
        await until(lambda: in_flight(bench, 2))
        idle.cancel()
        assert await answered(waiting)


async def test_a_call_that_finds_no_room_for_its_message_is_refused(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with limited(bench, bytes_per_caller=1000, message_seconds=0.5):
        first = asyncio.ensure_future(sign(bench))
        await until(lambda: bench.kms.signed == 1)
        told = await refusal_of(sign(bench))
        assert (told.reason, "1000 bytes" in told.message) == (Reason.CallerLimited, True)
        bench.kms.gate.set()
        assert await answered(first)


@pytest.mark.parametrize("method", [WATCH, REFLECTION])
async def test_those_who_need_no_token_are_bounded_and_keep_nobody_else_out(bench: Bench, method: str) -> None:
    async with limited(bench, open_calls=2):
        held = [headers_only(bench, method) for _ in range(2)]
        for call in held:
            await call.write(b"")
            await call.read()
        assert (await told_at_the_end_of(headers_only(bench, method))).reason is Reason.CallerLimited
        assert (await bench.raw_unary(CHECK)(b"")) == b"\x08\x01"
        assert await answered(sign(bench))
        for call in held:
            call.cancel()


async def test_a_flood_of_bad_tokens_waits_and_a_good_caller_does_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_signer.gate._STRANGERS_PER_SECOND", 0.01)
    monkeypatch.setattr("byok_signer.gate._STRANGERS_WAIT", 3600.0)
    good, bench.token = bench.token, "garbage"
    flood = [asyncio.ensure_future(told_at_the_end_of(headers_only(bench, SIGN_CLAIM))) for _ in range(100)]
    bench.token = good
    assert await answered(sign(bench))
    await until(lambda: in_flight(bench, 50))
    assert sum(task.done() for task in flood) == 50
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)


async def test_of_a_flood_of_refusals_ten_lines_a_second_are_logged_for_each_reason(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "byok_signer")
    bench.token = "garbage"
    for _ in range(60):
        await told_at_the_end_of(headers_only(bench, SIGN_CLAIM))
    lines = [record for record in caplog.records if record.getMessage() == "refused"]
    assert 10 <= len(lines) < 60
    assert b'byok_signer_refusals_total{reason="TokenInvalid"} 60.0' in bench.metrics.exposition()


async def stuffed(bench: Bench) -> "RawCall":
    """Have many claims signed in a stream, and read no answer."""
    call = headers_only(bench, SIGN_CLAIMS)
    recipe_hash = bench.entry.recipe.hash
    for message in range(8):
        items = [pb.SignClaimsItem(id=f"{message}-{item}", claim=another_claim()) for item in range(64)]
        request = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=recipe_hash, items=items)
        await call.write(request.SerializeToString())
    return call


async def test_a_stream_whose_answers_are_not_taken_is_ended_and_what_it_signed_is_recorded(bench: Bench) -> None:
    async with limited(bench, answer_seconds=0.2):
        call = await stuffed(bench)
        await until(lambda: b'byok_signer_refusals_total{reason="AnswersNotRead"} 1.0' in bench.metrics.exposition())
        assert (await told_at_the_end_of(call)).reason is Reason.AnswersNotRead
    assert len(await bench.records(Kind.OUTCOME)) == bench.kms.signed
    assert [record.reason for record in await bench.records(Kind.REFUSAL)] == ["AnswersNotRead"]


async def test_who_takes_no_answers_keeps_the_place_until_the_call_is_gone(bench: Bench) -> None:
    async with limited(bench, answer_seconds=0.2, streams_per_caller=1):
        call = await stuffed(bench)
        await until(lambda: b'byok_signer_refusals_total{reason="AnswersNotRead"} 1.0' in bench.metrics.exposition())
        await bench.edge.idle()
        assert (await told_at_the_end_of(headers_only(bench, SIGN_CLAIMS))).reason is Reason.CallerLimited
        call.cancel()
        await until(lambda: in_flight(bench, 0))
        stream = headers_only(bench, SIGN_CLAIMS)
        await until(lambda: in_flight(bench, 1))
        stream.cancel()


async def test_a_stream_with_nothing_under_way_ends_well(bench: Bench) -> None:
    async with limited(bench, idle_seconds=0.2):
        call = headers_only(bench, SIGN_CLAIMS)
        await read_to_the_end(call)
        assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_with_something_under_way_is_not_idle(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with limited(bench, idle_seconds=0.5):
        call = headers_only(bench, SIGN_CLAIMS)
        request = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash)
        request.items.add(id="slow", claim=created_claim().sig_structure)
        await call.write(request.SerializeToString())
        await until(lambda: bench.kms.signed == 1)
        reading = asyncio.ensure_future(call.read())
        await asyncio.wait((reading,), timeout=1.5)
        assert not reading.done()
        bench.kms.gate.set()
        (result,) = pb.SignClaimsResponse.FromString(await reading).results  # type: ignore[arg-type]  # not the end
        assert result.WhichOneof("outcome") == "signed"
        await read_to_the_end(call)


REFUSED = {
    "a token too few": ("", b""),
    "a token that is none": ("garbage", b""),
    "a token signed by nobody": ("unsigned", b""),
    "a message that is none": ("good", b"\xff"),
    "a recipe that is not there": ("good", b""),
}


@pytest.mark.parametrize(("token", "message"), REFUSED.values(), ids=REFUSED)
async def test_a_refused_call_leaves_nothing_for_the_garbage_collector(
    bench: Bench, token: str, message: bytes
) -> None:
    """With thousands of them it would hold up everybody for tenths of a second."""
    bench.token = {"unsigned": bench.token[:-8] + "AAAAAAAA", "good": bench.token}.get(token, token)
    gc.collect()
    others = alive()
    gc.disable()
    try:
        for _ in range(3):
            call = bench.raw_unary(SIGN_CLAIM)(message, metadata=bench.metadata)
            assert await call.code() is not grpc.StatusCode.OK
        # gRPC's loop still has the last call at hand.
        await until(lambda: alive() <= others + 1)
    finally:
        gc.enable()


def alive() -> int:
    """Count what is left of refused calls, and what other tests hold on to."""
    return sum(isinstance(found, Refusal | grpc.aio.AbortError | Call) for found in gc.get_objects())


async def test_a_streams_messages_wait_for_room_and_give_it_back(bench: Bench) -> None:
    async with limited(bench, bytes_per_caller=1000):
        call = headers_only(bench, SIGN_CLAIMS)
        for number in range(3):
            request = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash)
            request.items.add(id=str(number), claim=another_claim())
            await call.write(request.SerializeToString())
        found: list[str] = []
        while len(found) < 3:
            answer = pb.SignClaimsResponse.FromString(await call.read())  # type: ignore[arg-type]  # not the end
            found += [result.id for result in answer.results if result.HasField("signed")]
        assert await answered(sign(bench))
        call.cancel()
    assert found == ["0", "1", "2"]
