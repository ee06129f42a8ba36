"""What the signer and those who call it trust each other by, kept by whoever leads."""

import asyncio
import logging
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from byok_operator.certificate_keeper import CertificateKeeper
from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.signer_channels import UnusableFileError, read_trusted

_LOG = logging.getLogger(__name__)
_INTERVAL = 15
"""Seconds between two looks."""
_GLANCE = 1.0
"""Seconds between two glances at whether a consumer's namespace has appeared, which costs nothing."""


class Trust:
    """Runs the keepers; without one for certificates, consumers learn from `ca_file` whose CA it is."""

    def __init__(self, certificates: CertificateKeeper | None, consumers: ConsumerKeeper, *, ca_file: Path) -> None:
        self._certificates = certificates
        self._consumers = consumers
        self._ca_file = ca_file
        self._said: tuple[str, ...] = ()

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
        problems: list[str] = []
        if self._certificates:
            await self._certificates.refresh(self._consumers.known)
            problems += self._certificates.problems
        await self._consumers.refresh(await self._bundle(problems))
        problems += self._consumers.problems
        for problem in problems:
            if problem not in self._said:
                _LOG.error("certificates or consumers not kept", extra={"found": problem})
        self._said = tuple(problems)

    async def _bundle(self, problems: list[str]) -> bytes | None:
        if self._certificates:
            return self._certificates.bundle
        if not self._consumers.listed:
            return None
        try:
            return _certificates_in(await asyncio.to_thread(read_trusted, self._ca_file))
        except UnusableFileError as error:
            problems.append(f"consumers are told of no CA: --signer-ca-file {error}")
            return None


def _certificates_in(data: bytes) -> bytes:
    """Leave out what is not for everybody's eyes: such a file may hold words in any encoding, or a key."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in load_pem_x509_certificates(data))
