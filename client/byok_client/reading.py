"""The way back: from the assertions of a manifest to values by assertion name. Pure; what it reads may be anything."""

from collections.abc import Iterator, Mapping

from byok_api.assertions import ACTIONS_LABEL, ASSERTIONS, METADATA_LABEL
from byok_api.shapes import Json
from byok_client.metadata import ASSISTED, GENERATED, SOURCE


def values_of(contents: Mapping[str, object], generator: Mapping[str, object]) -> dict[str, Json]:
    """Read what the table knows out of assertion contents by label; values of another shape are left out.

    `generator` is the claim's claim_generator_info.
    """
    found = {**dict(_actions(contents)), **dict(_fields(contents))}
    name, version = generator.get("name"), generator.get("version")
    found["generator"] = f"{name}/{version}" if version else name
    values: dict[str, Json] = {}
    for key, value in sorted(found.items()):
        try:
            values[key] = ASSERTIONS[key].parse(value)
        except ValueError:
            continue
    return values


def _actions(contents: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    data = contents.get(ACTIONS_LABEL)
    actions = data.get("actions") if isinstance(data, Mapping) else None
    for action in actions if isinstance(actions, list) else []:
        if not isinstance(action, Mapping):
            continue
        if action.get("action") == "c2pa.published":
            yield "published", True
        source = action.get("digitalSourceType")
        if source is not None:
            yield SOURCE, source
            yield "ai_generated", source in GENERATED
            yield "ai_assisted", source in ASSISTED


def _fields(contents: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, row in ASSERTIONS.items():
        data = contents.get(row.label)
        if row.label == ACTIONS_LABEL or not isinstance(data, Mapping):
            continue
        outer, _, inner = row.path.partition(".")
        if row.label == METADATA_LABEL and outer.endswith("*"):
            tags = {
                key: value for key, value in data.items() if str(key).partition(":")[0] in {"exif", "exifEX", "tiff"}
            }
            yield from [(name, tags)] if tags else []
        elif outer in data:
            value = data[outer]
            yield name, value.get(inner) if inner and isinstance(value, Mapping) else value
