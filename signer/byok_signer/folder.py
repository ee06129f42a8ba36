"""The catalogue from folders of manifests, looked at again and again.

A broken file takes no good object down: it is reported, and what that file held before stays, except for what it
no longer names (deleted) or no longer calls active (deactivated). An object that two files define is refused.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from byok_api.errors import Reason
from byok_api.inventory import KEY, Inventory, Known
from byok_api.manifests import SIZE_LIMIT, ManifestError, load_documents
from byok_api.objects import Identity, Namespace, Object, Unreadable, identity_of, parse_object, unreadable
from byok_api.references import ObjectName
from byok_signer.decisions import Rules, updated_catalogue
from byok_signer.entries import Catalogue

_LOG = logging.getLogger(__name__)
FILES_LIMIT = 10_000
BYTES_LIMIT = 256 * 1024 * 1024
"""Of all files together; each may have 1 MiB and 1,000 documents (byok_api.manifests)."""
OBJECTS_LIMIT = 50_000
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_INTERVAL = 0.5
"""Seconds between two looks: a change takes effect within 2 s. Polling sees swapped mounts too; inotify misses them."""

Objects = Mapping[Identity, Object | Unreadable]
_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Folder:
    """A folder of manifests; objects that name no namespace are meant for `namespace`."""

    path: Path
    namespace: str | None = None


@dataclass(frozen=True)
class Merged:
    """What all files together gave."""

    objects: Mapping[Identity, Known]
    namespace_labels: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class FileState:
    """What a file last gave."""

    objects: Objects = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_state(previous: FileState, data: bytes, source: str, namespace: str | None) -> FileState:
    """Read a file's new content over what it gave before. Pure."""
    try:
        documents = load_documents(data, source)
    except ManifestError as error:
        return FileState(previous.objects, (error.message,))
    objects: dict[Identity, Object | Unreadable] = {}
    problems: list[str] = []
    kept: Objects = {}
    for document in documents:
        found: Object | Unreadable
        try:
            found = parse_object(document, source, namespace=namespace)
            identity = identity_of(found)
        except ManifestError as error:
            problems.append(error.message)
            claimed = _claimed_identity(document, namespace)
            if claimed is None:
                # Which object this was meant to be cannot be told, so none of the file's is taken for deleted.
                kept = previous.objects
                continue
            identity, found = claimed, _instead_of(document, claimed, previous.objects.get(claimed), error)
        if identity in objects:
            message = f"{source}: {identity[0]} {identity[1]} is defined twice; keep one of them"
            problems.append(message)
            found = _refused(identity, message)
        objects[identity] = found
    return FileState({**kept, **objects}, tuple(problems))


def within_limits(stamps: Mapping[Path, _Stamp], known: Container[Path]) -> tuple[dict[Path, _Stamp], tuple[str, ...]]:
    """Choose the files that are read, and name those that are too many. Pure.

    Those read before come first: a file too many must not hide that a key in another was deactivated.
    """
    chosen: dict[Path, _Stamp] = {}
    problems, size = [], 0
    for path in sorted(stamps, key=lambda path: path not in known):
        size += stamps[path][-1]
        if path not in known and (len(chosen) >= FILES_LIMIT or size > BYTES_LIMIT):
            size -= stamps[path][-1]
            limits = f"at most {FILES_LIMIT} files and {BYTES_LIMIT} bytes are read in all"
            problems.append(f"{path}: one file too many, not read; {limits}")
        else:
            chosen[path] = stamps[path]
    return chosen, tuple(problems)


def take_in(state: FileState, previous: FileState, source: str, others: int) -> FileState:
    """Leave out a file's new objects if there are too many with those of `others`. Pure."""
    if others + len(state.objects) <= OBJECTS_LIMIT:
        return state
    kept = {identity: found for identity, found in state.objects.items() if identity in previous.objects}
    count = len(state.objects) - len(kept)
    problem = f"{source}: {count} objects too many, not taken; at most {OBJECTS_LIMIT} are in all"
    return FileState(kept, (*state.problems, problem) if count else state.problems)


def merge(files: Mapping[str, FileState]) -> Merged:
    """Put the files' objects together; what two files define is refused, and said. Pure."""
    places: dict[Identity, list[str]] = defaultdict(list)
    for source, state in files.items():
        for identity in state.objects:
            places[identity].append(source)
    objects: dict[Identity, Known] = {}
    labels: dict[str, Mapping[str, str]] = {}
    problems = []
    for identity, sources in places.items():
        found = files[sources[0]].objects[identity]
        if len(sources) > 1:
            message = f"{identity[0]} {identity[1]} is defined in {' and '.join(sources)}; keep one of them"
            problems.append(message)
            found = _refused(identity, message)
        if isinstance(found, Namespace):
            labels[identity[1].name] = found.labels
        elif identity[0] != "Namespace":
            objects[identity] = found
    return Merged(objects, labels, tuple(problems))


