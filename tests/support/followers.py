"""A reflector's consumer that remembers all it was ever told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from byok_service.kubernetes import BYOK_KEYS, JsonObject, KubernetesApi, Resource
from byok_service.reflector import Reflector, Sink


class Follower:
    """What is there now, by name, and what was said in which order; of one namespace only, if it is given."""

    def __init__(
        self,
        api: KubernetesApi,
        resource: Resource = BYOK_KEYS,
        *,
        namespace: str | None = None,
        **options: Any,  # noqa: ANN401 - any option of a Reflector
    ) -> None:
        self.namespace = namespace
        self.objects: dict[str, JsonObject] = {}
        self.heard: list[tuple[str, str]] = []
        self.fewest = 10**9
        """How few objects there ever were after the first list."""
        sink = Sink(self._replaced, self._changed, self._deleted)
        self.reflector = Reflector(api, resource, read=_same, sink=sink, **options)

    @property
    def names(self) -> set[str]:
        return set(self.objects)

    @property
    def versions(self) -> dict[str, str]:
        return {name: item["metadata"]["resourceVersion"] for name, item in self.objects.items()}

    @property
    def lists(self) -> int:
        return self.heard.count(("replaced", ""))

    def _replaced(self, items: list[JsonObject]) -> None:
        self.objects = {_name(item): item for item in items if self._is_meant(item)}
        self._heard("replaced", "")

    def _changed(self, item: JsonObject) -> None:
        if self._is_meant(item):
            self.objects[_name(item)] = item
            self._heard("changed", _name(item))

    def _deleted(self, item: JsonObject) -> None:
        if self._is_meant(item):
            self.objects.pop(_name(item), None)
            self._heard("deleted", _name(item))

    def _is_meant(self, item: JsonObject) -> bool:
        return self.namespace in (None, item["metadata"].get("namespace"))

    def _heard(self, what: str, name: str) -> None:
        self.heard.append((what, name))
        self.fewest = min(self.fewest, len(self.objects))


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[Follower]:
    """Let a follower follow."""
    task = asyncio.create_task(follower.reflector.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def _same(body: JsonObject, /) -> JsonObject:
    return body


def _name(item: JsonObject) -> str:
    name: str = item["metadata"]["name"]
    return name
