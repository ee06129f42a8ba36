from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.assertions import ASSERTIONS, KNOWN_NAMES
from byok_api.errors import Reason, Refusal
from byok_api.shapes import SOURCE_TYPES, Json
from byok_client.metadata import ASSISTED, GENERATED, Circumstances, settle
from byok_client.recipes import Recipe
from tests.support.client_recipes import recipe

FRESH = Circumstances(datetime(2026, 1, 31, 12, tzinfo=UTC), "byok-client/9.9", has_parent=False)
EDIT = Circumstances(FRESH.now, FRESH.client, has_parent=True)
PHOTO = {"digital_source_type": "digitalCapture"}
TRAINED = SOURCE_TYPES["trainedAlgorithmicMedia"]
COMPOSITE = SOURCE_TYPES["compositeWithTrainedAlgorithmicMedia"]
CAPTURE = SOURCE_TYPES["digitalCapture"]


def settled(given: Mapping[str, object], under: Recipe = recipe(), **circumstances: Any) -> dict[str, Json]:  # noqa: ANN401, B008 - short tables; recipes are frozen
    return settle(under, given, circumstances.get("defaults", {}), circumstances.get("when", FRESH))


def refused(given: Any, under: Recipe = recipe(), **circumstances: Any) -> Refusal:  # noqa: ANN401, B008 - same
    with pytest.raises(Refusal) as caught:
        settled(given, under, **circumstances)
    return caught.value


def test_the_call_wins_over_the_client_and_the_client_over_the_recipe() -> None:
    given = {**PHOTO, "creator": "call"}
    defaults = {"creator": "client", "editor": "client"}
    of_recipe = {"creator": "recipe", "editor": "recipe", "model": "recipe"}
    values = settled(given, recipe(defaults=of_recipe), defaults=defaults)
    assert (values["creator"], values["editor"], values["model"]) == (["call"], ["client"], "recipe")


AI = [
    ({"ai_generated": True}, TRAINED, True, False),
    ({"ai_assisted": True}, COMPOSITE, False, True),
    ({"digital_source_type": "trainedAlgorithmicMedia"}, TRAINED, True, False),
    ({"digital_source_type": "compositeWithTrainedAlgorithmicMedia"}, COMPOSITE, False, True),
    ({"digital_source_type": "compositeSynthetic"}, SOURCE_TYPES["compositeSynthetic"], False, True),
    ({"digital_source_type": "digitalCapture"}, CAPTURE, False, False),
    ({"digital_source_type": "digitalCapture", "ai_generated": False}, CAPTURE, False, False),
    ({"ai_generated": True, "ai_assisted": False}, TRAINED, True, False),
]


@pytest.mark.parametrize(("given", "source", "generated", "assisted"), AI)
def test_the_three_names_of_ai_follow_from_each_other(
    given: Mapping[str, object],
    source: str,
    *,
    generated: bool,
    assisted: bool,
) -> None:
    values = settled(given, recipe("ai_generated", "ai_assisted", "digital_source_type"))
    assert values["digital_source_type"] == source
    assert (values["ai_generated"], values["ai_assisted"]) == (generated, assisted)


CONTRADICTIONS = [
    {"ai_generated": True, "ai_assisted": True},
    {"ai_generated": True, "digital_source_type": "digitalCapture"},
    {"ai_generated": False, "digital_source_type": "trainedAlgorithmicMedia"},
    {"ai_assisted": True, "digital_source_type": "trainedAlgorithmicMedia"},
    {"ai_assisted": False, "digital_source_type": "compositeSynthetic"},
]


@pytest.mark.parametrize("given", CONTRADICTIONS)
def test_contradictions_about_ai_are_refused(given: Mapping[str, object]) -> None:
    assert refused(given).reason is Reason.MetadataInvalid


@pytest.mark.parametrize("default", [{"ai_generated": True}, {"digital_source_type": "trainedAlgorithmicMedia"}])
def test_a_default_gives_way_to_a_call_that_contradicts_it(default: Mapping[str, Json]) -> None:
    values = settled(PHOTO, recipe("ai_generated", defaults=default))
    assert values["ai_generated"] is False
    assert values["digital_source_type"] == CAPTURE


def test_a_default_completes_a_call_that_leaves_it_open() -> None:
    values = settled({"ai_generated": False}, recipe(defaults={"digital_source_type": "digitalCapture"}))
    assert values["digital_source_type"] == CAPTURE


