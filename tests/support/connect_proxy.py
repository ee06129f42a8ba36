"""A small HTTP proxy that makes tunnels (RFC 9110, section 9.3.6), to wherever a test has put the host asked for."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_CHUNK = 64 * 1024
GOOD = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class ConnectProxy:
    """Asked by HOST:PORT, it connects to what `places` says, and answers 502 for what is not there."""

    places: dict[str, int] = field(default_factory=dict)
    """Ports on this machine by HOST:PORT."""
    port: int = 0
    asked: list[str] = field(default_factory=list)
    """Request lines and headers of each request."""
    authorization: str | None = None
    """What Proxy-Authorization must be, if anything."""
    answer: bytes = GOOD
    """What is said before the tunnel begins; no tunnel is made after any other."""
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def targets(self) -> list[str]:
        """Where it was asked to connect to, in order."""
        return [request.split(" ")[1] for request in self.asked]

    def hang_up(self) -> None:
        """End all tunnels."""
        for writer in self.writers:
            writer.transport.abort()

    async def wait_for_end(self) -> None:
        """Wait until another connection has ended."""
        await asyncio.wait_for(self.ended.get(), 10)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        head = "  "
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            await self._tunnel(head, reader, writer)
        # Only now, so that nobody who is told of the end still finds it.
        self.writers.discard(writer)
        writer.transport.abort()
        self.ended.put_nowait(head.split(" ")[1])

    async def _tunnel(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.authorization is not None and f"Proxy-Authorization: {self.authorization}\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            await _drained(writer)
            return
        if self.answer != GOOD:
            writer.write(self.answer)
            await reader.read()
            return
        port = self.places.get(head.split(" ")[1])
        if port is None:
            writer.write(b"HTTP/1.0 502 Bad Gateway\r\n\r\n")
            await _drained(writer)
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD)
        both = [asyncio.create_task(_pass(reader, inner_writer)), asyncio.create_task(_pass(inner_reader, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            inner_writer.transport.abort()


async def _drained(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def connect_proxy(tls: ssl.SSLContext | None = None) -> AsyncIterator[ConnectProxy]:
    """Run a proxy, itself behind TLS if told so, until the block ends."""
    proxy = ConnectProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.hang_up()
        while proxy.writers:
            await proxy.wait_for_end()
