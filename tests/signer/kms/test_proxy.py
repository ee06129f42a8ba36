"""Through a proxy connections are made, kept, replaced and given up as without, and what it refuses is told."""

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from yarl import URL

from byok_sandbox.ca import TlsAuthority
from byok_service.proxies import Proxies, Proxy
from byok_signer.kms.connection import DisconnectedError, NotSentError, TransportError
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.peers import Peer, Script, Server, cancel_one, echo, pool, post, serving, silent, slow
from tests.testenv.ports import refusing_port

TARGET = "kms.example:443"


@dataclass(frozen=True)
class Tls:
    """Trust, and certificates for kms.example and for proxies of this machine."""

    ca_file: Path
    kms: ssl.SSLContext
    proxy: ssl.SSLContext


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    now = datetime.now(UTC)
    made = TlsAuthority.create(now=now)
    (tmp_path / "ca").write_text(made.trust_anchor_pem)
    contexts = []
    for name in ("kms.example", "localhost"):
        issued = made.issue(now=now, names=[name])
        (tmp_path / name).write_text(issued.certificate_pem + issued.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / name)
        contexts.append(context)
    return Tls(tmp_path / "ca", *contexts)


def through(proxy: ConnectProxy, *, scheme: str = "http", user: str = "") -> Proxies:
    return Proxies.parse(Proxy.parse(f"{scheme}://{user}localhost:{proxy.port}"), "direct.example")


def placed(server: Server, proxy: ConnectProxy) -> Server:
    """Have the server be kms.example, which only the proxy knows."""
    proxy.places[TARGET] = server.url.port or 0
    server.url = URL(f"https://{TARGET}/")
    return server


