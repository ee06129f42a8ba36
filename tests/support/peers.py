"""Servers that play a script on each connection, and a pool of connections to them."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from yarl import URL

from byok_service.proxies import DIRECT, Proxies
from byok_signer.kms.http1 import render_headers
from byok_signer.kms.transport import Transport

HEADERS = render_headers({"Host": "kms.example"})


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Read a request and return its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return await self.reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))

    def answer(self, body: bytes, *headers: bytes) -> None:
        lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
        self.writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    async def hung_up(self) -> None:
        """Wait until the other end is closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Peer], Awaitable[None]]


async def echo(peer: Peer) -> None:
    while True:
        peer.answer(await peer.request())


@dataclass
class Server:
    """Plays a script on each connection, then hangs up."""

    script: Script
    tls: ssl.SSLContext | None = None
    url: URL = field(default_factory=URL)
    connections: int = 0
    most: int = 0
    begun: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    ended: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.begun.put_nowait(self.connections)
        self.open.add(writer)
        self.most = max(self.most, len(self.open))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self.script(Peer(reader, writer))
        self.open.discard(writer)
        writer.transport.abort()
        self.ended.put_nowait(self.connections)

    async def wait_for_end(self) -> None:
        """Wait until another connection has ended."""
        await asyncio.wait_for(self.ended.get(), 10)


@contextlib.asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    served = Server(script, tls)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    served.url = URL(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    try:
        yield served
    finally:
        server.close()
        for writer in served.open:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def pool(
    limit: int = 512, idle_limit: float = 20, ca_file: Path | None = None, proxies: Proxies = DIRECT
) -> AsyncIterator[Transport]:
    transport = Transport(ca_file, proxies=proxies, limit=limit, idle_limit=idle_limit)
    try:
        yield transport
    finally:
        await transport.close()


async def post(
    transport: Transport, server: Server, body: bytes = b"x", *, patience: float = 10, fresh: bool = False
) -> bytes:
    return (await transport.post(server.url, HEADERS, body, timeout=patience, fresh=fresh)).body


async def silent(peer: Peer) -> None:
    await peer.hung_up()


async def slow(peer: Peer) -> None:
    await peer.request()
    peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123")
    await peer.hung_up()


async def cancel_one(transport: Transport, server: Server) -> None:
    call = asyncio.create_task(post(transport, server))
    await server.begun.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.wait_for_end()


def breaking_off(sent: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(sent)
        await peer.writer.drain()
        peer.writer.close()

    return script
