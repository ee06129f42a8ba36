"""How a connection is made: to one of a name's addresses, or through a proxy, which looks names up itself."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, TypeVar

from yarl import URL

from byok_service.names import resolve_tcp
from byok_service.proxies import Proxies, Proxy
from byok_signer.kms.connection import Connection, NotSentError
from byok_signer.kms.http1 import HeaderLines
from byok_signer.kms.tunnel import RefusedError, Tunnel, render_connect

_NEXT_ADDRESS_AFTER = 1.0
"""Seconds before a name's next address is tried."""

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class _Names:
    """Looks names up, each once for all who ask meanwhile: a resolver that hangs holds up nothing but connections."""

    def __init__(self) -> None:
        self._lookups: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str) -> list[str]:
        """List the addresses of a name; OSError, UnicodeError."""
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = asyncio.create_task(resolve_tcp(host))
            lookup.add_done_callback(lambda _: self._lookups.pop(host))
        return await asyncio.shield(lookup)

    def close(self) -> None:
        """Look no more names up."""
        for lookup in self._lookups.values():
            lookup.cancel()


class _Place(NamedTuple):
    host: str
    port: int
    tls: bool


class Dialer:
    """Makes connections, by a proxy where one is to be used; must be used from one event loop."""

    def __init__(self, tls: ssl.SSLContext, proxies: Proxies, common: HeaderLines) -> None:
        self._tls = tls
        self._proxies = proxies
        self._common = common
        self._names = _Names()

    async def dial(self, url: URL, make: Callable[[], Connection], deadline: float) -> Connection:
        """Connect to an origin by a time of the loop's clock; NotSentError says what is in the way."""
        place = _Place(url.raw_host or "", url.port or 0, url.scheme == "https")
        proxy = self._proxies.of(url)
        if proxy is not None:
            return await self._dial_through(proxy, place, make, deadline)
        async with _trying(f"no connection to {place.host}", deadline):
            _, connection = await self._reach(place, make)
        return connection

    def close(self) -> None:
        """Look no more names up."""
        self._names.close()

    async def _dial_through(
        self, proxy: Proxy, place: _Place, make: Callable[[], Connection], deadline: float
    ) -> Connection:
        """Have the proxy make a tunnel, and speak TLS through it: the proxy sees nothing but host and port."""
        async with _trying(f"no connection to the proxy {proxy}", deadline):
            transport, tunnel = await self._reach(_Place(proxy.host, proxy.port, proxy.scheme == "https"), Tunnel)
        target = f"[{place.host}]:{place.port}" if ":" in place.host else f"{place.host}:{place.port}"
        try:
            async with _trying(f"the proxy {proxy} makes no connection to {target}", deadline):
                await tunnel.ask(render_connect(target, proxy, self._common))
            connection = make()
            # Until TLS stands it hears only of the end, and can only abort.
            connection.connection_made(transport)
            async with _trying(f"no connection to {place.host} through the proxy {proxy}", deadline):
                connection.connection_made(await self._start_tls(transport, connection, place.host))
        except BaseException:
            transport.abort()
            raise
        return connection

    async def _start_tls(
        self, transport: asyncio.Transport, connection: Connection, host: str
    ) -> asyncio.BaseTransport:
        loop = asyncio.get_running_loop()
        over_tls = await loop.start_tls(transport, connection, self._tls, server_hostname=host)
        if over_tls is None:
            # It ended as soon as it stood.
            raise ConnectionResetError
        return over_tls

    async def _reach(self, place: _Place, make: Callable[[], _Protocol]) -> tuple[asyncio.Transport, _Protocol]:
        """Try a name's addresses in turn: asyncio's race between them leaves sockets open when it is cancelled."""
        loop = asyncio.get_running_loop()
        tls, name = (self._tls, place.host) if place.tls else (None, None)
        *others, last = await self._names.resolve(place.host)
        for address in others:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_NEXT_ADDRESS_AFTER):
                    return await loop.create_connection(make, address, place.port, ssl=tls, server_hostname=name)
        return await loop.create_connection(make, last, place.port, ssl=tls, server_hostname=name)


@contextlib.asynccontextmanager
async def _trying(failure: str, deadline: float) -> AsyncIterator[None]:
    """Turn whatever stops the block into NotSentError, of the same beginning."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except (OSError, UnicodeError, RefusedError) as error:
        raise NotSentError(f"{failure}: {_cause(error)}") from error


def _cause(error: OSError | UnicodeError | RefusedError) -> str:
    match error:
        case RefusedError():
            return str(error)
        case TimeoutError():
            return "it does not answer in time"
        case ssl.SSLError():
            return "TLS failed, or its certificate is not trusted"
        case socket.gaierror() | UnicodeError():
            return "its name cannot be resolved"
        case _:
            return "it refuses or does not answer"
