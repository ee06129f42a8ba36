"""What a signer waits for before it can serve, and why it is not ready, from its first moment to its last.

In a cluster things come in any order: the Secret of the TLS certificate is filled after the pod was started, and the
signer before, whose volume this one takes over, may still be writing its last records. Neither is a reason to crash.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence

from byok_api.errors import Refusal
from byok_service.setting_types import Stdout
from byok_service.settings import SettingsError
from byok_signer.audit import AuditSink, FileAuditSink, StdoutAuditSink
from byok_signer.settings import Settings
from byok_signer.tls import are_there, problem_with

LOCK_SECONDS = 60.0
"""How long another process may hold the audit file: a signer that was told to end has gone by then."""
_LOOK = 0.25
_LOG = logging.getLogger(__name__)

Look = Callable[[], Sequence[str]]
"""Says why the signer cannot serve; empty if it can."""


class Readiness:
    """Why the signer is not ready; empty while it serves and all that it needs is there."""

    def __init__(self) -> None:
        self._stage: tuple[str, ...] = ("it is starting",)
        self._looks: list[Look] = []

    def reasons(self) -> list[str]:
        """List what is in the way, for the probe."""
        return [*self._stage, *(reason for look in self._looks for reason in look())]

    def watch(self, look: Look) -> None:
        """Ask this too from now on."""
        self._looks.append(look)

    def waits_for(self, what: str) -> None:
        """Say what the start waits for; each thing is logged once, however often it is said."""
        if self._stage != (what,):
            self._stage = (what,)
            _LOG.warning("waiting to serve", extra={"waits_for": what})

    def serves(self) -> None:
        """Say that the start is over."""
        self._stage = ()

    def stops(self) -> None:
        """Say that the end has begun."""
        self._stage = ("it is about to stop",)


async def wait_for_tls(settings: Settings, readiness: Readiness) -> None:
    """Wait until certificate and key can be served, if one of them is not there yet.

    Files that are there from the first and cannot be used are for the server to refuse: no waiting mends them.
    """
    pair = settings.tls_cert_file, settings.tls_key_file
    if pair[0] is None or pair[1] is None or are_there(pair[0], pair[1]):
        return
    while problem := problem_with(pair[0], pair[1]):
        readiness.waits_for(problem)
        await asyncio.sleep(_LOOK)


async def open_audit(settings: Settings, readiness: Readiness, *, patience: float = LOCK_SECONDS) -> AuditSink:
    """Begin this replica's chain; waits for a file that another signer holds. SettingsError for one that is no use."""
    until = time.monotonic() + patience
    while True:
        try:
            return _sink(settings)
        except Refusal as refusal:
            if refusal.retry_after is None or time.monotonic() >= until:
                raise SettingsError(f"--audit: {refusal.message}") from None
            readiness.waits_for(refusal.message)
            await asyncio.sleep(refusal.retry_after)


def _sink(settings: Settings) -> AuditSink:
    pod = settings.pod_name or ""
    if isinstance(settings.audit, Stdout):
        return StdoutAuditSink(sys.stdout.buffer, pod=pod)
    return FileAuditSink(settings.audit, pod=pod)
