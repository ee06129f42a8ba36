"""Writing status: by server-side apply, only where it differs, and only onto the object that was judged.

The observed resourceVersion fences: an old leader's word, or one about an object that was made again since, is a 409
(a wrong uid would be accepted: Kubernetes 1.36, seen). Nothing else of an object is ever written.
"""

import json
import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from byok_api.fields import API_VERSION
from byok_api.objects import Identity
from byok_operator.applied import FIELD_MANAGER
from byok_operator.store import Seen, Store
from byok_service.kubernetes import (
    BYOK_KEYS,
    CONFLICT,
    NOT_FOUND,
    SIGNING_RECIPES,
    ApiError,
    JsonObject,
    KubernetesApi,
    Resource,
)

_LOG = logging.getLogger(__name__)
_RESOURCES: Final[Mapping[str, Resource]] = {"ByokKey": BYOK_KEYS, "SigningRecipe": SIGNING_RECIPES}


class Applied(StrEnum):
    """What became of a status."""

    UNCHANGED = "unchanged"
    WRITTEN = "written"
    CONFLICT = "conflict"
    """The object is another one by now; it has been read again."""
    GONE = "gone"


class StatusWriter:
    """Writes what was planned, and keeps the store up to date with what the API server answers."""

    def __init__(self, api: KubernetesApi, store: Store) -> None:
        self._api = api
        self._store = store
        # Fields that others wrote into an object's status and apply cannot remove; without them it would be tried
        # again at each look.
        self._others: dict[Identity, JsonObject] = {}

    async def write(self, identity: Identity, seen: Seen, status: JsonObject) -> Applied:
        """Make `status` an object's status; ApiError or ApiUnavailable if the API server does not take it."""
        found = json.loads(seen.status_json())
        if agrees(found, status) and _surplus(found, status) == self._others.get(identity, {}):
            return Applied.UNCHANGED
        kind, name = identity
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name.name, "namespace": name.namespace, "resourceVersion": str(seen.version)},
            "status": status,
        }
        try:
            with self._store.expecting(identity, status):
                answer = await self._api.apply(
                    _RESOURCES[kind], body, field_manager=FIELD_MANAGER, force=True, subresource="status"
                )
        except ApiError as error:
            if error.status not in (CONFLICT, NOT_FOUND):
                raise
            return await self._observe_again(identity, seen)
        self._note_others(identity, _surplus(answer.get("status") or {}, status))
        self._store.written(identity, answer)
        return Applied.WRITTEN

    def forget(self, identity: Identity) -> None:
        """Drop what is remembered of an object that is gone."""
        self._others.pop(identity, None)

    async def _observe_again(self, identity: Identity, seen: Seen) -> Applied:
        kind, name = identity
        asked_at = self._store.order
        try:
            document = await self._api.get(_RESOURCES[kind], name.namespace, name.name)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self._store.forget(identity, seen.uid)
            return Applied.GONE
        self._store.take_read(kind, document, asked_at=asked_at)
        return Applied.CONFLICT

    def _note_others(self, identity: Identity, surplus: JsonObject) -> None:
        if not surplus:
            self._others.pop(identity, None)
            return
        if self._others.get(identity) != surplus:
            kind, name = identity
            _LOG.warning(
                "status holds what somebody else wrote",
                extra={"kind": kind, "object": str(name), "fields": sorted(surplus)},
            )
        self._others[identity] = surplus


def agrees(found: JsonObject, planned: JsonObject) -> bool:
    """Say whether all that is planned is there as planned."""
    return all(
        _by_type(found.get(field)).items() >= _by_type(value).items()
        if field == "conditions"
        else found.get(field) == value
        for field, value in planned.items()
    )


def _surplus(found: JsonObject, planned: JsonObject) -> JsonObject:
    """Give the fields and conditions that are there and not planned."""
    surplus = {field: value for field, value in found.items() if field not in planned}
    planned_types = _by_type(planned.get("conditions"))
    others = {name: value for name, value in _by_type(found.get("conditions")).items() if name not in planned_types}
    return surplus | ({f"conditions[{name}]": value for name, value in others.items()})


def _by_type(conditions: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON that anybody may have written
    if not isinstance(conditions, list):
        return {}
    return {
        condition["type"]: condition
        for condition in conditions
        if isinstance(condition, dict) and isinstance(condition.get("type"), str)
    }
