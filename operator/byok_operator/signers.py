"""The signers: which there are now, whom to ask for the next probe, and what each sees of keys while it signs."""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_operator.observations import Probe, ProbeFailure, ReplicaHealth
from byok_operator.probing import ProbeRequest
from byok_operator.signer_answers import CallFailedError
from byok_operator.signer_channels import Endpoint, Resolve, SignerDoor, UnusableFileError, open_channel
from byok_operator.signer_replicas import Changed, Ears, Replica
from byok_service.names import resolve_tcp

_LOG = logging.getLogger(__name__)
LOOK_EVERY = 10.0
"""Seconds between two look-ups of names and CA file."""
_LOOKS_APART = 1.0
"""Seconds between two when a signer was lost, or a name has no addresses."""
PING_SECONDS = 20.0
"""A connection on which nothing came for so long is asked whether its other end lives, which must answer in half of it.

The signer bears a ping every ten seconds.
"""
_PROBE_SECONDS = 30.0
"""For a probe, with all that is tried again."""
_NONE_SECONDS = 5.0
"""Of these, for the first signer to be found."""
_CALL_SECONDS = 20.0
"""For one signer to make it: four calls of KMS at most."""
_LAST_SECONDS = 1.0
"""For channels to be closed when nobody is asked any more."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds before another replica is asked in place of one that did not answer, doubled each time that all were."""


class Signers:
    """All signers behind a door; to be run in one task, and asked from any of the same loop.

    `changed` is told of the keys of which some replica says something new, those of a replica that was lost included;
    and, when a replica comes, of those that nobody could be asked about before.
    """

    def __init__(
        self,
        door: SignerDoor,
        *,
        changed: Changed,
        resolve: Resolve = resolve_tcp,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self._door = door
        self._resolve = resolve
        self._ping_seconds = ping_seconds
        self._replicas: dict[Endpoint, Replica] = {}
        self._trusted: bytes | None = None
        self._failure = "their names were not looked up yet"
        """Why not all signers are known; empty if they are."""
        self._there = asyncio.Event()
        """Set while there are signers."""
        self._trouble = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._unanswered: set[ObjectName] = set()
        self._came_at: datetime | None = None
        self._ears = Ears(changed, self._came, self._trouble)

    @property
    def known(self) -> int:
        """Count the signers that there are."""
        return len(self._replicas)

    @property
    def connected(self) -> int:
        """Count those whose health is being watched."""
        return sum(replica.connected for replica in self._replicas.values())

    @property
    def came_at(self) -> datetime | None:
        """When a replica was last heard of that was not before."""
        return self._came_at

    async def run(self) -> None:
        """Keep track of the signers, and watch each, until cancelled."""
        try:
            while True:
                found = await self._look()
                await asyncio.sleep(_LOOKS_APART)
                if found:
                    await self._wait_for_trouble(LOOK_EVERY - _LOOKS_APART)
        finally:
            self._give_up(*self._replicas, grace=0)
            if self._closing:
                _, slow = await asyncio.wait(self._closing, timeout=_LAST_SECONDS)
                for closing in slow:
                    closing.cancel()

    def health_of(self, name: ObjectName) -> list[ReplicaHealth]:
        """List what each replica that is connected sees of a key while it signs."""
        found = [(replica, health) for replica in self._replicas.values() if (health := replica.health_of(name))]
        count = Counter(health.replica for _, health in found)
        # Processes on one machine have one host name.
        return [
            health if count[health.replica] == 1 else replace(health, replica=f"{health.replica} ({replica.endpoint})")
            for replica, health in found
        ]

    async def ask(self, request: ProbeRequest) -> Probe | ProbeFailure:
        """Have a key probed by one of the replicas, each in turn; where one does not answer, by another.

        Asked again where a signer says that waiting helps, for half a minute at most.
        """
        answer = await self._ask(request)
        if isinstance(answer, ProbeFailure):
            self._unanswered.add(request.name)
        else:
            self._unanswered.discard(request.name)
        return answer

    async def _ask(self, request: ProbeRequest) -> Probe | ProbeFailure:
        asked_at, until = datetime.now(UTC), time.monotonic() + _PROBE_SECONDS
        try:
            async with asyncio.timeout(_NONE_SECONDS):
                await self._there.wait()
        except TimeoutError:
            return ProbeFailure(asked_at, Reason.SignerUnreachable.name, f"there is no signer: {self._failure}")
        tries, silent = 0, set[Endpoint]()
        while True:
            replica = self._next(silent)
            if replica is None:
                return ProbeFailure(asked_at, Reason.SignerUnreachable.name, f"there is no signer: {self._failure}")
            try:
                return await replica.probe(request, timeout=min(_CALL_SECONDS, until - time.monotonic()))
            except CallFailedError as error:
                failure = error
            silent = silent | {replica.endpoint} if failure.is_transport_failure else set()
            pause = self._pause_after(failure, silent, tries)
            if pause is None or time.monotonic() + pause >= until - _PAUSE:
                return ProbeFailure(asked_at, failure.reason, failure.message)
            tries += 1
            await asyncio.sleep(pause)

    def _came(self) -> None:
        self._came_at, names, self._unanswered = datetime.now(UTC), self._unanswered, set()
        self._ears.changed(names)

    def _pause_after(self, failure: CallFailedError, silent: set[Endpoint], tries: int) -> float | None:
        later = min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(tries, 16))
        if failure.retry_after is not None:
            return max(failure.retry_after, later)
        if not failure.is_transport_failure:
            return None
        if silent >= self._replicas.keys():
            silent.clear()
            return later
        return 0.0

    def _next(self, silent: set[Endpoint]) -> Replica | None:
        """Choose whom to ask: each in turn, rather one that is heard of, and none that has just not answered."""
        self._turn += 1
        order = sorted(self._replicas)
        start = self._turn % len(order) if order else 0
        candidates = [self._replicas[endpoint] for endpoint in order[start:] + order[:start] if endpoint not in silent]
        return next((replica for replica in candidates if replica.connected), next(iter(candidates), None))

    async def _wait_for_trouble(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._trouble.wait()
        except TimeoutError:
            return
        self._trouble.clear()

    async def _look(self) -> bool:
        """Take names and CA file as they are now; False if not all can be had: what cannot stays as it was."""
        faults: list[str] = []
        trusted = self._trusted
        try:
            trusted = self._door.trusted()
        except UnusableFileError as error:
            faults.append(str(error))
        endpoints, unresolved = await self._door.endpoints(self._resolve)
        faults += unresolved
        self._note(faults)
        if trusted is None:
            return False
        if trusted != self._trusted:
            self._give_up(*self._replicas)
        elif not unresolved:
            self._give_up(*(self._replicas.keys() - endpoints))
        self._trusted = trusted
        for endpoint in sorted(endpoints - self._replicas.keys()):
            channel = open_channel(endpoint, trusted, ping_seconds=self._ping_seconds)
            replica = Replica(endpoint, channel, self._door, self._ears)
            self._replicas[endpoint] = replica
            replica.watch()
        if self._replicas:
            self._there.set()
        return not faults

    def _note(self, faults: list[str]) -> None:
        found = "; ".join(faults)
        if found and found != self._failure:
            _LOG.warning("not all signers can be looked up; the last ones stay", extra={"found": found})
        self._failure = found

    def _give_up(self, *endpoints: Endpoint, grace: float = _PROBE_SECONDS) -> None:
        for endpoint in endpoints:
            closing = asyncio.create_task(self._replicas.pop(endpoint).close(grace))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
