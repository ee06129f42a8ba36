"""KeyProbe.WatchHealth: who may watch which keys' health, and what each watcher is told until its token expires.

Token and right are looked at again for every message, and while there is none every half minute.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.access import OwnNamespaceAccess, Right
from byok_signer.authentication import Caller
from byok_signer.authorization import KEYS, PROBE
from byok_signer.edge import shutting_down
from byok_signer.health import KeyHealth, Watch
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.probe import CheckOutcome
from byok_signer.work import Call

KEYS_LIMIT = 256
"""Keys in one message."""
_APART = 0.1
"""Seconds between two messages: what changes meanwhile is told together."""
_CHECK_AGAIN = 30.0
_MESSAGE_LIMIT = 1024
"""Bytes."""
_OUTCOMES = {
    None: pb.ProbeResult.OUTCOME_UNSPECIFIED,
    CheckOutcome.PASSED: pb.ProbeResult.PASSED,
    CheckOutcome.FAILED: pb.ProbeResult.FAILED,
    CheckOutcome.UNKNOWN: pb.ProbeResult.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class OpenWatch:
    """A watcher that was let in."""

    call: Call
    write: Callable[[pb.WatchHealthResponse], Awaitable[None]]
    """Sends a response and waits until there is room for the next."""


class HealthWatchers:
    """All who watch."""

    def __init__(self, ports: Ports, pipeline: Pipeline, *, replica: str) -> None:
        self._ports = ports
        self._pipeline = pipeline
        self._replica = replica
        self._open: set[Watch] = set()

    def stop(self) -> None:
        """Have every watch end."""
        for watch in self._open:
            watch.end()

    async def watch(self, opened: OpenWatch) -> None:
        """Tell everything that is known, then what changes; Refusal ends it."""
        caller, namespace = await self._admit(opened.call)
        with self._pipeline.health.watching(namespace) as watch:
            self._open.add(watch)
            try:
                async with asyncio.timeout(self._pipeline.seconds_left(caller)):
                    await self._tell(opened, watch)
            except TimeoutError:
                message = "the token has expired, and the watch ends with it; open one with a fresh one"
                raise Refusal(Reason.TokenExpired, message) from None
            finally:
                self._open.discard(watch)
        raise shutting_down("watch again, and another one answers")

    async def _tell(self, opened: OpenWatch, watch: Watch) -> None:
        # The first message is there even if nothing is known: it says that whatever was known before is no more.
        health, snapshot = watch.take(KEYS_LIMIT), True
        while not watch.ended:
            if health or snapshot:
                message = pb.WatchHealthResponse(
                    replica=self._replica, snapshot=snapshot, keys=(_message_of(state) for state in health)
                )
                await opened.write(message)
                snapshot = False
            if len(health) < KEYS_LIMIT:
                await asyncio.sleep(_APART)
                await watch.stirred(_CHECK_AGAIN)
            await self._admit(opened.call)
            health = watch.take(KEYS_LIMIT)

    async def _admit(self, call: Call) -> tuple[Caller, str | None]:
        """Find out who watches, and the only namespace whose keys are told, if not all are."""
        caller = await self._pipeline.authenticate(call)
        async with self._pipeline.recording_refusals(call, caller):
            return caller, await self._scope_of(caller)

    async def _scope_of(self, caller: Caller) -> str | None:
        if isinstance(self._ports.access, OwnNamespaceAccess):
            # Without a cluster nobody can be given a right to all namespaces.
            return caller.namespace
        decision = await self._ports.access.check(caller, Right(PROBE, KEYS, None))
        if not decision.allowed:
            raise Refusal(
                Reason.ProbeNotAllowed,
                f"{caller.username} may not probe the keys of all namespaces, and so not watch their health; bind a "
                "ClusterRole with the verb probe on byokkeys cluster-wide, or probe single keys",
            )
        return None


def _message_of(health: KeyHealth) -> pb.KeyHealth:
    text = health.message.encode(errors="replace")[:_MESSAGE_LIMIT].decode(errors="ignore")
    return pb.KeyHealth(
        namespace=health.name.namespace,
        name=health.name.name,
        generation=health.generation,
        outcome=_OUTCOMES[health.outcome],
        reason=health.reason.name if health.reason else "",
        message=text,
        since=_timestamp(health.since),
        last_verified=_timestamp(health.last_verified) if health.last_verified else None,
    )


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
