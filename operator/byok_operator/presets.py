"""The installation's own objects, kept as its mounted files say: preset recipes and the managed key. Never deletes.

Server-side apply restores what somebody changed in a field that a file sets, and leaves alone what others added. What
cannot be read or is refused is named; everything else is applied all the same.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from byok_api.byokkey import ByokKey
from byok_api.errors import Refusal
from byok_api.manifests import SIZE_LIMIT, load_documents
from byok_api.objects import parse_object
from byok_api.references import ObjectName
from byok_api.signingrecipe import SigningRecipe
from byok_operator.applied import FIELD_MANAGER, covers
from byok_service.kubernetes import (
    BYOK_KEYS,
    NOT_FOUND,
    SIGNING_RECIPES,
    ApiError,
    ApiUnavailable,
    JsonObject,
    KubernetesApi,
    Resource,
)

_LOG = logging.getLogger(__name__)
FILES_LIMIT = 200
_INTERVAL = 15.0
"""Seconds between two looks at the files and at what became of the objects."""
_FAULTS_OF_THE_FILE = frozenset({"Invalid", "BadRequest"})
"""Reasons of a metav1.Status with which the API server refuses what an object says (Kubernetes API conventions)."""
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True)
class Wanted:
    """An object that a file holds, as it is applied."""

    resource: Resource
    name: ObjectName
    source: str
    body: JsonObject = field(repr=False)

    def __str__(self) -> str:
        return f"{self.source}: {self.body['kind']} {self.name}"


@dataclass(frozen=True)
class Found:
    """What the files hold, and what is wrong with them."""

    wanted: tuple[Wanted, ...]
    problems: tuple[str, ...]


def read_file(data: bytes, source: str, namespace: str, kind: type[SigningRecipe | ByokKey]) -> Found:
    """Read a file's objects, each of which must be of a kind and of a namespace, which it need not name. Pure."""
    wanted: list[Wanted] = []
    problems: list[str] = []
    try:
        documents = load_documents(data, source)
    except Refusal as refusal:
        return Found((), (refusal.message,))
    for document in documents:
        try:
            parsed = parse_object(document, source, namespace=namespace)
        except Refusal as refusal:
            problems.append(refusal.message)
            continue
        if not isinstance(parsed, kind) or parsed.metadata.namespace != namespace:
            what = f"{parsed.kind} {parsed.metadata.namespace}/{parsed.metadata.name}"
            problems.append(f"{source}: {what} has no place here: only a {kind.__name__} of namespace {namespace} has")
            continue
        wanted.append(_wanted(document, ObjectName(namespace, parsed.metadata.name), source))
    return Found(tuple(wanted), tuple(problems))


def merge(found: Sequence[Found]) -> Found:
    """Put files together; of two objects of one kind and name the first is taken, and the other named. Pure."""
    wanted: dict[tuple[Resource, ObjectName], Wanted] = {}
    problems = [problem for each in found for problem in each.problems]
    for each in (one for part in found for one in part.wanted):
        first = wanted.setdefault((each.resource, each.name), each)
        if first is not each:
            problems.append(f"{each} is defined in {first.source} already; keep one of them")
    return Found(tuple(wanted.values()), tuple(problems))


class Presets:
    """Applies the objects of mounted files into the release namespace; for the leader only, which `run`s it."""

    def __init__(
        self, api: KubernetesApi, namespace: str, *, folder: Path | None, managed_key_file: Path | None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._folder = folder
        self._managed_key_file = managed_key_file
        self._applied: dict[tuple[Resource, ObjectName], JsonObject] = {}
        self._problems: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read or applied, as of the last look."""
        return self._problems

    async def run(self) -> None:
        """Look at files and objects, and apply what differs, forever."""
        while True:
            await self.refresh()
            await asyncio.sleep(_INTERVAL)

    async def refresh(self) -> None:
        """Look once."""
        found = await asyncio.to_thread(self._read)
        problems = list(found.problems)
        for each in found.wanted:
            try:
                await self._establish(each)
            except ApiError as error:
                problems.append(f"{each} was refused by the API server: {error.message}; {_remedy(error)}")
            except ApiUnavailable as error:
                problems.append(f"{each} could not be applied: {error}; it is tried again")
        for problem in problems:
            if problem not in self._problems:
                _LOG.error("preset or managed key not applied", extra={"found": problem})
        self._problems = tuple(problems)

    async def _establish(self, each: Wanted) -> None:
        key = each.resource, each.name
        # What this process has not applied may lack nothing and still hold what the file no longer sets.
        if self._applied.get(key) == each.body and covers(await self._stored(each), each.body):
            return
        await self._api.apply(each.resource, each.body, field_manager=FIELD_MANAGER)
        self._applied[key] = each.body
        _LOG.info("applied", extra={"kind": each.body["kind"], "object": str(each.name)})

    async def _stored(self, each: Wanted) -> JsonObject | None:
        try:
            return await self._api.get(each.resource, each.name.namespace, each.name.name)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _read(self) -> Found:
        found: list[Found] = []
        if self._folder is not None:
            found += self._read_folder(self._folder)
        if self._managed_key_file is not None:
            found.append(self._read_one(self._managed_key_file, ByokKey))
        return merge(found)

    def _read_folder(self, folder: Path) -> Iterator[Found]:
        try:
            # Names with a dot in front are the machinery of mounted ConfigMaps.
            paths = sorted(
                path for path in folder.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")
            )
        except OSError as error:
            yield Found((), (f"{folder}: {error.strerror}",))
            return
        for path in paths[:FILES_LIMIT]:
            yield self._read_one(path, SigningRecipe)
        for path in paths[FILES_LIMIT:]:
            yield Found((), (f"{path}: one file too many; at most {FILES_LIMIT} presets are read",))

    def _read_one(self, path: Path, kind: type[SigningRecipe | ByokKey]) -> Found:
        try:
            with path.open("rb") as file:
                data = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            return Found((), (f"{path}: {error.strerror}",))
        return read_file(data, str(path), self._namespace, kind)


def _remedy(error: ApiError) -> str:
    # Any other no is about the cluster: CRDs that are being deleted or are not there yet, rights that are missing.
    return "correct the file" if error.reason in _FAULTS_OF_THE_FILE else "it is tried again"


def _wanted(document: Mapping[str, Any], name: ObjectName, source: str) -> Wanted:
    metadata: JsonObject = {"name": name.name, "namespace": name.namespace}
    for part in ("labels", "annotations"):
        if part in document["metadata"]:
            metadata[part] = document["metadata"][part]
    body = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": metadata,
        "spec": document["spec"],
    }
    return Wanted(BYOK_KEYS if body["kind"] == "ByokKey" else SIGNING_RECIPES, name, source, body)
