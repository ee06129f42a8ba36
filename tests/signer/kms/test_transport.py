"""Connections are kept, limited and given up so that no call gets another's answer, whatever happens to it."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from yarl import URL

from byok_sandbox.ca import TlsAuthority
from byok_signer.kms.connection import DisconnectedError, NotSentError, TransportError
from byok_signer.kms.http1 import AnswerTooLongError, render_headers
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
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.begun.put_nowait(self.connections)
        self._open.add(writer)
        self.most = max(self.most, len(self._open))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self.script(Peer(reader, writer))
        self._open.discard(writer)
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
        for writer in served._open:  # noqa: SLF001 - its own
            writer.transport.abort()


@contextlib.asynccontextmanager
async def pool(limit: int = 512, idle_limit: float = 20, ca_file: Path | None = None) -> AsyncIterator[Transport]:
    transport = Transport(ca_file, limit=limit, idle_limit=idle_limit)
    try:
        yield transport
    finally:
        await transport.close()


async def post(
    transport: Transport, server: Server, body: bytes = b"x", *, patience: float = 10, fresh: bool = False
) -> bytes:
    return (await transport.post(server.url, HEADERS, body, timeout=patience, fresh=fresh)).body


async def test_a_connection_is_kept_and_used_again_unless_a_fresh_one_is_wanted() -> None:
    async with serving(echo) as server, pool() as transport:
        assert [await post(transport, server, body) for body in (b"a", b"b", b"c" * 9000)] == [b"a", b"b", b"c" * 9000]
        assert server.connections == 1
        assert await post(transport, server, fresh=True) == b"x"
        assert server.connections == 2


async def test_calls_at_the_same_time_have_a_connection_each_and_their_own_answer() -> None:
    async with serving(echo) as server, pool() as transport:
        bodies = [b"%d" % number for number in range(20)]
        assert await asyncio.gather(*(post(transport, server, body) for body in bodies)) == bodies
        assert server.connections == 20


async def closing(peer: Peer) -> None:
    peer.answer(await peer.request(), b"Connection: close")
    await peer.hung_up()


async def saying_too_much(peer: Peer) -> None:
    body = await peer.request()
    peer.answer(body + b"\r\n")
    peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    await peer.hung_up()


@pytest.mark.parametrize("script", [closing, saying_too_much])
async def test_a_connection_that_ends_or_says_too_much_is_not_used_again(script: Script) -> None:
    async with serving(script) as server, pool() as transport:
        for body in (b"a", b"b"):
            assert (await post(transport, server, body)).strip() == body
            await server.wait_for_end()
        assert server.connections == 2


async def test_an_answer_that_nobody_asked_for_kills_the_connection() -> None:
    idle = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.answer(await peer.request())
        await idle.wait()
        peer.answer(b"forged")
        await peer.hung_up()

    async with serving(script) as server, pool() as transport:
        await post(transport, server, b"a")
        idle.set()
        await server.wait_for_end()
        assert await post(transport, server, b"b") == b"b"
        assert server.connections == 2


async def test_a_connection_that_waits_too_long_is_closed() -> None:
    async with serving(echo) as server, pool(idle_limit=0.05) as transport:
        await post(transport, server)
        await server.wait_for_end()
        assert await post(transport, server) == b"x"
        assert server.connections == 2


async def silent(peer: Peer) -> None:
    await peer.hung_up()


async def slow(peer: Peer) -> None:
    await peer.request()
    peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123")
    await peer.hung_up()


@pytest.mark.parametrize("script", [silent, slow])
async def test_a_call_that_gets_no_answer_in_time_gives_its_connection_up(script: Script) -> None:
    async with serving(script) as server, pool(limit=1) as transport:
        for _ in range(2):
            with pytest.raises(TransportError, match=r"no answer of 127\.0\.0\.1 within 0\.\d s") as caught:
                await post(transport, server, patience=0.3)
            assert type(caught.value) is TransportError
            await server.wait_for_end()
        assert server.connections == 2


async def cancel_one(transport: Transport, server: Server) -> None:
    call = asyncio.create_task(post(transport, server))
    await server.begun.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.wait_for_end()


@pytest.mark.parametrize("script", [silent, slow])
async def test_a_call_that_is_cancelled_gives_its_connection_up(script: Script) -> None:
    async with serving(script) as server, pool(limit=1) as transport:
        for _ in range(2):
            await cancel_one(transport, server)
        assert server.connections == 2


async def test_each_call_has_its_own_time_on_a_kept_connection() -> None:
    async def script(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await asyncio.sleep(float(body))
            peer.answer(body)

    async with serving(script) as server, pool() as transport:
        assert await post(transport, server, b"0", patience=0.5) == b"0"
        assert await post(transport, server, b"0.6", patience=10) == b"0.6"
        with pytest.raises(TransportError, match=r"within 0\.\d s"):
            await post(transport, server, b"10", patience=0.1)
        assert server.connections == 1


async def test_no_more_connections_are_made_than_the_limit_and_waiting_for_one_costs_the_calls_time() -> None:
    async with serving(silent) as server, pool(limit=2) as transport:
        holding = [asyncio.create_task(post(transport, server)) for _ in range(2)]
        for _ in holding:
            await server.begun.get()
        with pytest.raises(NotSentError, match="all 2 connections are in use"):
            await post(transport, server, patience=0.1)
        for call in holding:
            call.cancel()
        await asyncio.wait(holding)
        server.script = echo
        bodies = [b"%d" % number for number in range(50)]
        assert await asyncio.gather(*(post(transport, server, body) for body in bodies)) == bodies
        assert server.most == 2


async def test_a_connection_that_waits_makes_room_for_one_to_elsewhere() -> None:
    async with serving(echo) as here, serving(echo) as there, pool(limit=1) as transport:
        for body in (b"a", b"b"):
            assert await post(transport, here, body) == body
            assert await post(transport, there, body) == body
            await here.wait_for_end()
        assert (here.connections, there.connections) == (2, 2)


async def test_no_call_gets_anothers_answer_whatever_is_cancelled_or_late() -> None:
    chance = random.Random(4)  # noqa: S311 - no secret

    async def script(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await asyncio.sleep(chance.choice([0, 0, 0.01]))
            peer.answer(body)

    async with serving(script) as server, pool(limit=8) as transport:
        calls = [
            asyncio.create_task(post(transport, server, b"%d" % number, patience=chance.choice([0.005, 0.02, 10])))
            for number in range(400)
        ]
        for call in chance.sample(calls, 100):
            asyncio.get_running_loop().call_later(chance.random() / 10, call.cancel)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        got = [(number, answer) for number, answer in enumerate(answers) if isinstance(answer, bytes)]
        assert got
        assert all(answer == b"%d" % number for number, answer in got)
        assert {type(answer) for answer in answers} <= {bytes, TransportError, NotSentError, asyncio.CancelledError}
        assert await asyncio.gather(*(post(transport, server, b"z") for _ in range(16))) == [b"z"] * 16
        assert server.most <= 8 + 100  # what is aborted here may still be open there


def breaking_off(sent: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(sent)
        await peer.writer.drain()
        peer.writer.close()

    return script


@pytest.mark.parametrize(
    ("sent", "kind", "said"),
    [
        (b"", DisconnectedError, "closed the connection without an answer"),
        (b"H", TransportError, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345678", TransportError, "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", TransportError, "broke off"),
        (b"HTTP/1.0 200 OK\r\n\r\n", TransportError, "is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", AnswerTooLongError, "^$"),
    ],
)
async def test_how_an_answer_failed_is_told(sent: bytes, kind: type[Exception], said: str) -> None:
    async with serving(breaking_off(sent)) as server, pool(limit=1) as transport:
        for _ in range(2):
            with pytest.raises(kind, match=said) as caught:
                await post(transport, server)
            assert type(caught.value) is kind


async def test_what_was_not_sent_is_told_apart() -> None:
    async with serving(silent) as server, pool() as transport:
        with pytest.raises(NotSentError, match="no time is left"):
            await post(transport, server, patience=0)
        with pytest.raises(NotSentError, match="cannot be resolved"):
            await transport.post(URL(f"http://{'a' * 64}.example/"), HEADERS, b"", timeout=5)
    async with pool() as transport:
        with pytest.raises(NotSentError, match=r"no connection to 127\.0\.0\.1: it refuses"):
            await post(transport, server)


async def test_closing_ends_calls_in_flight_and_lets_none_begin() -> None:
    async with serving(silent) as server, pool() as transport:
        call = asyncio.create_task(post(transport, server))
        await server.begun.get()
        await transport.close()
        with pytest.raises(TransportError):
            await call
        with pytest.raises(NotSentError, match="closed"):
            await post(transport, server)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """Trust, and a server's certificate for localhost, but not for 127.0.0.1."""
    now = datetime.now(UTC)
    made = TlsAuthority.create(now=now)
    issued = made.issue(now=now, names=["localhost"])
    for name, text in (("ca", made.trust_anchor_pem), ("crt", issued.certificate_pem), ("key", issued.key_pem)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    return tmp_path / "ca", context


async def test_over_tls_a_connection_is_kept_too_and_asks_for_http_1_1_by_the_hosts_name(
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    ca_file, tls = authority
    names: list[str | None] = []
    tls.set_alpn_protocols(["h2", "http/1.1"])
    tls.sni_callback = lambda _object, name, _context: names.append(name)
    async with serving(echo, tls) as server, pool(ca_file=ca_file) as transport:
        server.url = server.url.with_host("localhost")
        for body in (b"a", b"b" * 100_000, b"c"):
            assert await post(transport, server, body) == body
        assert (server.connections, names) == (1, ["localhost"])


async def test_who_is_not_trusted_or_speaks_no_tls_is_sent_nothing(authority: tuple[Path, ssl.SSLContext]) -> None:
    ca_file, tls = authority
    async with serving(echo, tls) as server, pool() as trusting_the_systems, pool(ca_file=ca_file) as transport:
        with pytest.raises(NotSentError, match="certificate is not trusted"):
            await post(transport, server)
        server.url = server.url.with_host("localhost")
        assert await post(transport, server) == b"x"
        with pytest.raises(NotSentError, match="certificate is not trusted"):
            await post(trusting_the_systems, server)
    async with serving(breaking_off(b"HTTP/1.1 400 X\r\n\r\n")) as server, pool(ca_file=ca_file) as transport:
        server.url = server.url.with_scheme("https")
        with pytest.raises(NotSentError, match="no connection"):
            await post(transport, server, patience=1)


async def test_a_handshake_that_hangs_is_given_up_in_time(authority: tuple[Path, ssl.SSLContext]) -> None:
    async with serving(silent) as server, pool(limit=1, ca_file=authority[0]) as transport:
        server.url = server.url.with_scheme("https")
        for _ in range(2):
            with pytest.raises(NotSentError, match="does not answer in time"):
                await post(transport, server, patience=0.1)
            await server.wait_for_end()


@pytest.mark.parametrize("script", [silent, slow])
async def test_over_tls_a_call_that_is_cancelled_gives_its_connection_up(
    script: Script, authority: tuple[Path, ssl.SSLContext]
) -> None:
    ca_file, tls = authority
    async with serving(script, tls) as server, pool(limit=1, ca_file=ca_file) as transport:
        server.url = server.url.with_host("localhost")
        for _ in range(2):
            await cancel_one(transport, server)
