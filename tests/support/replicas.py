"""Replicas of a bench's signer, with all its services: the same ports behind a server of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio

from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_service.setting_types import UnixSocket
from byok_signer.entries import ReservedKey
from byok_signer.limits import Limits
from byok_signer.server import SignerServer, services_for
from tests.support.signer import DEADLINE, Bench

_REPLACED = ("channel", "services", "server", "settings", "pipeline", "edge")


@asynccontextmanager
async def replica_of(
    bench: Bench,
    name: str = "one",
    *,
    checkpoint_key: ReservedKey | None = None,
    **limits: Any,  # noqa: ANN401 - fields of Limits
) -> AsyncIterator[Bench]:
    """Run a replica, and have it be the one that the bench calls."""
    ports = bench.pipeline._ports  # noqa: SLF001 - the bench keeps no other hold of them
    services = services_for(ports, checkpoint_key=checkpoint_key, replica=name)
    settings = bench.settings.model_copy(update={"listen": UnixSocket(bench.folder / name)})
    server = SignerServer(settings, services, replace(Limits.of(settings), **limits))
    await server.start()
    before = {field: getattr(bench, field) for field in _REPLACED}
    async with grpc.aio.insecure_channel(str(settings.listen)) as channel:
        bench.channel, bench.services, bench.server, bench.settings = channel, services, server, settings
        bench.pipeline, bench.edge = services.signer.pipeline, services.edge
        yield bench
        bench.kms.gate.set()
        bench.audit.gate.set()
    await server.stop(DEADLINE)
    for field, value in before.items():
        setattr(bench, field, value)


class Watcher:
    """Who watches keys' health, and what it knows by now."""

    def __init__(self, stub: "rpc.KeyProbeAsyncStub", metadata: tuple[tuple[str, str], ...]) -> None:
        self.call = stub.WatchHealth(pb.WatchHealthRequest(), metadata=metadata, timeout=DEADLINE)
        self.keys: dict[str, pb.KeyHealth] = {}
        self.messages: list[pb.WatchHealthResponse] = []

    async def next(self) -> pb.WatchHealthResponse:
        """Wait for a message."""
        message = await self.call.read()
        assert isinstance(message, pb.WatchHealthResponse), "the watch has ended"
        self.messages.append(message)
        if message.snapshot:
            self.keys = {}
        for health in message.keys:
            self.keys[f"{health.namespace}/{health.name}"] = health
        return message

    async def until(self, outcome: "pb.ProbeResult.Outcome.ValueType", key: str = "media/brand") -> pb.KeyHealth:
        """Wait until a key is said to be so."""
        while key not in self.keys or self.keys[key].outcome != outcome:
            await self.next()
        return self.keys[key]


def watch(bench: Bench) -> Watcher:
    """Watch as whoever the bench calls as."""
    return Watcher(bench.probe, bench.metadata)
