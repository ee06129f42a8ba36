"""One active operator: whoever holds the Lease, by rules that no clock but one's own is needed for.

A candidate takes the Lease once it has *seen* it unchanged for the Lease's own duration; the holder stops by itself
well before. Neither trusts the times written in it. The official client's elector is not used: in version 37 one
refused connection ends it, and a hanging request leaves it leading beyond its Lease.
"""

import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from byok_service.kubernetes import (
    CONFLICT,
    LEASES,
    NOT_FOUND,
    ApiError,
    JsonObject,
    KubernetesApi,
    KubernetesError,
)

_LOG = logging.getLogger(__name__)
LEASE_NAME = "byok-operator"
_DURATION_LIMIT = 300
"""Seconds; a Lease that claims to last longer is somebody's mistake, and must not keep operators out for good."""


class LeadershipLostError(Exception):
    """The Lease is another's, or could not be renewed in time: this process must end."""


@dataclass(frozen=True)
class Timing:
    """Seconds: the Lease's duration, until the holder gives up, between attempts, and for a request."""

    duration: int = 15
    deadline: float = 10.0
    retry: float = 2.0
    request: float = 4.0


@dataclass(frozen=True)
class View:
    """The Lease as last seen, and since when, by one's own clock, it has looked like that."""

    body: JsonObject | None = field(repr=False)
    since: float

    @property
    def spec(self) -> dict[str, Any]:
        """Its spec; empty if there is no Lease, or a strange one."""
        spec = self.body.get("spec") if self.body else None
        return spec if isinstance(spec, dict) else {}

    @property
    def holder(self) -> str:
        """Who holds it; empty if nobody does."""
        holder = self.spec.get("holderIdentity")
        return holder if isinstance(holder, str) else ""

    def seen(self, body: JsonObject | None, now: float) -> "View":
        """See the Lease again: what has not changed keeps its age."""
        newer = View(body, now)
        return replace(newer, since=self.since) if newer.spec == self.spec and self.body is not None else newer

    def is_free_for(self, identity: str, now: float, timing: Timing) -> bool:
        """Say whether `identity` may take it: it is nobody's, its own, or has not been renewed for its duration."""
        if self.holder in ("", identity):
            return True
        duration = self.spec.get("leaseDurationSeconds")
        seconds = duration if isinstance(duration, int) and 0 < duration <= _DURATION_LIMIT else timing.duration
        return now - self.since >= seconds


def taken(view: View, identity: str, moment: datetime, timing: Timing) -> JsonObject:
    """Make the Lease by which `identity` takes it, or renews it (coordination.k8s.io/v1 LeaseSpec)."""
    spec, stamp = view.spec, moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    transitions = spec.get("leaseTransitions", 0)
    renewal = view.holder == identity
    return _with_spec(
        view.body,
        {
            "holderIdentity": identity,
            "leaseDurationSeconds": timing.duration,
            "acquireTime": spec.get("acquireTime", stamp) if renewal else stamp,
            "renewTime": stamp,
            "leaseTransitions": (transitions if isinstance(transitions, int) else 0)
            + (view.body is not None and not renewal),
        },
    )


def released(view: View, moment: datetime) -> JsonObject:
    """Make the Lease by which its holder gives it up."""
    renewed = {"renewTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "leaseDurationSeconds": 1}
    return _with_spec(view.body, {**view.spec, **renewed, "holderIdentity": ""})


def identity_of_process() -> str:
    """Make a name that no other process has, and that an operator's pod can be found by."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(frozen=True)
class Clock:
    """Seconds that never go back, and a way to let some pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Elector:
    """Takes the Lease of one namespace, and holds it: `acquire`, then `hold`, then `release`."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        *,
        identity: str,
        timing: Timing = Timing(),
        clock: Clock = Clock(),
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._timing = timing
        self._clock = clock
        self._view = View(None, clock.now())
        self._renewed_at: float | None = None

    @property
    def leading(self) -> bool:
        """Whether this process may write now: it renewed the Lease within the deadline."""
        return self._renewed_at is not None and self._clock.now() - self._renewed_at < self._timing.deadline

    async def acquire(self) -> None:
        """Wait until the Lease is this process's; whatever goes wrong is tried again."""
        while not await self._attempt(self._take):
            await self._clock.sleep(self._timing.retry * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        _LOG.info("leading", extra={"lease": f"{self._namespace}/{LEASE_NAME}", "identity": self._identity})

    async def hold(self) -> None:
        """Renew the Lease until that fails for too long, or it is another's: LeadershipLostError."""
        while self.leading:
            await self._clock.sleep(self._timing.retry)
            if self.leading:
                await self._attempt(self._renew)
        self._renewed_at = None
        holder = self._view.holder or "nobody"
        raise LeadershipLostError(f"lost the Lease {self._namespace}/{LEASE_NAME}; its holder, as last seen: {holder}")

    async def release(self) -> None:
        """Give the Lease up, if this process leads, so that the next one need not wait; best effort."""
        if self.leading:
            self._renewed_at = None
            await self._attempt(self._release)

    async def _attempt(self, step: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(self._timing.request):
                return await step()
        except (KubernetesError, TimeoutError) as error:
            _LOG.warning("the Lease could not be read or written", extra={"cause": str(error) or "timed out"})
            return False

    async def _take(self) -> bool:
        await self._look()
        if not self._view.is_free_for(self._identity, self._clock.now(), self._timing):
            return False
        return await self._write_own()

    async def _renew(self) -> bool:
        if await self._write_own():
            return True
        await self._look()
        if self._view.holder == self._identity or self._view.body is None:
            # An earlier renewal whose answer was lost, or somebody edited or deleted the Lease: it is still ours.
            return await self._write_own()
        self._renewed_at = None
        return False

    async def _look(self) -> None:
        try:
            body: JsonObject | None = await self._api.get(LEASES, self._namespace, LEASE_NAME)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            body = None
        self._view = self._view.seen(body, self._clock.now())

    async def _write_own(self) -> bool:
        """Write the Lease as ours; say whether it now is: False if somebody else wrote in between."""
        # The moment before, since nobody knows when within the request it took effect.
        started = self._clock.now()
        body = taken(self._view, self._identity, datetime.now(UTC), self._timing)
        try:
            stored = await self._write(body)
        except ApiError as error:
            if error.status not in (CONFLICT, NOT_FOUND):
                raise
            return False
        self._view = View(stored, self._clock.now())
        self._renewed_at = started
        return True

    async def _release(self) -> bool:
        await self._write(released(self._view, datetime.now(UTC)))
        return True

    async def _write(self, body: JsonObject) -> JsonObject:
        body["metadata"] |= {"name": LEASE_NAME, "namespace": self._namespace}
        if self._view.body is not None:
            return await self._api.replace(LEASES, body)
        return (await self._api.create(LEASES, body, namespace=self._namespace)).body


def _with_spec(body: JsonObject | None, spec: dict[str, Any]) -> JsonObject:
    head = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": {}}
    return {**head, **(body or {}), "metadata": {**(body or {}).get("metadata", {})}, "spec": spec}
