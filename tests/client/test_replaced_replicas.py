"""A signer's pod is replaced, or its node dies: another answers before the deadline of the call."""

import asyncio
import socket
import threading
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
from tests.support.pki import identity

_HEADER = 12
_TYPE_A = b"\x00\x01"
_LESS_THAN_GRPCS_OWN = 25
"""Seconds; gRPC asks a name server twice only after 30, unless told otherwise."""


class NameServer:
    """Says of every name that it has one IPv4 address (RFC 1035, section 4)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            if not query:
                return
            end = query.index(b"\0", _HEADER) + 5
            question, asks_for_ipv4 = query[_HEADER:end], query[end - 4 : end - 2] == _TYPE_A
            counts = b"\x00\x01\x00\x01" if asks_for_ipv4 else b"\x00\x01\x00\x00"
            # A pointer to the name asked for, type A, class IN, a time to live of none, four bytes.
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + socket.inet_aton(self.address)
            reply = query[:2] + b"\x84\x00" + counts + bytes(4) + question + (answer if asks_for_ipv4 else b"")
            self._socket.sendto(reply, sender)


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer("127.0.0.2")
    yield server
    server.close()


@contextmanager
def pod(address: str) -> Iterator[FakeSigner]:
    signer = FakeSigner(identity())
    signer.address = address
    signer.start(None)
    yield signer
    signer.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_successor_under_the_same_name_is_found_within_the_deadline(names: NameServer) -> None:
    port, request = free_port(), GetRecipeRequest(recipe="photo")
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    target = f"dns://127.0.0.1:{names.port}/signer.byok-system.svc:{port}"
    with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
        stub = SignerStub(channel)
        with pod(f"127.0.0.2:{port}"):
            stub.GetRecipe(request, metadata=metadata, timeout=_LESS_THAN_GRPCS_OWN, wait_for_ready=True)
        names.address = "127.0.0.3"
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
