"""Events of the kinds' objects, told in the background: none of them holds up, or fails, a reconcile.

There is room for so many; beyond that the newest are dropped and counted, as the API server's own clients do. A status
says all that matters again, an event only that it changed.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from byok_api.fields import API_VERSION
from byok_api.objects import Identity
from byok_operator.transitions import Event
from byok_service.kubernetes import EVENTS, JsonObject, KubernetesApi, KubernetesError

_LOG = logging.getLogger(__name__)
CONTROLLER: Final = "byok.dev/operator"
_ACTION: Final = "Reconcile"
_ROOM = 1000
_PER_SECOND = 10.0
_NAME_LIMIT = 253
_INSTANCE_LIMIT = 128


@dataclass(frozen=True)
class Told:
    """An event and the object that it is about."""

    identity: Identity
    uid: str
    event: Event
    at: datetime


class EventWriter:
    """Writes events one after the other; `dropped` is called for each for which there was no room."""

    def __init__(self, api: KubernetesApi, *, instance: str, dropped: Callable[[], None]) -> None:
        """`instance` is this process's name, such as its pod's."""
        self._api = api
        self._instance = instance[:_INSTANCE_LIMIT]
        self._dropped = dropped
        self._queue: asyncio.Queue[Told] = asyncio.Queue(_ROOM)

    def tell(self, identity: Identity, uid: str, event: Event) -> None:
        """Have an event written soon."""
        try:
            self._queue.put_nowait(Told(identity, uid, event, datetime.now(UTC)))
        except asyncio.QueueFull:
            self._dropped()

    async def run(self) -> None:
        """Write what is told, so many a second at most."""
        while True:
            told = await self._queue.get()
            await self._write(told)
            await asyncio.sleep(1 / _PER_SECOND)

    async def flush(self, patience: float) -> None:
        """Write what is left, for at most `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                while not self._queue.empty():
                    await self._write(self._queue.get_nowait())
        except TimeoutError:
            _LOG.info("events were left untold", extra={"count": self._queue.qsize()})

    async def _write(self, told: Told) -> None:
        kind, name = told.identity
        try:
            await self._api.create(EVENTS, manifest(told, self._instance), namespace=name.namespace)
        except KubernetesError as error:
            # Also that of a namespace which ends, where nothing can be created any more.
            _LOG.warning(
                "an event could not be written",
                extra={"kind": kind, "object": str(name), "reason": told.event.reason, "cause": str(error)},
            )


def manifest(told: Told, instance: str) -> JsonObject:
    """Make the object (Kubernetes API reference, events.k8s.io/v1)."""
    kind, name = told.identity
    suffix = f".{secrets.token_hex(8)}"
    return {
        "apiVersion": EVENTS.api_version,
        "kind": "Event",
        "metadata": {"name": name.name[: _NAME_LIMIT - len(suffix)].rstrip("-.") + suffix, "namespace": name.namespace},
        "eventTime": told.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": _ACTION,
        "reason": told.event.reason,
        "type": told.event.type.value,
        "note": told.event.note,
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": kind,
            "namespace": name.namespace,
            "name": name.name,
            "uid": told.uid,
        },
    }
