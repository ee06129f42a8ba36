"""What the operator knows of the cluster: specs in an Inventory, and beside them what reconciling needs of each object.

Events tell what changed; lists of our own tell what is there at all, since a watch that broke says nothing of what was
deleted meanwhile. Everything here runs on one event loop, so nothing is half changed when it is read.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from byok_api.fields import API_VERSION
from byok_api.inventory import Inventory, Known
from byok_api.manifests import ManifestError
from byok_api.metadata import NAMESPACE_NAME_LABEL
from byok_api.objects import Identity, Namespace, parse_object, unreadable
from byok_api.references import ObjectName
from byok_operator.key_facts import handled_by
from byok_operator.observations import REVERIFY_ANNOTATION
from byok_service.kubernetes import JsonObject

Kind = Literal["ByokKey", "SigningRecipe", "Namespace"]
KINDS: Final[tuple[Kind, ...]] = ("Namespace", "ByokKey", "SigningRecipe")

Wake = Callable[[Iterable[Identity]], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as it was last seen, without its spec, which is in the inventory."""

    uid: str
    generation: int
    version: int
    """resourceVersion; later ones are greater (Kubernetes API concepts, "Resource versions", since 1.35 by promise)."""
    reverify: str | None
    """Value of REVERIFY_ANNOTATION, as far as it is told apart."""
    order: int
    """How many changes the store had seen by then."""
    _status: bytes = field(repr=False)

    def status_json(self) -> bytes:
        """Give the status as it was read, as JSON; an empty object if there is none."""
        return zlib.decompress(self._status)


def _packed(status: object) -> bytes:
    # A status of 7 KB takes some 25 KB as Python objects and 1.5 KB packed, and is read once in ten minutes.
    content = status if isinstance(status, dict) else {}
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)


