"""The catalogue from a cluster: keys, recipes and namespaces' labels, followed as they change.

Unlike a folder's broken file, an object that cannot be read takes the place of what was there before: the API server
has refused what its CRD can tell, so what is left was written for another version of this signer, or by force.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from byok_api.byokkey import KeyState
from byok_api.inventory import KEY, RECIPE, Inventory, Known
from byok_api.manifests import ManifestError
from byok_api.objects import Identity, Namespace, Object, Unreadable, parse_object, unreadable
from byok_api.references import ObjectName
from byok_service.kubernetes import BYOK_KEYS, NAMESPACES, SIGNING_RECIPES, JsonObject, KubernetesApi
from byok_service.reflector import Reflector, Sink
from byok_signer.decisions import Rules, updated_catalogue
from byok_signer.entries import Catalogue

_LOG = logging.getLogger(__name__)
_NAMESPACE = "Namespace"
_KINDS = {KEY: BYOK_KEYS, RECIPE: SIGNING_RECIPES, _NAMESPACE: NAMESPACES}
_BATCH_SECONDS = 0.05
"""Changes that come within this time are taken in together."""
_PORTION = 200
"""So many changes are taken in at once: what is withdrawn meanwhile waits for no more than these."""
_READ_PARTS = ("uid", "generation", "creationTimestamp", "deletionTimestamp", "labels")
"""Parts of metadata of which one is another whenever anything has changed that is read here."""


@dataclass(frozen=True, eq=False)
class Seen:
    """An object as it was last read; `stamp` is the same for as long as nothing has changed that is read here."""

    identity: Identity
    stamp: object
    withdrawn: bool
    """Whether it says of itself that it is not to be used any more: deactivated, or being deleted."""
    found: Object | Unreadable


class ClusterCatalogue:
    """Holds the catalogue of a cluster; `watch` keeps it up to date.

    `changed` is called in a worker thread. `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        api: KubernetesApi,
        rules: Rules,
        *,
        changed: Callable[[Catalogue], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._changed = changed
        self._inventory = Inventory(rules)
        self._catalogue = Catalogue()
        self._seen: dict[Identity, Seen] = {}
        self._dirty: dict[Identity, None] = {}
        """In the order in which they changed."""
        self._wake = asyncio.Event()
        self._taken_in = False
        self._reflectors = [
            Reflector(api, resource, read=self._reader(kind), sink=self._sink(kind), clock=clock)
            for kind, resource in _KINDS.items()
        ]

    @property
    def synced(self) -> bool:
        """Whether everything that was there has been taken in once: no sooner may the signer answer."""
        return self._taken_in

    def confirmed_at(self) -> float:
        """Tell when, by the clock, the API server last spoke of the collection of which it has spoken least lately."""
        moments = [reflector.confirmed_at for reflector in self._reflectors]
        return min(-inf if moment is None else moment for moment in moments)

    def current(self) -> Catalogue:
        """Return the catalogue as last taken in."""
        return self._catalogue

    async def watch(self) -> None:
        """Follow the cluster forever."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            tasks.create_task(self._take_in_forever())

    def _reader(self, kind: str) -> Callable[[JsonObject], Seen | None]:
        return lambda body: read(kind, body, self._seen)

    def _sink(self, kind: str) -> Sink[Seen | None]:
        def replaced(items: list[Seen | None]) -> None:
            there = {item.identity: item for item in items if item is not None}
            for identity in [known for known in self._seen if known[0] == kind and known not in there]:
                del self._seen[identity]
                self._dirty[identity] = None
            for item in there.values():
                self._note(item)
            self._wake.set()

        def changed(item: Seen | None) -> None:
            if item is not None and self._note(item):
                self._wake.set()

        def deleted(item: Seen | None) -> None:
            if item is not None and self._seen.pop(item.identity, None) is not None:
                self._dirty[item.identity] = None
                self._wake.set()

        return Sink(replaced, changed, deleted)

    def _note(self, item: Seen) -> bool:
        if self._seen.get(item.identity) is item:
            return False
        self._seen[item.identity] = item
        self._dirty[item.identity] = None
        return True

    async def _take_in_forever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_BATCH_SECONDS)
            self._wake.clear()
            # Half of it would refuse what the other half makes good.
            if all(reflector.synced for reflector in self._reflectors):
                await self._take_in_some()
                if self._dirty:
                    self._wake.set()

    async def _take_in_some(self) -> None:
        """Take in what has changed: at first all of it, from then on a portion of what is most urgent."""
        portion = self._urgent_first()[: _PORTION if self._taken_in else None]
        batch = {identity: self._seen.get(identity) for identity in portion}
        for identity in portion:
            del self._dirty[identity]
        if batch or not self._taken_in:
            # In a thread: thousands of certificates take seconds to read.
            await asyncio.to_thread(self._take_in, batch)
        self._taken_in = True

    def _urgent_first(self) -> list[Identity]:
        """Order what has changed: what is gone or withdrawn, then the rest, each as it came."""
        return sorted(self._dirty, key=lambda identity: not _is_withdrawn(self._seen.get(identity)))

    def _take_in(self, batch: Mapping[Identity, Seen | None]) -> None:
        objects: dict[Identity, Known | None] = {}
        labels: dict[str, Mapping[str, str] | None] = {}
        for identity, seen in batch.items():
            found = seen.found if seen is not None else None
            if isinstance(found, Unreadable):
                _LOG.error("object not taken", extra={"found": found.message})
            if identity[0] == _NAMESPACE:
                labels[identity[1].name] = found.labels if isinstance(found, Namespace) else None
            elif not isinstance(found, Namespace):
                objects[identity] = found
        concerned = self._inventory.change(objects, labels)
        self._catalogue = updated_catalogue(self._catalogue, self._inventory, concerned, self._rules)
        self._changed(self._catalogue)


def read(kind: str, body: JsonObject, seen: Mapping[Identity, Seen]) -> Seen | None:
    """Read an object of the API server, or find it unchanged; None for what has no name, which it never sends. Pure."""
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        return None
    namespace, name = metadata.get("namespace", ""), metadata.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str):
        return None
    identity = kind, ObjectName(namespace, name)
    # `status`, and what keeps it, say nothing here; a namespace has no generation, but only its labels are read.
    stamp = tuple(metadata.get(part) for part in _READ_PARTS)
    before = seen.get(identity)
    if before is not None and before.stamp == stamp:
        return before
    try:
        found: Object | Unreadable = parse_object(body, "cluster")
    except ManifestError as error:
        found = unreadable(body, identity, error)
    return Seen(identity, stamp, _says_withdrawn(body, metadata), found)


def _says_withdrawn(body: JsonObject, metadata: JsonObject) -> bool:
    spec = body.get("spec")
    deactivated = isinstance(spec, dict) and spec.get("state", KeyState.ACTIVE) != KeyState.ACTIVE
    return deactivated or metadata.get("deletionTimestamp") is not None


def _is_withdrawn(seen: Seen | None) -> bool:
    return seen is None or seen.withdrawn
