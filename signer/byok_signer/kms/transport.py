"""One POST and its answer, over a pool of kept connections; knows nothing of KMS.

Own code over asyncio, for aiohttp takes three times as long: docs/decisions/0015-own-http1.md.
"""
# ruff: noqa: ASYNC109 - the timeout is the caller's, and differs from call to call

import asyncio
import ssl
from collections import Counter, defaultdict
from pathlib import Path

from yarl import URL

from byok_service.proxies import DIRECT, Proxies
from byok_signer.kms.connection import Connection, NotSentError
from byok_signer.kms.dialing import Dialer
from byok_signer.kms.http1 import HeaderLines, HttpAnswer, render_headers, render_request

_CONNECTIONS = 96
"""To each origin, so that one which hangs holds up no other. Enough for 1,000 a second at 96 ms; each costs 0.3 MB."""
_KEEP_ALIVE = 20.0
# CloudTrail shows it beside every call.
_USER_AGENT = render_headers({"User-Agent": "byok-signer"})


class Transport:
    """The pool survives the cancellation of any call; must be used from one event loop."""

    def __init__(
        self,
        ca_file: Path | None,
        *,
        proxies: Proxies = DIRECT,
        limit: int = _CONNECTIONS,
        idle_limit: float = _KEEP_ALIVE,
    ) -> None:
        tls = ssl.create_default_context(cafile=ca_file)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.set_alpn_protocols(["http/1.1"])
        self._dialer = Dialer(tls, proxies, _USER_AGENT)
        self._limit = limit
        self._idle_limit = idle_limit
        self._slots: defaultdict[URL, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limit))
        """By origin; there are no more of them than the installation's Regions and endpoints."""
        self._busy: Counter[URL] = Counter()
        self._open: set[Connection] = set()
        self._kept: dict[URL, list[Connection]] = {}
        """Those that wait for a request, by origin, the last used last."""
        self._closed = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def post(
        self, url: URL, headers: HeaderLines, body: bytes, *, timeout: float, fresh: bool = False
    ) -> HttpAnswer:
        """Send `body` and read the whole answer within `timeout` seconds; TransportError, AnswerTooLongError.

        `headers` are all but User-Agent and Content-Length; `fresh` asks for a connection that is used the first time.
        """
        if timeout <= 0:
            raise NotSentError("no time is left")
        deadline = asyncio.get_running_loop().time() + timeout
        slots = self._slots[url]
        if slots.locked():
            await self._wait_for_slot(slots, url, deadline)
        else:
            await slots.acquire()
        self._busy[url] += 1
        connection = None
        try:
            connection = None if fresh else self._take_kept(url)
            if connection is None:
                connection = await self._connect(url, deadline)
            return await connection.exchange(render_request(_USER_AGENT, headers, body), deadline)
        finally:
            self._busy[url] -= 1
            slots.release()
            self._release(connection)

    async def close(self) -> None:
        """Close all connections; calls in flight fail."""
        self._closed = True
        ended = [connection.ended for connection in self._open]
        for connection in tuple(self._open):
            connection.abort()
        self._dialer.close()
        await asyncio.gather(*ended)

    async def _wait_for_slot(self, slots: asyncio.Semaphore, url: URL, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await slots.acquire()
        except TimeoutError as error:
            raise NotSentError(f"all {self._limit} connections to {url.host} are in use") from error

    def _take_kept(self, url: URL) -> Connection | None:
        kept = self._kept.get(url)
        while kept:
            connection = kept.pop()
            if connection.usable:
                return connection
        return None

    def _release(self, connection: Connection | None) -> None:
        if connection is None:
            return
        if connection.usable:
            self._kept.setdefault(connection.origin, []).append(connection)
        else:
            connection.abort()

    async def _connect(self, url: URL, deadline: float) -> Connection:
        if self._closed:
            raise NotSentError("the pool is closed")
        self._make_room(url)
        connection = await self._dialer.dial(url, lambda: Connection(url, self._forget, self._idle_limit), deadline)
        if connection.ended.done():
            raise NotSentError(f"no connection to {url.host}: it hangs up at once")
        self._open.add(connection)
        if self._closed:
            connection.abort()
            raise NotSentError("the pool is closed")
        return connection

    def _make_room(self, url: URL) -> None:
        """Keep an origin's connections to the limit where a fresh one is made in spite of those that wait."""
        kept = self._kept.get(url)
        if kept and self._busy[url] + len(kept) > self._limit:
            kept.pop(0).abort()

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        kept = self._kept.get(connection.origin, [])
        if connection in kept:
            kept.remove(connection)