class Store:
    """Both kinds and the namespaces' labels, as far as the operator has heard; `wake` is told what to look at again."""

    def __init__(self, inventory: Inventory, *, wake: Wake) -> None:
        self._inventory = inventory
        self._wake = wake
        self._seen: dict[Identity, Seen] = {}
        self._order = 0
        # When objects went away, so that a list that was asked for before does not bring them back.
        self._gone: dict[Identity, int] = {}
        self._expected: dict[Identity, JsonObject] = {}

    def seen(self, identity: Identity) -> Seen | None:
        """Give what is known of an object beside its spec; None if there is no such object."""
        return self._seen.get(identity)

    def identities(self) -> list[Identity]:
        """List all keys and recipes."""
        return [identity for identity in self._seen if identity[0] != "Namespace"]

    def changed(self, kind: Kind, event: str | None, document: JsonObject) -> None:
        """Take an event of a watch: ADDED, MODIFIED, DELETED, or None for an object that a watch began with."""
        identity = _identity(kind, document)
        known = self._seen.get(identity)
        if event == "DELETED":
            # Of an object that was made again under its name, the end of the first may be told after the beginning.
            if known is not None and known.uid == _uid(document):
                self._remove(identity)
        elif known is None or known.version < _version(document):
            seen = self._read(document)
            if known is not None and self._is_echo(identity, known, seen, document):
                self._seen[identity] = seen
            else:
                self._put(identity, seen, document)

    @contextmanager
    def expecting(self, identity: Identity, status: JsonObject) -> Iterator[None]:
        """Take a change to just this status, while it is being written, for the echo of that, which may come first."""
        self._expected[identity] = status
        try:
            yield
        finally:
            del self._expected[identity]

    def written(self, identity: Identity, document: JsonObject) -> None:
        """Take what the API server answered to a write of our own: nobody need look at it again."""
        seen, known = self._read(document), self._seen.get(identity)
        if known is None or known.uid != seen.uid or known.version >= seen.version:
            return
        if known.generation == seen.generation:
            self._seen[identity] = seen
        else:
            self._put(identity, seen, document)

    def forget(self, identity: Identity, uid: str) -> None:
        """Take it from the API server that an object is no longer there."""
        known = self._seen.get(identity)
        if known is not None and known.uid == uid:
            self._remove(identity)

    @property
    def order(self) -> int:
        """How many changes were heard of so far: `asked_at` for what is asked from now on."""
        return self._order

    def take_read(self, kind: str, document: JsonObject, *, asked_at: int) -> Identity:
        """Take an object that was read or listed: it counts unless something was heard of it after that was asked for.

        By order and not by version: a cluster that was restored from a backup begins again at lower versions.
        """
        identity = _identity(kind, document)
        known = self._seen.get(identity)
        heard_at = self._gone.get(identity, 0) if known is None else known.order
        is_same = known is not None and (known.uid, known.version) == (_uid(document), _version(document))
        if heard_at <= asked_at and not is_same:
            self._put(identity, self._read(document), document)
        return identity

    def drop_unlisted(self, kind: str, listed: AbstractSet[Identity], *, asked_at: int) -> int:
        """Remove what a list did not name, unless it was heard of after the list was asked for; gives how many."""
        missing = [
            identity
            for identity, seen in self._seen.items()
            if identity[0] == kind and identity not in listed and seen.order <= asked_at
        ]
        for identity in missing:
            self._remove(identity)
        self._gone = {
            identity: order for identity, order in self._gone.items() if identity[0] != kind or order > asked_at
        }
        return len(missing)

    def _read(self, document: JsonObject) -> Seen:
        self._order += 1
        metadata = document["metadata"]
        reverify = (metadata.get("annotations") or {}).get(REVERIFY_ANNOTATION)
        return Seen(
            uid=_uid(document),
            generation=metadata.get("generation", 0),
            version=_version(document),
            reverify=handled_by(reverify),
            order=self._order,
            _status=_packed(document.get("status")),
        )

    def _is_echo(self, identity: Identity, known: Seen, seen: Seen, document: JsonObject) -> bool:
        same = (known.uid, known.generation, known.reverify) == (seen.uid, seen.generation, seen.reverify)
        return same and identity in self._expected and document.get("status") == self._expected[identity]

    def _put(self, identity: Identity, seen: Seen, document: JsonObject) -> None:
        kind, name = identity
        known = self._seen.get(identity)
        self._seen[identity] = seen
        self._gone.pop(identity, None)
        affected: AbstractSet[Identity] = set()
        if kind == "Namespace":
            labels = document["metadata"].get("labels") or {}
            affected = self._inventory.describe_namespace(name.name, {**labels, NAMESPACE_NAME_LABEL: name.name})
        elif known is None or (known.uid, known.generation) != (seen.uid, seen.generation):
            affected = self._inventory.put(_parsed(identity, document))
        self._tell(affected | {identity})

    def _remove(self, identity: Identity) -> None:
        kind, name = identity
        del self._seen[identity]
        self._order += 1
        self._gone[identity] = self._order
        if kind == "Namespace":
            affected = self._inventory.describe_namespace(name.name, None)
        else:
            affected = self._inventory.remove(kind, name)
        self._tell(affected | {identity})

    def _tell(self, affected: AbstractSet[Identity]) -> None:
        self._wake(identity for identity in affected if identity[0] != "Namespace")


class Comparison:
    """A list that is asked for from now on, held against the store page after page."""

    def __init__(self, store: Store, kind: Kind) -> None:
        self._store = store
        self._kind = kind
        self._asked_at = store.order
        self._listed: set[Identity] = set()

    def page(self, documents: Iterable[JsonObject]) -> None:
        """Take a page of the list."""
        for document in documents:
            self._listed.add(self._store.take_read(self._kind, document, asked_at=self._asked_at))

    def finish(self) -> int:
        """Remove what the whole list did not name; gives how many."""
        return self._store.drop_unlisted(self._kind, self._listed, asked_at=self._asked_at)


def _identity(kind: str, document: JsonObject) -> Identity:
    metadata = document["metadata"]
    return kind, ObjectName(metadata.get("namespace", ""), metadata["name"])


def _uid(document: JsonObject) -> str:
    uid: str = document["metadata"].get("uid", "")
    return uid


def _version(document: JsonObject) -> int:
    return int(document["metadata"].get("resourceVersion", "0"))


def _parsed(identity: Identity, document: JsonObject) -> Known:
    kind, name = identity
    # `kubectl apply` keeps a copy of the whole manifest in an annotation.
    metadata = {key: value for key, value in document["metadata"].items() if key != "annotations"}
    content = document | {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata}
    try:
        found = parse_object(content, f"{kind} {name}")
    except ManifestError as error:
        return unreadable(content, identity, error)
    if isinstance(found, Namespace):
        raise TypeError("the document says itself that it is no Namespace")
    return found
