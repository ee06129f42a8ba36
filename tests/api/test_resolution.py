import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from byok_api.errors import Reason, Refusal
from byok_api.inheritance import hashed_fields
from byok_api.manifests import load_documents
from byok_api.objects import parse_object
from byok_api.presets import RESERVED_NAMES
from byok_api.references import ObjectName
from byok_api.resolution import EffectiveRecipe
from byok_api.signingrecipe import KmsMode, MediaType, SigningRecipe
from tests.support.kinds import PRESETS, recipe, resolved

GOLDEN = Path(__file__).parent / "data" / "resolution"


def child_of(parent: dict[str, Any], child: dict[str, Any]) -> EffectiveRecipe:
    return resolved(recipe("media/base", **parent), recipe("media/photo", extends="base@1", **child))


def refused(*recipes: SigningRecipe) -> str:
    with pytest.raises(Refusal) as refusal:
        resolved(*recipes)
    assert refusal.value.reason is Reason.RecipeInvalid
    return str(refusal.value)


def test_unset_fields_have_their_defaults() -> None:
    effective = resolved(recipe("media/photo"))
    assert (effective.enabled, effective.require_ingredient_chain, effective.forbid_ingredients) == (True, False, False)
    assert (effective.assertions, effective.allowed_labels, effective.kms_mode) == ((), (), KmsMode.BYOK)
    assert (effective.key, effective.media_type, effective.lineage, effective.notes) == (None, None, (), ())


@pytest.mark.parametrize(
    ("parent", "child", "field", "expected"),
    [
        ({"mediaType": "image"}, {}, "media_type", MediaType.IMAGE),
        ({}, {"mediaType": "image"}, "media_type", MediaType.IMAGE),
        ({"c2pa": {"assertions": ["creator"]}}, {"c2pa": {"assertions": ["exif"]}}, "assertions", ("creator", "exif")),
        ({"c2pa": {"assertions": ["creator"]}}, {"c2pa": {"assertions": []}}, "assertions", ("creator",)),
        ({"c2pa": {"optionalAssertions": ["creator"]}}, {}, "optional_assertions", ("creator",)),
        (
            {"c2pa": {"optionalAssertions": ["creator"]}},
            {"c2pa": {"optionalAssertions": ["exif"]}},
            "optional_assertions",
            ("exif",),
        ),
        ({"c2pa": {"optionalAssertions": ["exif"]}}, {"c2pa": {"assertions": ["exif"]}}, "optional_assertions", ()),
        ({"c2pa": {"enabled": True}}, {"c2pa": {"enabled": False}}, "enabled", True),
        ({"c2pa": {"enabled": False}}, {"c2pa": {"enabled": True}}, "enabled", True),
        ({"c2pa": {"enabled": False}}, {}, "enabled", False),
        ({"c2pa": {"ingredients": "Forbid"}}, {"c2pa": {"ingredients": "Allow"}}, "forbid_ingredients", True),
        ({"c2pa": {"ingredients": "Allow"}}, {"c2pa": {"ingredients": "Forbid"}}, "forbid_ingredients", True),
        (
            {"c2pa": {"requireIngredientChain": True}},
            {"c2pa": {"requireIngredientChain": False}},
            "require_ingredient_chain",
            True,
        ),
        ({"c2pa": {"allowedLabels": ["com.a", "com.b"]}}, {}, "allowed_labels", ("com.a", "com.b")),
        ({}, {"c2pa": {"allowedLabels": ["com.a"]}}, "allowed_labels", ("com.a",)),
        (
            {"c2pa": {"allowedLabels": ["com.a", "com.b"]}},
            {"c2pa": {"allowedLabels": ["com.b", "com.c"]}},
            "allowed_labels",
            ("com.b",),
        ),
        ({"c2pa": {"allowedLabels": []}}, {"c2pa": {"allowedLabels": ["com.a"]}}, "allowed_labels", ()),
        (
            {"c2pa": {"defaults": {"creator": "A", "model": "m"}}},
            {"c2pa": {"defaults": {"creator": ["B", "C"]}}},
            "defaults",
            {"creator": ["B", "C"], "model": "m"},
        ),
        ({"timestamp": {"url": "https://a"}}, {"timestamp": {"url": "https://b"}}, "timestamp_url", "https://b"),
        ({"timestamp": {"url": "https://a"}}, {}, "timestamp_url", "https://a"),
    ],
    ids=str,
)
def test_a_field_is_inherited_as_it_is_marked(
    parent: dict[str, Any], child: dict[str, Any], field: str, expected: object
) -> None:
    assert getattr(child_of(parent, child), field) == expected


