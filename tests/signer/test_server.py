"""The gRPC server around the services: where it listens, how much it takes, how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_service.setting_types import TcpAddress, UnixSocket
from byok_service.settings import SettingsError
from byok_signer.server import SignerServer
from tests.support.claims import created_claim
from tests.support.many_claims import another_claim
from tests.support.pki import identity
from tests.support.refusals import refusal_of
from tests.support.signer import DEADLINE, Bench, until
from tests.support.slow_clients import (
    GOAWAY,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PING,
    PREFACE,
    SETTINGS,
    Connection,
    connected,
    frame,
    read_settings,
)

ES256 = SigningAlgorithm.ES256
CLAIM = created_claim().sig_structure


async def test_an_address_that_cannot_be_bound_is_named(bench: Bench, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing" / "s", tmp_path / ("x" * 120)):
        settings = bench.settings.model_copy(update={"listen": UnixSocket(path)})
        with pytest.raises(SettingsError, match=f"--listen unix:{path}"):
            SignerServer(settings, bench.services)


async def test_tcp_is_never_served_in_plaintext(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"listen": TcpAddress("127.0.0.1", 0)})
    with pytest.raises(AssertionError, match="TLS"):
        SignerServer(settings, bench.services)


async def call_for_ever(bench: Bench) -> None:
    while True:
        await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)


async def test_a_call_in_flight_is_answered_before_the_end_and_none_is_taken_after(bench: Bench) -> None:
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(bench.sign())
    await until(lambda: bench.kms.signed == 1)
    stopping = asyncio.create_task(bench.server.stop(DEADLINE))
    told = await refusal_of(call_for_ever(bench))
    assert (told.reason, told.retry_after is not None) == (Reason.ShuttingDown, True)
    bench.kms.gate.set()
    signatures.verify(identity(ES256).public_key, ES256, (await answer).signature, message=CLAIM)
    await stopping


async def test_a_stream_answers_what_it_accepted_and_says_that_the_signer_stops(bench: Bench) -> None:
    bench.kms.gate.clear()
    call = bench.signer.SignClaims(metadata=bench.metadata, timeout=DEADLINE)
    message = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash)
    message.items.add(id="accepted", claim=CLAIM)
    await call.write(message)
    await until(lambda: bench.kms.signed == 1)
    stopping = asyncio.create_task(bench.server.stop(DEADLINE))
    bench.kms.gate.set()
    answer = await call.read()
    assert isinstance(answer, pb.SignClaimsResponse)
    assert [result.id for result in answer.results if result.HasField("signed")] == ["accepted"]
    told = await refusal_of(call.read())
    assert (told.reason, told.retry_after) == (Reason.ShuttingDown, 0.1)
    await stopping


async def test_an_idle_stream_does_not_hold_up_the_end(bench: Bench) -> None:
    call = bench.signer.SignClaims(metadata=bench.metadata, timeout=DEADLINE)
    await until(lambda: b"byok_signer_in_flight 1.0" in bench.metrics.exposition())
    async with asyncio.timeout(DEADLINE / 2):
        await bench.server.stop(DEADLINE)
    assert (await refusal_of(anext(aiter(call)))).reason is Reason.ShuttingDown


@pytest.mark.parametrize("token", [True, False], ids=["a message", "a turn to be refused"])
async def test_a_call_that_waits_does_not_hold_up_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, token: bool
) -> None:
    monkeypatch.setattr("byok_signer.gate._STRANGERS_PER_SECOND", 0.001)
    monkeypatch.setattr("byok_signer.gate._STRANGERS_AT_ONCE", -1)
    monkeypatch.setattr("byok_signer.gate._STRANGERS_WAIT", 3600.0)
    metadata = bench.metadata if token else ()
    call = bench.raw_stream("/byok.signer.v1.Signer/SignClaim")(metadata=metadata, timeout=DEADLINE)
    await until(lambda: b"byok_signer_in_flight 1.0" in bench.metrics.exposition())
    async with asyncio.timeout(DEADLINE / 2):
        await bench.server.stop(DEADLINE)
    expected = Reason.ShuttingDown if token else Reason.TokenMissing
    assert (await refusal_of(anext(aiter(call)))).reason is expected


async def watch(bench: Bench) -> AsyncIterator[int]:
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = bench.channel.unary_stream("/grpc.health.v1.Health/Watch")
    async for answer in method(b""):
        yield health_pb2.HealthCheckResponse.FromString(answer).status


async def test_a_health_watcher_is_told_of_the_end_and_does_not_hold_it_up(bench: Bench) -> None:
    watching = watch(bench)
    assert await anext(watching) == health_pb2.HealthCheckResponse.SERVING
    stopping = asyncio.create_task(bench.server.stop(DEADLINE))
    assert await anext(watching) == health_pb2.HealthCheckResponse.NOT_SERVING
    async with asyncio.timeout(DEADLINE / 2):
        await stopping


async def test_a_call_that_outlasts_the_grace_is_ended_and_its_signature_recorded(bench: Bench) -> None:
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(bench.sign())
    await until(lambda: bench.kms.signed == 1)
    await bench.server.stop(0.1)
    with pytest.raises(grpc.aio.AioRpcError):
        await answer
    bench.kms.gate.set()
    assert len(await bench.records(Kind.OUTCOME)) == 1


async def test_beyond_so_many_calls_at_once_a_caller_is_refused(bench: Bench) -> None:
    async with another_server(bench, max_concurrent_calls=2) as path:
        bench.kms.gate.clear()
        async with grpc.aio.insecure_channel(f"unix:{path}") as bench.channel:
            calls = [asyncio.ensure_future(bench.sign(bench.request(another_claim()))) for _ in range(2)]
            await until(lambda: bench.kms.signed == 2)
            assert (await refusal_of(bench.sign())).reason is Reason.CallerLimited
            bench.kms.gate.set()
            await asyncio.gather(*calls)


@asynccontextmanager
async def another_server(bench: Bench, **settings: object) -> AsyncIterator[Path]:
    """Serve the bench's services under other settings too, on another socket."""
    path = bench.folder / "another"
    server = SignerServer(bench.settings.model_copy(update={"listen": UnixSocket(path), **settings}), bench.services)
    await server.start()
    yield path
    await server.stop(DEADLINE)


