"""Over TLS connections are made, kept and given up as without; who is not trusted is sent nothing."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from byok_sandbox.ca import TlsAuthority
from byok_signer.kms.connection import NotSentError
from tests.support.peers import (
    Peer,
    Script,
    breaking_off,
    cancel_one,
    echo,
    pool,
    post,
    serving,
    silent,
    slow,
)


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
                await post(transport, server, patience=1)
            await server.wait_for_end()


@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_connection_that_the_other_side_closed_while_it_waited_is_not_used(
    over_tls: bool,  # noqa: FBT001 - one of the two rows
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    ca_file, tls = authority
    hang_up = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.answer(await peer.request())
        await hang_up.wait()
        peer.writer.close()

    async with serving(script, tls if over_tls else None) as server, pool(ca_file=ca_file) as transport:
        server.url = server.url.with_host("localhost")
        await post(transport, server)
        hang_up.set()
        async with asyncio.timeout(10):
            while transport.connections:  # noqa: ASYNC110 - nobody is told of an end that nobody waits for
                await asyncio.sleep(0.01)
        hang_up.clear()
        assert await post(transport, server) == b"x"
        assert server.connections == 2


@pytest.mark.parametrize("script", [silent, slow])
async def test_over_tls_a_call_that_is_cancelled_gives_its_connection_up(
    script: Script, authority: tuple[Path, ssl.SSLContext]
) -> None:
    ca_file, tls = authority
    async with serving(script, tls) as server, pool(limit=1, ca_file=ca_file) as transport:
        server.url = server.url.with_host("localhost")
        for _ in range(2):
            await cancel_one(transport, server)