async def test_a_connection_through_a_proxy_is_kept_and_the_proxy_sees_host_and_port_alone(tls: Tls) -> None:
    async with serving(echo, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        async with pool(ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            for body in (b"a", b"b" * 100_000, b"c"):
                assert await post(transport, server, body) == body
            assert await post(transport, server, fresh=True) == b"x"
    request = "CONNECT kms.example:443 HTTP/1.1\r\nUser-Agent: byok-signer\r\nHost: kms.example:443\r\n\r\n"
    assert proxy.asked == [request] * 2


async def test_a_proxy_can_itself_be_spoken_to_over_tls_and_is_sent_nothing_if_it_is_not_trusted(tls: Tls) -> None:
    async with serving(echo, tls.kms) as server, connect_proxy(tls.proxy) as proxy:
        placed(server, proxy)
        proxies = through(proxy, scheme="https", user="u:p@")
        async with pool(ca_file=tls.ca_file, proxies=proxies) as transport:
            for body in (b"a", b"b" * 100_000):
                assert await post(transport, server, body) == body
        async with pool(proxies=proxies) as transport:
            with pytest.raises(NotSentError, match=r"no connection to the proxy https://localhost:\d+: TLS failed"):
                await post(transport, server)
    assert proxy.targets == [TARGET]


async def test_credentials_go_to_the_proxy_and_no_further_and_are_told_to_nobody(tls: Tls) -> None:
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.reader.readuntil(b"\r\n\r\n"))
        await peer.reader.readexactly(1)
        peer.answer(b"x")

    async with serving(script, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        proxy.authorization = "Basic dTpodXNo"
        async with pool(ca_file=tls.ca_file, proxies=through(proxy, user="u:hush@")) as transport:
            assert await post(transport, server) == b"x"
        async with pool(ca_file=tls.ca_file, proxies=through(proxy, user="u:wrong@")) as transport:
            with pytest.raises(NotSentError, match="status 407, it wants user and password") as caught:
                await post(transport, server)
    assert b"roxy" not in heads[0]
    assert "wrong" not in str(caught.value)


async def test_a_host_of_no_proxy_is_reached_directly(tls: Tls) -> None:
    async with connect_proxy() as proxy, pool(ca_file=tls.ca_file, proxies=through(proxy)) as transport:
        server = Server(echo, url=URL("https://direct.example/"))
        with pytest.raises(NotSentError, match=r"no connection to direct\.example"):
            await post(transport, server)
    assert proxy.asked == []


REFUSED = [
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "it answers with status 403, it forbids that"),
    (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", "it answers with status 502, it cannot reach that"),
    (b"HTTP/1.1 504 \r\n\r\n", "it answers with status 504, it cannot reach that in time"),
    (b"HTTP/1.1 302 Found\r\nLocation: https://login.example\r\n\r\n", "it answers with status 302$"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403\r\n\r\n", "it answers with status 403"),
    (b"HTTP/1.1 200 OK\r\n\r\nforged", "it sends more than its answer"),
    (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "what it answers is not HTTP"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "what it answers is not HTTP"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "what it answers is not HTTP"),
]


@pytest.mark.parametrize(("answer", "said"), REFUSED)
async def test_what_a_proxy_refuses_is_told_and_nothing_stays_open(answer: bytes, said: str, tls: Tls) -> None:
    async with serving(echo, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        proxy.answer = answer
        async with pool(limit=1, ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            for _ in range(2):
                with pytest.raises(NotSentError, match=rf"^the proxy http://localhost:\d+ makes .* {TARGET}: {said}"):
                    await post(transport, server)
                await proxy.wait_for_end()
            assert (transport.connections, server.connections) == (0, 0)


async def test_a_proxy_that_is_not_there_or_hangs_up_is_told(tls: Tls) -> None:
    async with connect_proxy() as proxy:
        server = placed(Server(echo, url=URL("https://127.0.0.1:1/")), proxy)
        async with pool(ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            call = asyncio.create_task(post(transport, server))
            proxy.answer = b""
            while not proxy.asked:  # noqa: ASYNC110 - the proxy tells nobody
                await asyncio.sleep(0.01)
            proxy.hang_up()
            with pytest.raises(NotSentError, match="it hangs up without an answer"):
                await call
    with refusing_port() as port:
        async with pool(ca_file=tls.ca_file, proxies=through(ConnectProxy(port=port))) as transport:
            with pytest.raises(NotSentError, match=r"no connection to the proxy http://localhost:\d+: it refuses"):
                await post(transport, server)
    nowhere = Proxies.parse(Proxy.parse(f"http://{'a' * 64}.example:1"), "")
    async with pool(ca_file=tls.ca_file, proxies=nowhere) as transport:
        with pytest.raises(NotSentError, match=r"no connection to the proxy .*: its name cannot be resolved"):
            await post(transport, server)


async def test_a_proxy_that_does_not_answer_costs_the_calls_time_and_no_more(tls: Tls) -> None:
    async with serving(echo, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        proxy.answer = b"HTTP/1.1 200 "
        async with pool(limit=1, ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            with pytest.raises(NotSentError, match=r"makes no connection .*: it does not answer in time"):
                await post(transport, server, patience=1)
            await proxy.wait_for_end()


async def test_who_is_behind_the_proxy_must_be_trusted_and_answer_in_time(tls: Tls) -> None:
    async with (
        serving(echo, tls.proxy) as other,
        serving(silent) as deaf,
        connect_proxy() as proxy,
        pool(limit=1, ca_file=tls.ca_file, proxies=through(proxy)) as transport,
    ):
        with pytest.raises(NotSentError, match=r"no connection to kms\.example through the proxy .*not trusted"):
            await post(transport, placed(other, proxy))
        await proxy.wait_for_end()
        with pytest.raises(NotSentError, match=r"through the proxy .*: it does not answer in time"):
            await post(transport, placed(deaf, proxy), patience=1.5)
        await proxy.wait_for_end()
        assert transport.connections == 0


async def test_a_tunnel_that_ended_while_it_waited_is_replaced(tls: Tls) -> None:
    async with serving(echo, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        async with pool(ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            await post(transport, server)
            proxy.hang_up()
            async with asyncio.timeout(10):
                while transport.connections:  # noqa: ASYNC110 - nobody is told of an end that nobody waits for
                    await asyncio.sleep(0.01)
            assert await post(transport, server) == b"x"
    assert proxy.targets == [TARGET] * 2


async def hanging_up(peer: Peer) -> None:
    await peer.request()


async def test_an_end_behind_the_proxy_before_an_answer_is_told_as_without(tls: Tls) -> None:
    async with serving(hanging_up, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        async with pool(ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            with pytest.raises(DisconnectedError):
                await post(transport, server)


@pytest.mark.parametrize("script", [silent, slow])
async def test_a_call_that_is_cancelled_or_late_gives_its_tunnel_up(script: Script, tls: Tls) -> None:
    async with serving(script, tls.kms) as server, connect_proxy() as proxy:
        placed(server, proxy)
        async with pool(limit=1, ca_file=tls.ca_file, proxies=through(proxy)) as transport:
            await cancel_one(transport, server)
            await proxy.wait_for_end()
            with pytest.raises(TransportError, match="no answer of"):
                await post(transport, server, patience=1)
            await proxy.wait_for_end()
            assert transport.connections == 0
