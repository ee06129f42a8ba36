"""Metrics and probes over a real socket."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from byok_service.http import HttpServer, serve_http
from byok_service.setting_types import TcpAddress
from byok_service.settings import SettingsError
from byok_signer.metrics import Metrics
from tests.support.signer import DEADLINE
from tests.support.slow_clients import connect_tcp

LOOPBACK = TcpAddress("127.0.0.1", 0)


@pytest.fixture
def obstacles() -> list[str]:
    """Why the server under test is not ready."""
    return []


@pytest.fixture
async def server(obstacles: list[str]) -> AsyncIterator[HttpServer]:
    metrics = Metrics()
    metrics.unauthenticated()
    async with await serve_http(LOOPBACK, metrics.exposition, lambda: obstacles) as server:
        yield server


async def _get(server: HttpServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with (
        ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}") as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_metrics_are_served_in_prometheus_text_format(server: HttpServer) -> None:
    status, content_type, body = await _get(server, "/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "byok_signer_unauthenticated_total 1.0\n" in body
    assert "process_resident_memory_bytes" in body


async def test_alive_and_ready_answer_200(server: HttpServer) -> None:
    assert (await _get(server, "/livez"))[0] == 200
    assert (await _get(server, "/readyz"))[0] == 200


async def test_not_ready_answers_503_with_the_reasons_and_stays_alive(server: HttpServer, obstacles: list[str]) -> None:
    obstacles.extend(["catalogue: not loaded yet", "audit: disk full"])
    status, _, body = await _get(server, "/readyz")
    assert (status, body) == (503, "catalogue: not loaded yet\naudit: disk full\n")
    assert (await _get(server, "/livez"))[0] == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 405)])
async def test_nothing_else_is_served(server: HttpServer, method: str, path: str, status: int) -> None:
    assert (await _get(server, path, method))[0] == status


async def test_an_address_that_cannot_be_bound_is_refused_by_name(server: HttpServer) -> None:
    with pytest.raises(SettingsError, match=rf"--http-listen 127\.0\.0\.1:{server.port}: cannot be bound"):
        await serve_http(TcpAddress("127.0.0.1", server.port), Metrics().exposition, list)


async def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_service.http._PATIENCE", 0.2)
    for begun in (b"", b"GET /livez HT"):
        async with await serve_http(LOOPBACK, Metrics().exposition, list) as server, asyncio.timeout(DEADLINE):
            connection = await connect_tcp(server.port)
            await connection.send(begun)
            await connection.closed()
            connection.writer.close()


async def test_of_too_many_connections_the_first_goes(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_service.http._CONNECTIONS", 3)
    silent = [await connect_tcp(server.port) for _ in range(3)]
    assert (await _get(server, "/livez"))[0] == 200
    async with asyncio.timeout(DEADLINE):
        await silent[0].closed()
    for connection in silent:
        connection.writer.close()


async def test_a_request_without_end_is_refused(server: HttpServer) -> None:
    connection = await connect_tcp(server.port)
    await connection.send(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        assert (await connection.reader.readline()).startswith(b"HTTP/1.0 400")
    connection.writer.close()
