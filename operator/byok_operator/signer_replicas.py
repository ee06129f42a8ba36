"""One replica of the signer: probes are asked of it, and one stream tells what it sees of keys while it signs.

What it said is true for as long as the stream lives: a replica that is lost has no health any more. Only where the
stream ended because its token did, what was said stays until the next stream begins, or fails to.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
import grpc.aio

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_operator.observations import Probe, ReplicaHealth
from byok_operator.probing import ProbeRequest
from byok_operator.signer_answers import CallFailedError, failed_call, health_in, probe_in
from byok_operator.signer_channels import Endpoint, SignerDoor, UnusableFileError

_LOG = logging.getLogger(__name__)
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to watch a replica, doubled each time."""
_FIRST_WORD = 15.0
"""Seconds in which a stream that was opened must say something."""
KEYS_LIMIT = 20_000
"""Keys of which a replica's health is kept; it remembers half as many itself."""

Changed = Callable[[Iterable[ObjectName]], None]


@dataclass(frozen=True)
class Ears:
    """Who is told what a replica is up to."""

    changed: Changed
    """Of which keys it says something else."""
    came: Callable[[], None]
    """That it is heard of, and was not before."""
    troubled: asyncio.Event
    """Set when its stream breaks: perhaps it has gone elsewhere, or has a new certificate."""


class Replica:
    """One endpoint, of which `ears` are told what changes."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, door: SignerDoor, ears: Ears) -> None:
        self.endpoint = endpoint
        self._channel = channel
        self._door = door
        self._ears = ears
        self._stub: rpc.KeyProbeAsyncStub = rpc.KeyProbeStub(channel)
        self._health: dict[ObjectName, ReplicaHealth] = {}
        self._watching: asyncio.Task[None] | None = None
        self._complaint = ""
        self.name = str(endpoint)
        """What the replica calls itself, once it has said so."""
        self.connected = False
        """Whether its stream lives."""

    def watch(self) -> None:
        """Begin to watch it, once."""
        self._watching = asyncio.create_task(self._keep_watching())

    def health_of(self, name: ObjectName) -> ReplicaHealth | None:
        """Give what it sees of a key."""
        return self._health.get(name)

    async def close(self, grace: float) -> None:
        """Watch it no more, and forget what it said; probes under way are let end within some seconds."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        self._lose()
        await self._channel.close(grace)

    async def probe(self, request: ProbeRequest, *, timeout: float) -> Probe:  # noqa: ASYNC109 - it is told to the signer
        """Have a key probed; CallFailedError."""
        asked_at = datetime.now(UTC)
        message = pb.ProbeKeyRequest(
            namespace=request.name.namespace,
            name=request.name.name,
            generation=request.generation,
            least_privilege=request.least_privilege,
            uid=request.uid,
        )
        try:
            response = await self._stub.ProbeKey(message, metadata=self._metadata(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise failed_call(error, str(self.endpoint)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC's way to say that the channel was closed.
            found = f"the signer at {self.endpoint} was given up while it was asked"
            raise CallFailedError(Reason.SignerUnreachable.name, found) from None
        return probe_in(response, asked_at, replica=self.name)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        try:
            return (("authorization", f"Bearer {self._door.token()}"),)
        except UnusableFileError as error:
            raise CallFailedError(Reason.TokenMissing.name, str(error)) from None

    async def _keep_watching(self) -> None:
        failures = 0
        while True:
            failure = await self._watch_once()
            failures = 1 if self.connected else failures + 1
            self.connected = False
            renewing = failure.reason == Reason.TokenExpired.name and failures == 1
            if not renewing:
                self._lose()
                self._complain(failure)
            pause = 0.0 if renewing else min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(failures - 1, 16))
            await asyncio.sleep(max(failure.retry_after or 0.0, pause * random.uniform(0.5, 1)))  # noqa: S311 - it only spreads retries

    async def _watch_once(self) -> CallFailedError:
        """Watch until the stream ends, and say why."""
        try:
            await self._read()
        except CallFailedError as failure:
            return failure
        except grpc.aio.AioRpcError as error:
            return failed_call(error, str(self.endpoint))
        except Exception:  # noqa: BLE001 - a bug that one replica brings out must not end the watch of it for ever
            _LOG.exception("a watch broke off", extra={"signer": str(self.endpoint)})
            return CallFailedError(
                Reason.Internal.name, "the operator could not read what the signer says; see its log"
            )
        return CallFailedError(Reason.SignerUnreachable.name, f"the signer at {self.endpoint} ended its stream")

    async def _read(self) -> None:
        call = self._stub.WatchHealth(pb.WatchHealthRequest(), metadata=self._metadata())
        try:
            try:
                async with asyncio.timeout(_FIRST_WORD):
                    message = await call.read()
            except TimeoutError:
                found = f"the signer at {self.endpoint} said nothing for {_FIRST_WORD:g} s"
                raise CallFailedError(Reason.SignerUnreachable.name, found) from None
            while isinstance(message, pb.WatchHealthResponse):
                self._take(message)
                message = await call.read()
        finally:
            call.cancel()

    def _take(self, message: pb.WatchHealthResponse) -> None:
        is_new = not self.connected
        self.name, self.connected, self._complaint = message.replica or str(self.endpoint), True, ""
        if is_new:
            _LOG.info("watching a signer", extra={"signer": str(self.endpoint), "replica": message.replica})
            self._ears.came()
        told = dict(health_in(health, self.name) for health in message.keys)
        if message.snapshot:
            told = dict.fromkeys(self._health) | told
        self._ears.changed([name for name, health in told.items() if self._put(name, health)])

    def _put(self, name: ObjectName, health: ReplicaHealth | None) -> bool:
        """Keep what is said of a key; True if it is news, as it also is that a key was verified again."""
        before = self._health.get(name)
        if health is None:
            self._health.pop(name, None)
        elif before is not None or len(self._health) < KEYS_LIMIT:
            self._health[name] = health
        return before != health

    def _lose(self) -> None:
        lost, self._health = list(self._health), {}
        self.connected = False
        if lost:
            self._ears.changed(lost)

    def _complain(self, failure: CallFailedError) -> None:
        self._ears.troubled.set()
        if failure.reason != self._complaint:
            self._complaint = failure.reason
            extra = {"signer": str(self.endpoint), "reason": failure.reason, "found": failure.message}
            _LOG.warning("a signer is not heard of", extra=extra)