async def greeted(connection: Connection) -> dict[int, int]:
    """Begin HTTP/2 and return the server's settings."""
    await connection.send(PREFACE, frame(SETTINGS))
    async with asyncio.timeout(DEADLINE):
        first = await connection.frame()
    assert first is not None
    assert first.kind == SETTINGS
    return read_settings(first.payload)


async def test_a_client_is_told_how_many_calls_and_how_large_headers_a_connection_takes(bench: Bench) -> None:
    async with another_server(bench, max_calls_per_caller=7) as path, connected(path) as connection:
        told = await greeted(connection)
    assert (told[MAX_CONCURRENT_STREAMS], told[MAX_HEADER_LIST_SIZE]) == (7, 32 * 1024)


async def test_a_connection_too_many_is_closed_and_the_others_stay(bench: Bench) -> None:
    async with another_server(bench, max_connections=2) as path, connected(path) as first, connected(path) as second:
        assert await greeted(first)
        assert await greeted(second)
        async with connected(path) as third, asyncio.timeout(DEADLINE):
            await third.closed()
        await first.send(frame(PING, bytes(8)))
        while (answer := await first.frame()) and answer.kind != PING:
            pass
        assert answer


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE], ids=["nothing", "half a preface", "no settings"])
async def test_a_connection_that_does_not_get_going_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("byok_signer.server._HANDSHAKE_SECONDS", 1)
    async with another_server(bench) as path, connected(path) as connection, asyncio.timeout(DEADLINE):
        await connection.send(sent)
        await connection.closed()


async def test_an_idle_connection_is_closed(bench: Bench) -> None:
    async with another_server(bench, idle_seconds=1) as path, connected(path) as connection:
        await greeted(connection)
        async with asyncio.timeout(DEADLINE):
            await connection.closed()


async def test_a_client_that_pings_all_the_time_is_sent_away(bench: Bench) -> None:
    async with another_server(bench) as path, connected(path) as connection:
        await greeted(connection)
        await connection.send(*[frame(PING, bytes(8))] * 4)
        async with asyncio.timeout(DEADLINE):
            while (answer := await connection.frame()) and answer.kind != GOAWAY:
                pass
            assert answer
            await connection.closed()
    assert b"too_many_pings" in answer.payload


async def test_headers_beyond_the_limit_are_refused(bench: Bench) -> None:
    for size, code in ((30_000, grpc.StatusCode.OK), (33_000, grpc.StatusCode.RESOURCE_EXHAUSTED)):
        call = bench.raw_unary("/grpc.health.v1.Health/Check")(b"", metadata=(("x-much", "x" * size),))
        assert await call.code() is code
    await bench.sign()