@pytest.mark.parametrize(
    ("part", "details"),
    [
        ("watermark", {"engine": "trustmark"}),
        ("softBinding", {"methods": ["perceptual_hash"]}),
        ("anchoring", {"methods": ["bitcoin"]}),
    ],
)
def test_what_is_switched_on_stays_on_and_its_other_fields_are_inherited_one_by_one(
    part: str, details: dict[str, Any]
) -> None:
    effective = child_of({part: {"enabled": True, **details}}, {part: {"enabled": False}})
    inherited = json.loads(effective.hashed_json)[part]
    assert inherited == {"enabled": True, **details}


def test_a_child_for_other_media_than_its_parent_is_refused() -> None:
    message = refused(
        recipe("media/base", mediaType="image"), recipe("media/clip", extends="base@1", mediaType="video")
    )
    assert message == (
        "SigningRecipe media/clip@1: mediaType is video, but SigningRecipe media/base@1 is for image; "
        "extend a recipe for video"
    )


def test_a_child_that_contradicts_what_it_inherits_is_refused() -> None:
    base = recipe("media/base", c2pa={"requireIngredientChain": True})
    message = refused(base, recipe("media/photo", extends="base@1", c2pa={"ingredients": "Forbid"}))
    assert "with what it inherits from SigningRecipe media/base@1: requireIngredientChain: true and" in message


def test_what_has_no_effect_is_noted() -> None:
    effective = child_of(
        {"c2pa": {"enabled": True, "allowedLabels": ["com.a"]}, "retention": {"manifestDays": 30}},
        {"c2pa": {"enabled": False, "allowedLabels": ["com.b"]}, "watermark": {"enabled": False}},
    )
    assert effective.notes == (
        "c2pa.enabled: false has no effect: SigningRecipe media/base@1 is stricter",
        "c2pa.allowedLabels: com.b has no effect: SigningRecipe media/base@1 does not allow it",
        "retention.manifestDays is recorded and not put into effect by this version",
    )


def test_a_parents_note_names_the_parent() -> None:
    top = recipe("media/top", c2pa={"enabled": True})
    middle = recipe("media/middle", extends="top@1", c2pa={"enabled": False})
    effective = resolved(top, middle, recipe("media/photo", extends="middle@1"))
    assert effective.notes[0].startswith("SigningRecipe media/middle@1: c2pa.enabled: false has no effect")


def test_a_preset_wins_over_a_recipe_of_its_name_beside_the_child() -> None:
    preset = recipe(f"{PRESETS}/base", c2pa={"assertions": ["creator"]})
    effective = resolved(preset, recipe("media/base"), recipe("media/photo", extends="base@1"))
    assert effective.lineage[0].name == ObjectName(PRESETS, "base")


def test_a_presets_parent_is_looked_up_beside_the_preset() -> None:
    preset = recipe(f"{PRESETS}/middle", extends="base@1")
    message = refused(recipe("media/base"), preset, recipe("media/photo", extends="middle@1"))
    assert f"SigningRecipe {PRESETS}/middle@1: extends base@1, which is in neither namespace {PRESETS}" in message


def test_a_local_recipe_with_a_presets_name_is_refused() -> None:
    assert "has a preset's name" in refused(recipe(f"{PRESETS}/base"), recipe("media/base"))


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_presets_name_is_reserved_even_where_the_preset_is_missing(name: str) -> None:
    assert "has a preset's name" in refused(recipe(f"media/{name}"))
    assert "has a preset's name" in refused(recipe(f"media/{name}"), recipe("media/photo", extends=f"{name}@1"))