class FolderCatalogue:
    """Holds the catalogue of some folders; `refresh` or `watch` keep it up to date."""

    def __init__(
        self,
        folders: Sequence[Folder],
        rules: Rules,
        *,
        changed: Callable[[Catalogue], None],
    ) -> None:
        self._folders = tuple(folders)
        self._rules = rules
        self._inventory = Inventory(rules)
        self._changed = changed
        self._stamps: Mapping[Path, _Stamp] | None = None
        self._files: dict[Path, FileState] = {}
        self._reported: frozenset[str] = frozenset()
        self._catalogue = Catalogue()

    def current(self) -> Catalogue:
        """Return the catalogue as last read."""
        return self._catalogue

    async def watch(self) -> None:
        """Refresh forever."""
        while True:
            await asyncio.sleep(_INTERVAL)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> bool:
        """Look at the folders once and read what has changed; say whether anything had."""
        stamps: dict[Path, _Stamp] = {}
        namespaces: dict[Path, str | None] = {}
        faults: list[str] = []
        for folder in self._folders:
            try:
                found = dict(_stamps_of(folder.path))
            except OSError as error:
                faults.append(f"{folder.path}: {error.strerror}; what was read from it before stays")
                found = {path: stamp for path, stamp in (self._stamps or {}).items() if path.parent == folder.path}
            stamps |= found
            namespaces |= dict.fromkeys(found, folder.namespace)
        stamps, excess = within_limits(stamps, self._files)
        faults += excess
        if stamps == self._stamps:
            self._report(faults)
            return False
        before, files = self._stamps or {}, {path: self._files[path] for path in stamps if path in self._files}
        count = sum(len(state.objects) for state in files.values())
        for path, stamp in stamps.items():
            if before.get(path) != stamp:
                previous = self._files.get(path, FileState())
                count -= len(previous.objects)
                files[path] = take_in(self._read(path, namespaces[path]), previous, str(path), count)
                count += len(files[path].objects)
        self._files, self._stamps = files, stamps
        merged = merge({str(path): state for path, state in self._files.items()})
        concerned = self._inventory.replace_all(merged.objects.values(), merged.namespace_labels)
        self._catalogue = updated_catalogue(self._catalogue, self._inventory, concerned, self._rules)
        self._report([*faults, *merged.problems, *(text for state in self._files.values() for text in state.problems)])
        self._changed(self._catalogue)
        return True

    def _read(self, path: Path, namespace: str | None) -> FileState:
        previous = self._files.get(path, FileState())
        try:
            with path.open("rb") as file:
                data = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            return FileState(previous.objects, (f"{path}: {error.strerror}; what was read from it before stays",))
        return read_state(previous, data, str(path), namespace)

    def _report(self, problems: Sequence[str]) -> None:
        for problem in problems:
            if problem not in self._reported:
                _LOG.error("manifest not taken", extra={"found": problem})
        self._reported = frozenset(problems)


def _stamps_of(folder: Path) -> Iterator[tuple[Path, _Stamp]]:
    # Names with a dot in front are editors' files and the machinery of mounted ConfigMaps.
    for path in sorted(folder.iterdir()):
        if path.suffix not in _SUFFIXES or path.name.startswith("."):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        yield path, (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)


def _claimed_identity(document: Mapping[str, Any], namespace: str | None) -> Identity | None:
    kind, metadata = document.get("kind"), document.get("metadata")
    if not isinstance(kind, str) or not isinstance(metadata, Mapping):
        return None
    name, own = metadata.get("name"), metadata.get("namespace", namespace)
    if kind == "Namespace":
        own = ""
    return (kind, ObjectName(own, name)) if isinstance(name, str) and isinstance(own, str) else None


def _instead_of(
    document: Mapping[str, Any], identity: Identity, before: Object | Unreadable | None, error: ManifestError
) -> Object | Unreadable:
    found = unreadable(document, identity, error)
    if found.reason is Reason.KeyDeactivated or before is None or isinstance(before, Unreadable):
        return found
    return before


def _refused(identity: Identity, message: str) -> Unreadable:
    reason = Reason.KeyInvalid if identity[0] == KEY else Reason.RecipeInvalid
    return Unreadable(identity[0], identity[1], reason, message)
