"""The manifest definition that c2pa is given: pure and deterministic, from a recipe and settled metadata."""

from collections.abc import Mapping
from dataclasses import dataclass

from byok_api.assertions import ACTIONS_LABEL, ASSERTIONS, METADATA_LABEL
from byok_api.errors import Reason, Refusal
from byok_api.shapes import Json, software
from byok_client.metadata import SOURCE
from byok_client.recipes import Recipe

PARENT = "parent"
"""By which the opened action and the parent ingredient find each other; c2pa replaces it by a hashed URI."""

SETTINGS: Mapping[str, object] = {
    # Thumbnails take longer than all else together, and show what a redacted parent may have hidden.
    "builder": {"thumbnail": {"enabled": False}},
    # Signing must not reach out to wherever an asset points.
    "verify": {"remote_manifest_fetch": False},
    # So many MiB of the asset with its manifest c2pa keeps in memory (512 unless told), and what is longer in a
    # temporary file. The hash that comes then takes up to 512 more, which no setting changes.
    "core": {"backing_store_memory_threshold_in_mb": 64},
}
"""c2pa's settings for signing."""

_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
}


@dataclass(frozen=True)
class Composition:
    """What is to be signed."""

    definition: dict[str, object]
    """Manifest definition in c2pa's JSON form."""
    parent: dict[str, object] | None
    """Definition of the parent ingredient, which makes this an edit; None for an asset without a manifest."""


def compose(recipe: Recipe, values: Mapping[str, Json], *, title: str | None, has_parent: bool) -> Composition:
    """Put settled values (metadata.settle) where the table of assertions says they stand.

    Refusal RecipeNotMet if the recipe wants a parent ingredient and there is none, or the other way round.
    """
    if recipe.forbid_ingredients and has_parent:
        raise Refusal(Reason.RecipeNotMet, f"{recipe} forbids ingredients, but the asset already has a manifest")
    if recipe.require_ingredient_chain and not has_parent:
        raise Refusal(Reason.RecipeNotMet, f"{recipe} requires a parent ingredient, but the asset has no manifest yet")
    definition: dict[str, object] = {
        "claim_generator_info": [_software(values["generator"])],
        "assertions": [_actions(values, has_parent=has_parent), recipe.assertion, *_metadata(values), *_own(values)],
    }
    parent: dict[str, object] = {"relationship": "parentOf", "label": PARENT}
    if title is not None:
        definition["title"] = title
        parent["title"] = title
    return Composition(definition, parent if has_parent else None)


def _software(generator: Json) -> dict[str, Json]:
    name, version = software(str(generator))
    return {"name": name, "version": version} if version else {"name": name}


def _actions(values: Mapping[str, Json], *, has_parent: bool) -> dict[str, object]:
    # One actions assertion, whose first action is the only created or opened one: a second makes the manifest invalid.
    agent = {"softwareAgent": _software(values["generator"])}
    actions: list[dict[str, object]] = []
    if has_parent:
        actions.append({"action": "c2pa.opened", **agent, "parameters": {"ingredientIds": [PARENT]}})
        if SOURCE in values:
            actions.append({"action": "c2pa.edited", **agent, "digitalSourceType": values[SOURCE]})
    else:
        when = {"when": values["created_at"]} if "created_at" in values else {}
        actions.append({"action": "c2pa.created", **agent, **when, "digitalSourceType": values[SOURCE]})
    if values.get("published") is True:
        actions.append({"action": "c2pa.published", **agent})
    return {"label": ACTIONS_LABEL, "created": True, "data": {"actions": actions}}


def _metadata(values: Mapping[str, Json]) -> list[dict[str, object]]:
    fields: dict[str, object] = {}
    for name, value in values.items():
        row = ASSERTIONS[name]
        if row.label != METADATA_LABEL:
            continue
        if isinstance(value, dict):
            fields.update(value)
        else:
            outer, _, inner = row.path.partition(".")
            fields[outer] = {inner: value} if inner else value
    if not fields:
        return []
    prefixes = {path.partition(":")[0] for path in fields}
    context = {prefix: _NAMESPACES[prefix] for prefix in sorted(prefixes)}
    # JSON-LD is JSON, not CBOR (CAWG metadata 1.1, section 5).
    return [{"label": METADATA_LABEL, "created": True, "kind": "Json", "data": {"@context": context, **fields}}]


def _own(values: Mapping[str, Json]) -> list[dict[str, object]]:
    return [
        {"label": ASSERTIONS[name].label, "created": True, "data": {ASSERTIONS[name].path: value}}
        for name, value in values.items()
        if ASSERTIONS[name].label == f"dev.byok.{name}"
    ]
