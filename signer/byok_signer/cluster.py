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
_MANY = 100
"""So many changes are taken in as a whole rather than one by one."""


@dataclass(frozen=True, eq=False)
class Seen:
    """An object as it was last read; `stamp` is the same for as long as nothing has changed that is read here."""

    identity: Identity
    stamp: object
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
        self._dirty: set[Identity] = set()
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
                self._dirty.add(identity)
            for item in there.values():
                self._note(item)
            self._wake.set()

        def changed(item: Seen | None) -> None:
            if item is not None and self._note(item):
                self._wake.set()

        def deleted(item: Seen | None) -> None:
            if item is not None and self._seen.pop(item.identity, None) is not None:
                self._dirty.add(item.identity)
                self._wake.set()

        return Sink(replaced, changed, deleted)

    def _note(self, item: Seen) -> bool:
        if self._seen.get(item.identity) is item:
            return False
        self._seen[item.identity] = item
        self._dirty.add(item.identity)
        return True

    async def _take_in_forever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_BATCH_SECONDS)
            if not all(reflector.synced for reflector in self._reflectors):
                # Half of it would refuse what the other half makes good.
                self._wake.clear()
                continue
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            if dirty or not self._taken_in:
                batch = {identity: self._seen.get(identity) for identity in dirty}
                everything = dict(self._seen) if len(batch) > _MANY else None
                # In a thread: thousands of certificates take seconds to read.
                await asyncio.to_thread(self._take_in, batch, everything)
            self._taken_in = True

    def _take_in(self, batch: Mapping[Identity, Seen | None], everything: Mapping[Identity, Seen] | None) -> None:
        if everything is not None:
            concerned = self._inventory.replace_all(*_sorted(everything))
        else:
            concerned = frozenset().union(*(self._apply(identity, seen) for identity, seen in batch.items()))
        for seen in batch.values():
            if seen is not None and isinstance(seen.found, Unreadable):
                _LOG.error("object not taken", extra={"found": seen.found.message})
        self._catalogue = updated_catalogue(self._catalogue, self._inventory, concerned, self._rules)
        self._changed(self._catalogue)

    def _apply(self, identity: Identity, seen: Seen | None) -> frozenset[Identity]:
        kind, name = identity
        if kind == _NAMESPACE:
            labels = seen.found.labels if seen is not None and isinstance(seen.found, Namespace) else None
            return self._inventory.describe_namespace(name.name, labels)
        if seen is None or isinstance(seen.found, Namespace):
            return self._inventory.remove(kind, name)
        return self._inventory.put(seen.found)


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
    stamp = tuple(metadata.get(part) for part in ("uid", "generation", "creationTimestamp", "labels"))
    before = seen.get(identity)
    if before is not None and before.stamp == stamp:
        return before
    try:
        found: Object | Unreadable = parse_object(body, "cluster")
    except ManifestError as error:
        found = unreadable(body, identity, error)
    return Seen(identity, stamp, found)


def _sorted(everything: Mapping[Identity, Seen]) -> tuple[list[Known], dict[str, Mapping[str, str]]]:
    objects: list[Known] = []
    labels: dict[str, Mapping[str, str]] = {}
    for identity, seen in everything.items():
        if isinstance(seen.found, Namespace):
            labels[identity[1].name] = seen.found.labels
        elif identity[0] != _NAMESPACE:
            objects.append(seen.found)
    return objects, labels
