"""A signer's pod is replaced, or its node dies: another answers before the deadline of the call."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from byok_api.signer.v1.signer_pb2 import GetRecipeRequest
from byok_api.signer.v1.signer_pb2_grpc import SignerStub
from byok_client import AsyncSignerClient, ClientSettings
from byok_client.retries import CHANNEL_OPTIONS
from byok_sandbox.ca import TlsAuthority
from tests.support.fake_signer import TOKEN, FakeSigner, serving
from tests.support.name_server import NameServer
from tests.support.pki import identity
from tests.testenv.ports import free_ports

_LESS_THAN_GRPCS_OWN = 25
"""Seconds; gRPC asks a name server twice only after 30, unless told otherwise."""


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer("127.0.0.2") as server:
        yield server


@contextmanager
def pod(address: str) -> Iterator[FakeSigner]:
    signer = FakeSigner(identity())
    signer.address = address
    signer.start(None)
    yield signer
    signer.stop()


def test_the_successor_under_the_same_name_is_found_within_the_deadline(names: NameServer) -> None:
    (port,), request = free_ports(1, "127.0.0.2", "127.0.0.3"), GetRecipeRequest(recipe="photo")
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    target = f"dns://127.0.0.1:{names.port}/signer.byok-system.svc:{port}"
    with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
        stub = SignerStub(channel)
        with pod(f"127.0.0.2:{port}"):
            stub.GetRecipe(request, metadata=metadata, timeout=_LESS_THAN_GRPCS_OWN, wait_for_ready=True)
        names.addresses = ("127.0.0.3",)
        with pod(f"127.0.0.3:{port}") as successor:
            stub.GetRecipe(request, metadata=metadata, timeout=_LESS_THAN_GRPCS_OWN, wait_for_ready=True)
            assert successor.calls == ["GetRecipe photo"]


class Road:
    """A TCP proxy, on which a connection can be cut off without either end being told."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cut = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Carry nothing more on the connections that there are; new ones are carried."""
        self._cut.set()
        self._cut = asyncio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[int]:
        """Carry what comes to a free port."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pump(source, sink, self._cut)))

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        try:
            while data := await source.read(65_536):
                if cut.is_set():
                    await asyncio.Event().wait()
                sink.write(data)
        finally:
            sink.transport.abort()
            with suppress(OSError):
                await sink.wait_closed()


async def test_a_signer_that_falls_silent_is_left_for_another_before_the_deadline(
    tmp_path: Path, token_file: Path
) -> None:
    tls = TlsAuthority.create(now=datetime.now(UTC))
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(tls.trust_anchor_pem)
    with serving(tmp_path, tls=tls) as fake:
        road = Road(int(fake.address.rpartition(":")[2]))
        async with road.opened() as port:
            settings = ClientSettings(address=f"127.0.0.1:{port}", ca_file=ca_file, token_file=token_file)
            async with AsyncSignerClient(settings) as client:
                await client.recipe("photo")
                road.cut()
                assert (await client.recipe("photo")).name == "photo"