def test_an_unknown_parent_is_refused_by_name() -> None:
    assert refused(recipe("media/photo", extends="base@1")) == (
        f"SigningRecipe media/photo@1: extends base@1, which is in neither namespace {PRESETS} nor media; "
        "apply it, or correct extends"
    )


def test_a_parent_of_a_name_that_no_object_can_have_is_refused() -> None:
    assert "extends: 'aaaa" in refused(recipe("media/photo", extends="a" * 254 + "@1"))


def test_another_namespaces_recipe_is_no_parent() -> None:
    assert "neither namespace" in refused(recipe("other/base"), recipe("media/photo", extends="base@1"))


def test_a_parent_of_another_version_is_refused_by_name() -> None:
    message = refused(recipe("media/base", version=2), recipe("media/photo", extends="base@1"))
    assert "extends base@1, but media/base is version 2" in message


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_is_refused_with_its_path(length: int) -> None:
    recipes = [recipe(f"media/r{index}", extends=f"r{(index + 1) % length}@1") for index in range(length)]
    path = " -> ".join(f"media/r{index % length}@1" for index in range(length - 1, 2 * length))
    assert f"extends itself: {path}; break the cycle" in refused(*recipes)


def lineage(length: int) -> list[SigningRecipe]:
    rest = [recipe(f"media/r{index}", extends=f"r{index - 1}@1") for index in range(1, length)]
    return [recipe("media/r0"), *rest]


def test_a_lineage_of_eight_is_resolved_and_one_of_nine_refused() -> None:
    assert [entry.name.name for entry in resolved(*lineage(8)).lineage] == [f"r{index}" for index in range(6, -1, -1)]
    assert "lineage of over 8 recipes" in refused(*lineage(9))


def test_each_parent_is_listed_with_its_own_hash() -> None:
    base, middle = recipe("media/base", mediaType="image"), recipe("media/middle", extends="base@1")
    effective = resolved(base, middle, recipe("media/photo", extends="middle@1", c2pa={"assertions": ["exif"]}))
    assert [entry.hash for entry in effective.lineage] == [resolved(base, middle).hash, resolved(base).hash]


@pytest.mark.parametrize(
    ("base", "child", "expected"),
    [
        ({"keyRef": {"name": "k"}}, {}, "shared/k"),
        ({"keyRef": {"name": "k", "namespace": "keys"}}, {}, "keys/k"),
        ({"keyRef": {"name": "k", "namespace": "keys"}}, {"keyRef": {"name": "own"}}, "media/own"),
        ({"kmsMode": "managed"}, {}, "system/managed"),
        ({"kmsMode": "managed"}, {"kmsMode": "byok", "keyRef": {"name": "own"}}, "media/own"),
        ({"keyRef": {"name": "k"}}, {"kmsMode": "managed"}, "system/managed"),
        ({}, {}, None),
    ],
    ids=str,
)
def test_the_key_is_that_of_the_nearest_recipe_which_names_one(
    base: dict[str, Any], child: dict[str, Any], expected: str | None
) -> None:
    # The parent stands in the presets' namespace, here called shared: the one place a parent may stand apart.
    parent, photo = recipe("shared/base", **base), recipe("media/photo", extends="base@1", **child)
    managed = ObjectName("system", "managed")
    effective = resolved(parent, photo, managed_key=managed, presets_namespace="shared")
    assert (str(effective.key) if effective.key else None) == expected


def test_a_key_named_below_an_inherited_managed_mode_is_refused() -> None:
    message = refused(
        recipe("media/base", kmsMode="managed"), recipe("media/photo", extends="base@1", keyRef={"name": "k"})
    )
    assert "sets keyRef, but inherits kmsMode: managed from SigningRecipe media/base@1" in message