@pytest.mark.parametrize("given", [{}, {"ai_generated": False}, {"ai_generated": False, "ai_assisted": False}])
def test_a_fresh_asset_must_say_where_it_comes_from(given: Mapping[str, object]) -> None:
    refusal = refused(given)
    assert refusal.reason is Reason.MetadataMissing
    assert "digital_source_type" in refusal.message


def test_an_edit_may_leave_its_source_type_to_its_parent() -> None:
    assert "digital_source_type" not in settled({}, when=EDIT)


def test_an_edit_must_state_it_where_the_recipe_asks() -> None:
    refusal = refused({"ai_generated": False}, recipe("ai_generated"), when=EDIT)
    assert refusal.metadata["missing"] == "digital_source_type"


def test_generator_is_derived_from_the_client_and_created_at_from_the_clock() -> None:
    values = settled(PHOTO, recipe("generator", "created_at"))
    assert (values["generator"], values["created_at"]) == ("byok-client/9.9", "2026-01-31T12:00:00Z")


@pytest.mark.parametrize("under", [recipe("created_at"), recipe(optional=frozenset({"created_at"}))])
def test_created_at_is_derived_where_the_recipe_speaks_of_it(under: Recipe) -> None:
    assert "created_at" in settled(PHOTO, under)
    assert "created_at" not in settled(PHOTO)


@pytest.mark.parametrize("name", sorted(set(KNOWN_NAMES) - {"generator", "created_at", "ai_generated", "ai_assisted"}))
def test_what_is_required_and_cannot_be_derived_is_refused_by_name(name: str) -> None:
    refusal = refused({} if name == "digital_source_type" else PHOTO, recipe(name))
    assert refusal.reason is Reason.MetadataMissing
    assert name in refusal.message
    assert "media/photo@2" in refusal.message


def test_all_that_is_lacking_is_named_at_once() -> None:
    assert refused({}, recipe("creator", "model")).metadata["missing"] == "creator,digital_source_type,model"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ai_generatd": True}, "did you mean ai_generated"),
        ({"zzz": 1}, "the names are"),
        ({7: 1}, "'7'"),
        ({"x" * 1000: 1}, "no assertion name"),
        ({"creator": 3}, "creator in metadata is a value of type int, expected a name"),
        ({"created_at": "yesterday"}, "RFC 3339"),
        ({"model": None}, "NoneType"),
        ({"exif": "f/2.8"}, "mapping"),
        ("creator=Ada", "expected a mapping"),
        ([("creator", "Ada")], "expected a mapping"),
    ],
)
def test_unknown_names_and_wrong_shapes_are_refused(given: object, words: str) -> None:
    refusal = refused(given)
    assert refusal.reason is Reason.MetadataInvalid
    assert words in refusal.message
    assert len(refusal.message) < 600


def test_a_bad_default_says_whose_it_is() -> None:
    assert "the client's defaults" in refused(PHOTO, defaults={"model": 1}).message
    assert "the defaults of media/photo@2" in refused(PHOTO, recipe(defaults={"model": 1})).message


def test_a_recipe_that_requires_published_wants_true() -> None:
    assert settled({**PHOTO, "published": True}, recipe("published"))["published"] is True
    assert refused({**PHOTO, "published": False}, recipe("published")).reason is Reason.MetadataInvalid


def test_a_recipe_from_the_future_is_refused_by_what_is_unknown_in_it() -> None:
    refusal = refused(PHOTO, recipe("mood"))
    assert refusal.reason is Reason.RecipeInvalid
    assert "mood" in refusal.message


VALUES: dict[str, object] = {
    "ai_generated": True,
    "creator": "Ada",
    "created_at": "2026-01-31T12:00:00Z",
    "exif": {"FNumber": 2.8},
    "model": "Flux",
    "published": True,
}


@settings(max_examples=50, deadline=None)
@given(st.permutations(sorted(VALUES)), st.sets(st.sampled_from(sorted(VALUES))))
def test_the_order_of_values_does_not_matter(order: list[str], required: set[str]) -> None:
    under = recipe(*required)
    first = settled({name: VALUES[name] for name in order}, under)
    assert list(first.items()) == list(settled(VALUES, under).items())


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(KNOWN_NAMES), st.sampled_from([True, False, "print", "Ada", 1])))
def test_whatever_is_settled_is_consistent(given: dict[str, object]) -> None:
    try:
        values = settled(given)
    except Refusal:
        return
    assert values["ai_generated"] is (values["digital_source_type"] in GENERATED)
    assert values["ai_assisted"] is (values["digital_source_type"] in ASSISTED)
    assert all(ASSERTIONS[name].parse(value) == value for name, value in values.items())
