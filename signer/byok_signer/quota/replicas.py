"""How many signers share a quota: the addresses behind the name of their headless Service, looked up now and then."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from byok_service.names import resolve_tcp

LOOK_EVERY = 10.0
"""Seconds between two look-ups."""
_LOOK_TIMEOUT = 5.0
_LOG = logging.getLogger(__name__)

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Looks up the IP addresses of a host; OSError if that fails."""


class Replicas:
    """The number of signers, this one included: calling it gives the present one, at least 1.

    Without a host it stays what it was at first. With one it is counted anew every ten seconds from `start` on; while
    that fails, the last count stands.
    """

    def __init__(
        self, count: int, *, host: str | None, resolve: Resolve = resolve_tcp, every: float = LOOK_EVERY
    ) -> None:
        self._count = max(1, count)
        self._host = host
        self._resolve = resolve
        self._every = every
        self._failure: str | None = None
        self._looking: asyncio.Task[None] | None = None

    def __call__(self) -> int:
        """Give the present count."""
        return self._count

    async def start(self) -> None:
        """Count for the first time, for five seconds at most, then go on in the background."""
        if self._host is not None:
            await self._look(self._host)
            self._looking = asyncio.create_task(self._keep_looking(self._host))

    async def close(self) -> None:
        """Stop counting."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _keep_looking(self, host: str) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._look(host)

    async def _look(self, host: str) -> None:
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT):
                addresses = set(await self._resolve(host))
        except (OSError, UnicodeError) as error:
            self._failed(host, type(error).__name__ if isinstance(error, TimeoutError) else str(error))
            return
        # A pod of a dual-stack cluster has an address of each kind.
        of_ipv6 = sum(":" in address for address in addresses)
        found = max(of_ipv6, len(addresses) - of_ipv6)
        if found == 0:
            self._failed(host, "no addresses")
            return
        if self._failure is not None or found != self._count:
            _LOG.info("signers counted", extra={"host": host, "replicas": found, "before": self._count})
        self._failure = None
        self._count = found

    def _failed(self, host: str, cause: str) -> None:
        if cause != self._failure:
            self._failure = cause
            _LOG.warning(
                "signers could not be counted; the last count stands",
                extra={"host": host, "replicas": self._count, "cause": cause},
            )
