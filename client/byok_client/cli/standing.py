"""The work of `byokctl get`: what the cluster says of keys and recipes, and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import typer

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_client.cli.cluster import Cluster, in_cluster
from byok_client.cli.exits import Exit
from byok_client.cli.output import Line, Report, Table, remedy_lines
from byok_service.kubernetes import BYOK_KEYS, SIGNING_RECIPES, ApiError, JsonObject, Resource

_STYLES = {"True": "green", "False": "red", "Unknown": "yellow"}
_KINDS = {BYOK_KEYS: "ByokKey", SIGNING_RECIPES: "SigningRecipe"}
# They say of themselves that nothing is asked of them.
_AT_REST = frozenset({"NotRequested", "NoParent", "NoKey"})
_NOT_JUDGED = "the operator has not looked at this state of it yet"


@dataclass(frozen=True)
class Selection:
    """What is asked about."""

    names: Sequence[ObjectName]
    """Empty: every object of `namespace`."""
    namespace: str | None
    """None: every namespace."""
    kinds: Sequence[Resource]


_SELECTED = {"all": (BYOK_KEYS, SIGNING_RECIPES), "keys": (BYOK_KEYS,), "recipes": (SIGNING_RECIPES,)}


def selection(kinds: str, names: Sequence[str], namespace: str | None) -> Selection:
    """Read what was asked for: `kinds` is all, keys or recipes."""
    try:
        parsed = [ObjectName.parse(f"{namespace}/{name}" if namespace and "/" not in name else name) for name in names]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAMES") from None
    return Selection(parsed, namespace, _SELECTED[kinds])


def report(selection: Selection) -> Report:
    """Report on the objects selected; fails if one of them is not ready."""
    found = in_cluster(lambda cluster: _read(cluster, selection))
    rows = [_Standing(_KINDS[kind], item) for kind, items in found.items.items() for item in items]
    document: dict[str, Any] = {kind: [row.document for row in rows if row.kind == kind] for kind in _KINDS.values()}
    document["notListed"] = {_KINDS[kind]: message for kind, message in found.denied.items()}
    lines: list[Line | Table] = [Table(_HEADING, [row.cells for row in rows])] if rows else [Line("nothing found")]
    for row in rows:
        lines += row.explained()
    lines += [Line(f"{_KINDS[kind]}s are not listed: {message}", "yellow") for kind, message in found.denied.items()]
    ready = all(row.is_settled for row in rows)
    return Report(document, lines, Exit.OK if ready else Exit.FAILED)


@dataclass(frozen=True)
class _Found:
    items: Mapping[Resource, list[JsonObject]]
    denied: Mapping[Resource, str]
    """What the API server said of the kinds that the user may not list."""


async def _read(cluster: Cluster, selection: Selection) -> _Found:
    if selection.names:
        named = {kind: [await cluster.get(kind, name) for name in selection.names] for kind in selection.kinds}
        return _Found(named, {})
    items: dict[Resource, list[JsonObject]] = {}
    denied: dict[Resource, str] = {}
    for kind in selection.kinds:
        try:
            items[kind] = await cluster.list(kind, selection.namespace)
        except ApiError as error:
            # Of those who ask for all, many may read one kind only; who names a kind, or may read none, is refused.
            if error.status != HTTPStatus.FORBIDDEN or len(denied) + 1 == len(selection.kinds):
                raise
            denied[kind] = error.message
    return _Found(items, denied)


_HEADING = ("KIND", "NAME", "READY", "REASON", "ALGORITHM", "RECIPES", "VERIFIED", "KEY")


class _Standing:
    """What the status of one object says, if it is about the present spec."""

    def __init__(self, kind: str, item: JsonObject) -> None:
        metadata, status = item["metadata"], item.get("status") or {}
        self.kind = kind
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._status = status
        self._is_current = status.get("observedGeneration") == metadata.get("generation")
        self._conditions: list[Mapping[str, Any]] = list(status.get("conditions") or ())
        self._ready = next((each for each in self._conditions if each["type"] == "Ready"), None)

    @property
    def is_settled(self) -> bool:
        """Whether it is ready, or there is nothing to be ready for."""
        ready = self._ready
        return self._is_current and ready is not None and (ready["status"] == "True" or ready["reason"] in _AT_REST)

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row, under `_HEADING`."""
        ready, key = self._ready or {}, self._status.get("key") or {}
        signs_with = f"{key['namespace']}/{key['name']}" if "namespace" in key else ""
        return (
            self.kind,
            self.name,
            str(ready.get("status", "-")) if self._is_current else "-",
            str(ready.get("reason", "-")) if self._is_current else "not judged yet",
            str(self._status.get("algorithm", "")),
            str(self._status.get("recipes", "")),
            _ago(self._status.get("lastVerifiedTime")),
            signs_with,
        )

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON form."""
        return {
            "name": self.name,
            "judged": self._is_current,
            "ready": (self._ready or {}).get("status") if self._is_current else None,
            "conditions": [
                {**each, "nextStep": _remedy(each)} if each["status"] != "True" else each for each in self._conditions
            ],
            "status": {name: value for name, value in self._status.items() if name not in {"conditions", "effective"}},
        }

    def explained(self) -> list[Line]:
        """Say what is not as it should be, and what to do about it."""
        if not self._is_current:
            return [Line(f"{self.kind} {self.name}: {_NOT_JUDGED}", "yellow")]
        missing = [each for each in self._conditions if each["status"] != "True" and each["reason"] not in _AT_REST]
        leaves = [each for each in missing if each["type"] != "Ready"]
        # Ready sums the others up, but a deactivated key, or a recipe's key, shows in nothing else.
        reasons = {each["reason"] for each in leaves}
        ready = [each for each in missing if each["type"] == "Ready" and each["reason"] not in reasons]
        return [line for each in (*leaves, *ready) for line in self._told(each)]

    def _told(self, condition: Mapping[str, Any]) -> list[Line]:
        style, remedy = _STYLES.get(condition["status"], ""), _remedy(condition)
        # The operator writes the remedy into the message, a policy statement to paste behind it; here it has a line.
        cause, found, statement = condition["message"].partition(remedy) if remedy else (condition["message"], "", "")
        said = f"{self.kind} {self.name}: {condition['type']} is {condition['status']}: {condition['reason']}: {cause}"
        return [
            *(Line(line, style) for line in said.strip().splitlines()),
            *remedy_lines("", found or remedy),
            *(Line(line, style) for line in statement.strip().splitlines()),
        ]


def _remedy(condition: Mapping[str, Any]) -> str | None:
    reason = condition["reason"]
    return Reason[reason].facts.remedy if reason in Reason.__members__ else None


def _ago(moment: object) -> str:
    if not isinstance(moment, str):
        return ""
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit} ago"
    return f"{max(0, seconds)}s ago"
