"""Connections come of age: clients connect anew, and find replicas that are new; no call is the worse for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_operator.observations import Probe
from byok_operator.probing import ProbeRequest
from byok_operator.signers import Signers
from byok_service.names import resolve_tcp
from tests.support.fleet import Fleet, channel_to, fleet_of
from tests.support.many_claims import another_claim
from tests.support.name_server import NameServer
from tests.support.pki import identity
from tests.support.signer import DEADLINE, Bench, until
from tests.testenv.ports import free_ports
from tests.testenv.tap import Tap

ES256 = SigningAlgorithm.ES256
AGE = 1.0
"""Seconds: the least."""
AGES = 4
CHANNELS = 3
CALLERS = 8
"""On each of them."""
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture
async def fleet(bench: Bench) -> AsyncIterator[Fleet]:
    """A replica whose connections come of age."""
    bench.settings = bench.settings.model_copy(update={"connection_age_seconds": AGE})
    async with fleet_of(bench, "one") as running:
        yield running


async def sign(fleet: Fleet, channel: grpc.aio.Channel) -> None:
    stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)
    request = fleet.bench.request(another_claim())
    answer = await stub.SignClaim(request, metadata=fleet.bench.metadata, timeout=DEADLINE)
    signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=request.claim)


async def test_no_call_fails_while_connections_are_replaced_under_load(fleet: Fleet) -> None:
    with Tap(fleet.members["one"].port) as tap:

        async def call(channel: grpc.aio.Channel) -> None:
            while tap.accepted < CHANNELS * AGES:
                await sign(fleet, channel)

        async with AsyncExitStack() as stack:
            target = f"127.0.0.1:{tap.port}"
            channels = [await stack.enter_async_context(channel_to(fleet, target)) for _ in range(CHANNELS)]
            await asyncio.gather(*(call(channel) for channel in channels for _ in range(CALLERS)))
    assert fleet.bench.kms.signed > CHANNELS * CALLERS * AGES


async def test_streams_outlive_the_age_of_their_connection(fleet: Fleet) -> None:
    bench = fleet.bench
    with Tap(fleet.members["one"].port) as tap:
        async with channel_to(fleet, f"127.0.0.1:{tap.port}") as channel:
            stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)
            claims = stub.SignClaims(metadata=bench.metadata, timeout=DEADLINE)
            health: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(HEALTH_WATCH)
            watch = health(b"", timeout=DEADLINE)
            await watch.read()
            while tap.accepted < AGES:
                await sign(fleet, channel)
            message = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash)
            message.items.add(id="late", claim=another_claim())
            await claims.write(message)
            answer = await claims.read()
            assert isinstance(answer, pb.SignClaimsResponse)
            assert [result.WhichOneof("outcome") for result in answer.results] == ["signed"]
            await claims.done_writing()
            assert await claims.code() is grpc.StatusCode.OK
            assert not watch.done()
            watch.cancel()


async def test_the_operator_hears_on_without_a_word_of_trouble(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    changed: list[ObjectName] = []
    with Tap(fleet.members["one"].port) as tap:
        signers = Signers(fleet.door(tap.port), changed=changed.extend, resolve=resolve_tcp, ping_seconds=20.0)
        running = asyncio.create_task(signers.run())
        await fleet.sign("one")
        await until(lambda: len(changed) == 1)
        request = ProbeRequest(ObjectName("media", "brand"), "uid", 0, least_privilege=False, reverify=None)
        while tap.accepted < AGES:
            assert isinstance(await signers.ask(request), Probe)
        assert (signers.connected, len(changed)) == (1, 1)
        assert [record for record in caplog.records if record.name.startswith("byok_operator")] == []
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_client_finds_a_replica_that_came_after_it_had_connected(fleet: Fleet) -> None:
    (port,) = free_ports(1, "127.0.0.2", "127.0.0.3")
    await fleet.start("old", host="127.0.0.2", port=port)
    with NameServer("127.0.0.2") as names:
        async with channel_to(fleet, f"dns://127.0.0.1:{names.port}/byok-signer.byok-system.svc:{port}") as channel:
            await sign(fleet, channel)
            new = await fleet.start("new", host="127.0.0.3", port=port)
            names.addresses = ("127.0.0.2", "127.0.0.3")
            async with asyncio.timeout(DEADLINE):
                while new.services.edge.quiet_seconds > DEADLINE:
                    await sign(fleet, channel)
