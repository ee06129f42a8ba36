"""What the signer and those who call it trust each other by, kept by whoever leads."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from byok_operator.certificate_keeper import CertificateKeeper
from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.signer_channels import UnusableFileError, read_trusted

_LOG = logging.getLogger(__name__)
_INTERVAL = 15
"""Seconds between two looks."""
_GLANCE = 1.0
"""Seconds between two glances at whether there is something new for consumers, which costs nothing."""


class Trust:
    """Runs the keepers; without one for certificates, consumers learn from `ca_file` whose CA it is.

    `seconds` is a clock that never goes back.
    """

    def __init__(
        self,
        certificates: CertificateKeeper | None,
        consumers: ConsumerKeeper,
        *,
        ca_file: Path,
        seconds: Callable[[], float],
    ) -> None:
        self._certificates = certificates
        self._consumers = consumers
        self._ca_file = ca_file
        self._seconds = seconds
        self._said: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look at all of it, and mend what differs, forever."""
        while True:
            await self.refresh()
            for _ in range(_INTERVAL):
                await asyncio.sleep(_GLANCE)
                if self._consumers.has_news:
                    break

    async def refresh(self) -> None:
        """Look once: the CA first, and then what is told of it."""
        problems: dict[str, Exception | None] = {}
        for look in (self._look_at_certificates, self._look_at_consumers):
            try:
                problems |= dict.fromkeys(await look())
            except Exception as error:  # noqa: BLE001 - others wrote what is read here, and keys are proven without it
                problems[f"{look.__name__.strip('_')} failed: {type(error).__name__}; report this bug"] = error
        for problem, bug in problems.items():
            if problem not in self._said:
                _LOG.error("certificates or consumers not kept", extra={"found": problem}, exc_info=bug)
        self._said = frozenset(problems)

    async def _look_at_certificates(self) -> tuple[str, ...]:
        if self._certificates is None:
            return ()
        await self._certificates.refresh(self._consumers.known)
        return self._certificates.problems

    async def _look_at_consumers(self) -> tuple[str, ...]:
        unusable: list[str] = []
        await self._consumers.refresh(await self._bundle(unusable), seconds=self._seconds())
        return (*unusable, *self._consumers.problems)

    async def _bundle(self, problems: list[str]) -> bytes | None:
        if self._certificates:
            return self._certificates.bundle
        if not self._consumers.listed:
            return None
        try:
            return await asyncio.to_thread(read_trusted, self._ca_file)
        except UnusableFileError as error:
            problems.append(f"consumers are told of no CA: --signer-ca-file {error}")
            return None
