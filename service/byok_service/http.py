"""The plaintext side door: `/metrics` for Prometheus, `/livez` and `/readyz` for the kubelet, nothing else.

Liveness says that the event loop runs; readiness that the service itself can work. Neither looks at what key owners
cause. Whoever says nothing, or reads nothing, is let go, and the one who came first when too many have come.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from aiohttp import web

from byok_service.setting_types import TcpAddress
from byok_service.settings import SettingsError

_CONNECTIONS = 64
"""Open at once; a kubelet and a few Prometheus have a handful."""
_PATIENCE = 30.0
"""Seconds to wait for a connection's first request, and then for each next one."""

_EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Exposition = Callable[[], bytes]
"""All metrics in Prometheus' text format, 0.0.4."""

Ready = Callable[[], Sequence[str]]
"""Says why the service is not ready; empty if it is."""


class HttpServer:
    """A running HTTP server, and the port that it listens on."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and end open connections."""
        self._server.close()
        await self._runner.cleanup()


async def serve_http(address: TcpAddress, exposition: Exposition, ready: Ready) -> HttpServer:
    """Serve metrics and probes on `address`; SettingsError if it cannot be bound."""
    runner = web.AppRunner(
        _application(exposition, ready), access_log=None, shutdown_timeout=1, keepalive_timeout=_PATIENCE
    )
    await runner.setup()
    if runner.server is None:
        raise AssertionError("a runner that was set up has a server")
    try:
        server = await asyncio.get_running_loop().create_server(_admitting(runner.server), address.host, address.port)
    except OSError as error:
        await runner.cleanup()
        raise SettingsError(f"--http-listen {address}: cannot be bound: {error.strerror or error}") from error
    return HttpServer(runner, server)


def _admitting(serve: web.Server) -> Callable[[], asyncio.Protocol]:
    def admit() -> asyncio.Protocol:
        present = [connection.transport for connection in serve.connections if connection.transport is not None]
        if len(present) >= _CONNECTIONS:
            # The one that came first, whose user connects again. Not closed: that would wait until it has read all.
            present[0].abort()
        return serve()

    return admit


def _application(exposition: Exposition, ready: Ready) -> web.Application:
    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": _EXPOSITION_TYPE})

    async def get_livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def get_readyz(_: web.Request) -> web.Response:
        reasons = ready()
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ok\n")

    # None of these takes a body.
    application = web.Application(client_max_size=1024)
    application.router.add_get("/metrics", get_metrics)
    application.router.add_get("/livez", get_livez)
    application.router.add_get("/readyz", get_readyz)
    return application