def test_managed_without_a_managed_key_cannot_sign_and_says_so() -> None:
    effective = resolved(recipe("media/photo", kmsMode="managed"))
    assert effective.key is None
    assert effective.notes == ("kmsMode: managed has no effect: this installation names no managed key",)


def test_the_hash_is_that_of_the_canonical_json() -> None:
    effective = child_of({"mediaType": "image"}, {"c2pa": {"assertions": ["exif", "creator"]}})
    assert effective.hash == hashlib.sha256(effective.hashed_json).hexdigest()
    assert rfc8785.dumps(json.loads(effective.hashed_json)) == effective.hashed_json


@pytest.mark.parametrize(
    "spec",
    [
        {"version": 2},
        {"description": "x"},
        {"keyRef": {"name": "k"}},
        {"kmsMode": "managed"},
        {"billing": {"meter": "m"}},
        {"signerPinning": {"keyAlias": "k"}},
        {"c2pa": {"enabled": True, "assertions": [], "ingredients": "Allow"}},
        {"watermark": {}},
    ],
    ids=str,
)
def test_the_hash_does_not_cover_key_name_billing_or_spelt_out_defaults(spec: dict[str, Any]) -> None:
    assert resolved(recipe("other/name", **spec)).hash == resolved(recipe("media/photo")).hash


CONTENT: dict[str, dict[str, Any]] = {
    "mediaType": {"mediaType": "image"},
    "c2pa.enabled": {"c2pa": {"enabled": False}},
    "c2pa.assertions": {"c2pa": {"assertions": ["exif"]}},
    "c2pa.optionalAssertions": {"c2pa": {"optionalAssertions": ["exif"]}},
    "c2pa.defaults": {"c2pa": {"defaults": {"creator": "A"}}},
    "c2pa.allowedLabels": {"c2pa": {"allowedLabels": ["com.a"]}},
    "c2pa.requireIngredientChain": {"c2pa": {"requireIngredientChain": True}},
    "c2pa.ingredients": {"c2pa": {"ingredients": "Forbid"}},
    "watermark.enabled": {"watermark": {"enabled": True}},
    "watermark.engine": {"watermark": {"engine": "trustmark"}},
    "watermark.payload.type": {"watermark": {"payload": {"type": "uuid"}}},
    "watermark.payload.encoding": {"watermark": {"payload": {"encoding": "bch"}}},
    "softBinding.enabled": {"softBinding": {"enabled": True}},
    "softBinding.methods": {"softBinding": {"methods": ["exact_watermark"]}},
    "anchoring.enabled": {"anchoring": {"enabled": True}},
    "anchoring.methods": {"anchoring": {"methods": ["bitcoin"]}},
    "retention.manifestDays": {"retention": {"manifestDays": 1}},
    "retention.originalAssetDays": {"retention": {"originalAssetDays": 1}},
    "retention.derivedAssetDays": {"retention": {"derivedAssetDays": 1}},
    "verification.minimumConfidence": {"verification": {"minimumConfidence": 0.5}},
    "verification.ambiguousMatchBehavior": {"verification": {"ambiguousMatchBehavior": "reject"}},
    "timestamp.url": {"timestamp": {"url": "https://tsa"}},
}


def test_the_hash_covers_exactly_the_listed_content() -> None:
    hashes = {resolved(recipe("media/photo", **spec)).hash for spec in ({}, *CONTENT.values())}
    assert list(CONTENT) == list(hashed_fields())
    assert len(hashes) == len(CONTENT) + 1


@pytest.mark.parametrize("folder", sorted(path.name for path in GOLDEN.iterdir()))
def test_a_golden_lineage_resolves_to_its_golden_json_and_hash(folder: str) -> None:
    documents = load_documents((GOLDEN / folder / "recipes.yaml").read_bytes(), folder)
    recipes = [parse_object(document, folder) for document in documents]
    effective = resolved(*(each for each in recipes if isinstance(each, SigningRecipe)))
    assert effective.hashed_json.decode() == (GOLDEN / folder / "effective.json").read_text().strip()
    assert effective.hash == (GOLDEN / folder / "sha256").read_text().strip()
