import json
from pathlib import Path

import pytest

from byok_api.assertions import ACTIONS_LABEL, ASSERTIONS, RECIPE_LABEL
from byok_api.errors import Reason, Refusal
from byok_api.shapes import SOURCE_TYPES, Json
from byok_client.composition import SETTINGS, compose
from byok_client.reading import values_of
from byok_client.recipes import Recipe
from tests.support.client_recipes import recipe

GOLDEN = Path(__file__).parents[1] / "data" / "manifests"
MINIMAL: dict[str, Json] = {"digital_source_type": SOURCE_TYPES["digitalCapture"], "generator": "byok-client/9.9"}
FULL: dict[str, Json] = {
    "ai_assisted": False,
    "ai_generated": True,
    "created_at": "2026-01-31T12:00:00Z",
    "creator": ["Ada"],
    "deepfake_disclosure": "The face was replaced.",
    "digital_source_type": SOURCE_TYPES["trainedAlgorithmicMedia"],
    "editor": ["Grace", "Edsger"],
    "exif": {"exif:FNumber": 2.8, "tiff:Make": "X"},
    "generator": "ComfyUI/1.2",
    "legal_case_ref": "4 O 17/26",
    "legal_entity": "Example GmbH",
    "location_hint": "Berlin",
    "model": "Flux 1",
    "prompt_hash": "ab" * 32,
    "published": True,
    "voiceclone_disclosure": False,
}


def contents(definition: dict[str, object]) -> dict[str, object]:
    assertions = definition["assertions"]
    assert isinstance(assertions, list)
    return {entry["label"]: entry["data"] for entry in assertions}


@pytest.mark.parametrize(
    ("golden", "values", "has_parent"),
    [
        ("minimal", MINIMAL, False),
        ("full", FULL, False),
        ("edit", FULL, True),
        ("edit-unstated", {"generator": "byok-client/9.9"}, True),
    ],
)
def test_a_manifest_is_composed_as_on_file(golden: str, values: dict[str, Json], *, has_parent: bool) -> None:
    composition = compose(recipe(), values, title="a.jpg", has_parent=has_parent)
    composed = {"definition": composition.definition, "parent": composition.parent}
    assert composed == json.loads((GOLDEN / f"{golden}.json").read_text())


def test_every_name_of_the_table_finds_its_place_and_back() -> None:
    assert FULL.keys() == ASSERTIONS.keys()
    definition = compose(recipe(), FULL, title=None, has_parent=False).definition
    assert values_of(contents(definition), {"name": "ComfyUI", "version": "1.2"}) == FULL


@pytest.mark.parametrize("has_parent", [True, False])
def test_there_is_one_actions_assertion_and_it_begins_with_the_only_inception(*, has_parent: bool) -> None:
    definition = compose(recipe(), FULL, title=None, has_parent=has_parent).definition
    assertions = definition["assertions"]
    assert isinstance(assertions, list)
    actions = [entry for entry in assertions if entry["label"].startswith("c2pa.actions")]
    assert [entry["label"] for entry in actions] == [ACTIONS_LABEL]
    inceptions = [action["action"] in {"c2pa.created", "c2pa.opened"} for action in actions[0]["data"]["actions"]]
    assert inceptions[0] is True
    assert not any(inceptions[1:])


def test_the_signer_vouches_for_all_of_it() -> None:
    assertions = compose(recipe(), FULL, title=None, has_parent=False).definition["assertions"]
    assert isinstance(assertions, list)
    assert all(entry["created"] is True for entry in assertions)


def test_every_manifest_names_its_recipe() -> None:
    stamp = contents(compose(recipe(), MINIMAL, title=None, has_parent=False).definition)[RECIPE_LABEL]
    assert stamp == {"namespace": "media", "name": "photo", "version": 2, "effectiveHash": "ab" * 32}


def test_composition_is_deterministic() -> None:
    backwards = dict(reversed(FULL.items()))
    first = compose(recipe(), FULL, title="t", has_parent=True)
    assert json.dumps(first.definition, sort_keys=True) == json.dumps(
        compose(recipe(), dict(sorted(backwards.items())), title="t", has_parent=True).definition,
        sort_keys=True,
    )


@pytest.mark.parametrize(
    ("under", "has_parent", "words"),
    [
        (recipe(forbid_ingredients=True), True, "forbids ingredients"),
        (recipe(require_ingredient_chain=True), False, "requires a parent"),
    ],
)
def test_a_recipes_word_on_ingredients_is_kept(under: Recipe, words: str, *, has_parent: bool) -> None:
    with pytest.raises(Refusal, match=words) as refused:
        compose(under, MINIMAL, title=None, has_parent=has_parent)
    assert refused.value.reason is Reason.RecipeNotMet


def test_thumbnails_are_off_and_nothing_is_fetched() -> None:
    assert SETTINGS["builder"] == {"thumbnail": {"enabled": False}}
    assert SETTINGS["verify"] == {"remote_manifest_fetch": False}
