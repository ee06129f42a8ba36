"""Replicas behind one name are replaced one after the other under load: with the client's retries no call fails."""

import asyncio
import math
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind, Outcome
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_client.answers import Failure, error_of
from byok_client.retries import Course
from byok_client.settings import DEFAULT_TIMEOUT, TokenFile
from tests.support.fleet import channel_to, fleet_of
from tests.support.many_claims import another_claim
from tests.support.name_server import NameServer
from tests.support.pki import identity
from tests.support.signer import Bench, until
from tests.testenv.ports import free_ports

ES256 = SigningAlgorithm.ES256
PODS = {"byok-signer-0": "127.0.0.2", "byok-signer-1": "127.0.0.3"}
CLIENTS, CALLERS = 2, 8
DRAIN = 15.0


class Load:
    """Jobs that sign until they are told to end, each call with the client's patience."""

    def __init__(self, bench: Bench, token_file: Path) -> None:
        self._bench = bench
        self._token = TokenFile(token_file)
        self.released = 0
        self.retried = 0
        self.ended = False

    async def run(self, *channels: grpc.aio.Channel) -> None:
        await asyncio.gather(*(self._sign_on(channel) for channel in channels for _ in range(CALLERS)))

    async def _sign_on(self, channel: grpc.aio.Channel) -> None:
        stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)
        while not self.ended:
            await self._sign(stub)
            self.released += 1

    async def _sign(self, stub: "rpc.SignerAsyncStub") -> None:
        request, course = self._bench.request(another_claim()), Course(DEFAULT_TIMEOUT, self._token)
        while True:
            try:
                answer = await stub.SignClaim(request, metadata=course.metadata(), timeout=course.remaining)
            except grpc.aio.AioRpcError as error:
                failure = Failure(error.code(), error.details() or "", tuple(error.trailing_metadata()))
                self.retried += 1
                await asyncio.sleep(course.delay_after(error_of(failure, "byok-signer")))
            else:
                break
        signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=request.claim)


@pytest.mark.parametrize("stale", [True, False], ids=["names stay", "names follow"])
async def test_a_rolling_restart_costs_no_call(bench: Bench, *, stale: bool) -> None:
    (port,), token_file = free_ports(1, *PODS.values()), bench.folder / "job-token"
    token_file.write_text(bench.token)
    load = Load(bench, token_file)
    async with fleet_of(bench) as fleet, AsyncExitStack() as stack:
        names = stack.enter_context(NameServer(*PODS.values()))
        for pod, host in PODS.items():
            await fleet.start(pod, host=host, port=port)
        target = f"dns://127.0.0.1:{names.port}/byok-signer.byok-system.svc:{port}"
        channels = [await stack.enter_async_context(channel_to(fleet, target)) for _ in range(CLIENTS)]
        running = asyncio.create_task(load.run(*channels))
        for pod, host in PODS.items():
            await until(lambda pod=pod: math.isfinite(fleet.members[pod].services.edge.quiet_seconds))  # type: ignore[misc]
            if not stale:
                names.addresses = tuple(address for address in PODS.values() if address != host)
            await fleet.stop(pod, grace=DRAIN)
            await fleet.start(pod, host=host, port=port)
            names.addresses = tuple(PODS.values())
        load.ended = True
        await running
    signed = [event for event in await bench.records(Kind.OUTCOME) if event.outcome is Outcome.SIGNED]
    assert load.retried > 0
    assert load.released == len([event for event in signed if event.repeats is None])
