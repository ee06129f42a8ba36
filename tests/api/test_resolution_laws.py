"""Laws of resolution that hold for whatever recipes there are."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from byok_api.assertions import KNOWN_NAMES
from byok_api.errors import Reason, Refusal
from byok_api.resolution import EffectiveRecipe
from byok_api.signingrecipe import SigningRecipe
from tests.support.kinds import recipe, resolved

names = st.lists(st.sampled_from(KNOWN_NAMES), unique=True, max_size=4)
labels = st.lists(st.sampled_from(["com.a", "com.b", "com.c", "com.d"]), unique=True)
switches = st.fixed_dictionaries({}, optional={"enabled": st.booleans()})
c2pa = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "assertions": names,
        "optionalAssertions": names,
        "allowedLabels": labels,
        "requireIngredientChain": st.booleans(),
        "ingredients": st.sampled_from(["Allow", "Forbid"]),
        "defaults": st.fixed_dictionaries({}, optional={"creator": st.sampled_from(["A", "B"]), "model": st.just("m")}),
    },
).filter(lambda part: not (part.get("requireIngredientChain") and part.get("ingredients") == "Forbid"))
specs = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": st.sampled_from(["image", "video"]),
        "c2pa": c2pa,
        "watermark": switches,
        "softBinding": switches,
        "anchoring": switches,
        "retention": st.fixed_dictionaries({}, optional={"manifestDays": st.integers(0, 9)}),
        "timestamp": st.fixed_dictionaries({"url": st.sampled_from(["https://a", "https://b"])}),
    },
)
lineages = st.lists(specs, min_size=2, max_size=8)


def chain(given_specs: list[dict[str, Any]]) -> list[SigningRecipe]:
    """Recipes of which each extends the one before it."""
    parents: list[dict[str, Any]] = [{}, *({"extends": f"r{index}@1"} for index in range(len(given_specs) - 1))]
    return [
        recipe(f"media/r{index}", **spec, **parent)
        for index, (spec, parent) in enumerate(zip(given_specs, parents, strict=True))
    ]


def resolved_levels(given_specs: list[dict[str, Any]]) -> list[EffectiveRecipe]:
    """Each recipe of a lineage, resolved; a contradiction between levels is no example of a law."""
    recipes = chain(given_specs)
    try:
        return [resolved(*recipes[: length + 1]) for length in range(len(recipes))]
    except Refusal as refusal:
        assert refusal.reason is Reason.RecipeInvalid  # noqa: PT017 - the law that no other is raised
        assume(condition=False)
        raise


def enabled(level: EffectiveRecipe, part: str) -> bool:
    return bool(json.loads(level.hashed_json).get(part, {}).get("enabled"))


def allows(spec: dict[str, Any]) -> bool:
    return "allowedLabels" in spec.get("c2pa", {})


@given(lineages)
@settings(max_examples=150, deadline=None)
def test_a_child_never_weakens_its_parent(given_specs: list[dict[str, Any]]) -> None:
    levels = resolved_levels(given_specs)
    for index, (parent, child) in enumerate(pairwise(levels)):
        assert set(parent.assertions) <= set(child.assertions)
        assert parent.require_ingredient_chain <= child.require_ingredient_chain
        assert parent.forbid_ingredients <= child.forbid_ingredients
        assert parent.media_type in (None, child.media_type)
        for part in ("watermark", "softBinding", "anchoring"):
            assert enabled(parent, part) <= enabled(child, part)
        if any(spec.get("c2pa", {}).get("enabled") for spec in given_specs[: index + 1]):
            assert child.enabled
        if any(allows(spec) for spec in given_specs[: index + 1]):
            assert set(child.allowed_labels) <= set(parent.allowed_labels)


@given(lineages)
@settings(max_examples=75, deadline=None)
def test_a_child_that_sets_nothing_is_its_parent(given_specs: list[dict[str, Any]]) -> None:
    levels = resolved_levels([*given_specs[:7], {}])
    assert levels[-1].hashed_json == levels[-2].hashed_json


@given(lineages)
@settings(max_examples=75, deadline=None)
def test_a_child_that_repeats_what_is_inherited_changes_nothing(given_specs: list[dict[str, Any]]) -> None:
    content = json.loads(resolved_levels(given_specs[:7])[-1].hashed_json)
    levels = resolved_levels([*given_specs[:7], content])
    assert levels[-1].hash == levels[-2].hash


def shuffled(value: Any, order: Any) -> Any:  # noqa: ANN401 - any JSON, and hypothesis' random order
    match value:
        case dict():
            return {name: shuffled(value[name], order) for name in order(list(value))}
        case list():
            return order(value)
        case _:
            return value


@given(lineages, st.randoms(use_true_random=False))
@settings(max_examples=75, deadline=None)
def test_the_order_of_fields_and_of_sets_does_not_matter(given_specs: list[dict[str, Any]], random: Any) -> None:  # noqa: ANN401 - hypothesis types it so
    again = [shuffled(spec, lambda items: random.sample(items, len(items))) for spec in given_specs]
    assert [level.hashed_json for level in resolved_levels(given_specs)] == [
        level.hashed_json for level in resolved_levels(again)
    ]


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 9), max_size=10))
@settings(max_examples=100, deadline=None)
def test_any_web_of_recipes_resolves_or_is_refused(extends: dict[int, int]) -> None:
    recipes = [recipe(f"media/r{child}", extends=f"r{parent}@1") for child, parent in extends.items()]
    recipes += [recipe(f"media/r{index}") for index in range(5, 10) if index not in extends]
    for each in recipes:
        try:
            assert len(resolved(*recipes, each).lineage) < 8
        except Refusal as refusal:
            assert refusal.reason is Reason.RecipeInvalid  # noqa: PT017 - no other reason is an answer here
