"""Connections are kept, limited and given up so that no call gets another's answer, whatever happens to it."""

import asyncio
import random
import socket
import threading

import pytest
from yarl import URL

from byok_signer.kms.connection import DisconnectedError, NotSentError, TransportError
from byok_signer.kms.http1 import AnswerTooLongError
from tests.support.peers import (
    HEADERS,
    Peer,
    Script,
    Server,
    breaking_off,
    cancel_one,
    echo,
    pool,
    post,
    serving,
    silent,
    slow,
)
from tests.testenv.ports import refusing_port


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


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"H", b"\r\n"])
async def test_what_nobody_asked_for_kills_the_connection(unasked: bytes) -> None:
    idle = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.answer(await peer.request())
        await idle.wait()
        peer.writer.write(unasked)
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


@pytest.mark.parametrize("script", [silent, slow])
async def test_a_call_that_gets_no_answer_in_time_gives_its_connection_up(script: Script) -> None:
    async with serving(script) as server, pool(limit=1) as transport:
        for _ in range(2):
            with pytest.raises(TransportError, match=r"no answer of 127\.0\.0\.1 within [01]\.\d s") as caught:
                await post(transport, server, patience=1)
            assert type(caught.value) is TransportError
            await server.wait_for_end()
        assert server.connections == 2


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
        assert await post(transport, server, b"0", patience=1) == b"0"
        assert await post(transport, server, b"1.2", patience=10) == b"1.2"
        with pytest.raises(TransportError, match=r"within [01]\.\d s"):
            await post(transport, server, b"10", patience=1)
        assert server.connections == 1


async def test_no_more_connections_are_made_than_the_limit_and_waiting_for_one_costs_the_calls_time() -> None:
    async with serving(silent) as server, pool(limit=2) as transport:
        holding = [asyncio.create_task(post(transport, server)) for _ in range(2)]
        for _ in holding:
            await server.begun.get()
        with pytest.raises(NotSentError, match=r"all 2 connections to .* are in use"):
            await post(transport, server, patience=0.1)
        for call in holding:
            call.cancel()
        await asyncio.wait(holding)
        server.script = echo
        bodies = [b"%d" % number for number in range(50)]
        assert await asyncio.gather(*(post(transport, server, body) for body in bodies)) == bodies
        assert server.most == 2


async def test_an_origin_that_hangs_holds_up_no_other() -> None:
    async with serving(silent) as here, serving(echo) as there, pool(limit=1) as transport:
        holding = asyncio.create_task(post(transport, here))
        await here.begun.get()
        assert await post(transport, there, b"a") == b"a"
        holding.cancel()
        await asyncio.wait([holding])


async def test_a_fresh_connection_takes_the_place_of_one_that_waits() -> None:
    async with serving(echo) as server, pool(limit=1) as transport:
        await post(transport, server, b"a")
        await post(transport, server, b"b", fresh=True)
        await server.wait_for_end()
        assert (server.connections, transport.connections) == (2, 1)


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
    with refusing_port() as port:
        async with pool() as transport:
            with pytest.raises(NotSentError, match=r"no connection to 127\.0\.0\.1: it refuses"):
                await post(transport, Server(echo, url=URL(f"http://127.0.0.1:{port}/")))


async def test_a_resolver_that_hangs_holds_up_nothing_but_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = [], threading.Event()

    def resolve(host: str, *_: object, **__: object) -> object:
        asked.append(host)
        assert go.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with pool() as transport:
        url = URL("http://kms.example/")
        calls = [asyncio.create_task(transport.post(url, HEADERS, b"", timeout=10)) for _ in range(99)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "not held up") == "not held up"
        calls[0].cancel()
        go.set()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert (asked, type(ends[0])) == (["kms.example"], asyncio.CancelledError)
    assert {str(end) for end in ends[1:]} == {"no connection to kms.example: its name cannot be resolved"}


async def test_closing_ends_calls_in_flight_and_lets_none_begin() -> None:
    async with serving(silent) as server, pool() as transport:
        call = asyncio.create_task(post(transport, server))
        await server.begun.get()
        await transport.close()
        with pytest.raises(TransportError):
            await call
        with pytest.raises(NotSentError, match="closed"):
            await post(transport, server)
