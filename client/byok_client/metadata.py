"""What an asset will say of itself: the values of the call, the client, the recipe, and what follows from them.

Pure. The three names of generative AI are one statement in the manifest, the digital source type: `ai_generated` and
`ai_assisted` follow from it and it from them, so they may not contradict each other.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from byok_api.assertions import ASSERTIONS, KNOWN_NAMES, Derivation
from byok_api.errors import Reason, Refusal
from byok_api.shapes import SOURCE_TYPES, Json
from byok_client.recipes import Recipe

GENERATED = frozenset({SOURCE_TYPES["trainedAlgorithmicMedia"], SOURCE_TYPES["trainedAlgorithmicData"]})
"""Source types that mean ai_generated; the first named is what ai_generated alone becomes."""
ASSISTED = frozenset({SOURCE_TYPES["compositeWithTrainedAlgorithmicMedia"], SOURCE_TYPES["compositeSynthetic"]})
"""Source types that mean ai_assisted."""
SOURCE = "digital_source_type"
_AI_NAMES = (SOURCE, "ai_generated", "ai_assisted")


@dataclass(frozen=True)
class Circumstances:
    """What values are derived from."""

    now: datetime
    client: str
    """name/version of this software."""
    has_parent: bool
    """Whether the asset already has a manifest, so that this is an edit and needs no source type of its own."""


def settle(
    recipe: Recipe,
    given: Mapping[str, object],
    client_defaults: Mapping[str, object],
    circumstances: Circumstances,
) -> dict[str, Json]:
    """Settle every value by the order call, client, recipe, derived; sorted by name.

    Refusal MetadataInvalid for an unknown name, a wrong shape or a contradiction; MetadataMissing for what the recipe
    requires, or c2pa does, and nothing gives.
    """
    layers = (
        _parsed(given, "metadata"),
        _parsed(client_defaults, "the client's defaults"),
        _parsed(recipe.defaults, f"the defaults of {recipe}"),
    )
    values = _merged(layers)
    wanted = recipe.required | recipe.optional
    for name, row in ASSERTIONS.items():
        if row.derivation is Derivation.CLIENT:
            values.setdefault(name, row.parse(circumstances.client))
        if row.derivation is Derivation.CLOCK and name in wanted:
            values.setdefault(name, row.parse(circumstances.now))
    _check_required(recipe, values, circumstances)
    return dict(sorted(values.items()))


def _parsed(values: Mapping[str, object], origin: str) -> dict[str, Json]:
    return dict(_each_parsed(values, origin))


def _each_parsed(values: Mapping[str, object], origin: str) -> Iterator[tuple[str, Json]]:
    if not isinstance(values, Mapping):
        _invalid("metadata", f"{origin} is a {type(values).__name__}, expected a mapping of assertion names to values")
    for name, value in values.items():
        row = ASSERTIONS.get(name)
        if row is None:
            _invalid(str(name), f"{str(name)[:64]!r} in {origin} is no assertion name{_suggestion(str(name))}")
        try:
            yield name, row.parse(value)
        except ValueError as error:
            _invalid(name, f"{name} in {origin} {error}")


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name[:64], KNOWN_NAMES, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the names are {', '.join(KNOWN_NAMES)}"


def _invalid(name: str, message: str) -> NoReturn:
    raise Refusal(Reason.MetadataInvalid, message, metadata={"assertion": name[:64]})


def _merged(layers: tuple[Mapping[str, Json], ...]) -> dict[str, Json]:
    values: dict[str, Json] = {}
    for layer in layers:
        _check_consistent(layer)
        for name, value in layer.items():
            # A default that contradicts what stands above it gives way, as any default does.
            if name not in values and (name not in _AI_NAMES or _contradiction({**_ai(values), name: value}) is None):
                values[name] = value
    values.update(_ai_derived(values))
    return values


def _ai(values: Mapping[str, Json]) -> dict[str, Json]:
    return {name: values[name] for name in _AI_NAMES if name in values}


def _check_consistent(layer: Mapping[str, Json]) -> None:
    contradiction = _contradiction(_ai(layer))
    if contradiction is not None:
        _invalid(SOURCE, contradiction)


def _contradiction(ai: Mapping[str, Json]) -> str | None:
    if ai.get("ai_generated") is True and ai.get("ai_assisted") is True:
        return "ai_generated and ai_assisted exclude each other: say which of the two it is"
    for name, types in (("ai_generated", GENERATED), ("ai_assisted", ASSISTED)):
        if SOURCE in ai and name in ai and (ai[SOURCE] in types) is not ai[name]:
            return f"{name} is {str(ai[name]).lower()}, which contradicts {SOURCE} {ai[SOURCE]}"
    return None


def _ai_derived(values: Mapping[str, Json]) -> dict[str, Json]:
    ai = _ai(values)
    if SOURCE not in ai and ai.get("ai_generated") is True:
        ai[SOURCE] = SOURCE_TYPES["trainedAlgorithmicMedia"]
    if SOURCE not in ai and ai.get("ai_assisted") is True:
        ai[SOURCE] = SOURCE_TYPES["compositeWithTrainedAlgorithmicMedia"]
    if SOURCE in ai:
        ai["ai_generated"] = ai[SOURCE] in GENERATED
        ai["ai_assisted"] = ai[SOURCE] in ASSISTED
    return ai


def _check_required(recipe: Recipe, values: Mapping[str, Json], circumstances: Circumstances) -> None:
    unknown = sorted(recipe.required - set(KNOWN_NAMES))
    if unknown:
        raise Refusal(
            Reason.RecipeInvalid,
            f"{recipe} requires {', '.join(unknown)}, which this version of the client does not know: update it",
        )
    # c2pa.created must have a source type (C2PA 2.1, section 18.14); an edit may leave it to its parent.
    needs_source = not circumstances.has_parent or bool(recipe.required & set(_AI_NAMES))
    lacking = sorted(recipe.required - set(values) | ({SOURCE} if needs_source and SOURCE not in values else set()))
    if lacking:
        hint = f" ({SOURCE} also follows from ai_generated or ai_assisted: true)" if SOURCE in lacking else ""
        origin = f"{recipe} requires" if set(lacking) <= recipe.required else f"signing under {recipe} takes"
        raise Refusal(
            Reason.MetadataMissing,
            f"{origin} {', '.join(lacking)}, and neither metadata nor any default gives it{hint}",
            metadata={"missing": ",".join(lacking)},
        )
    if "published" in recipe.required and values["published"] is not True:
        _invalid("published", f"{recipe} requires published, so it must be true")
