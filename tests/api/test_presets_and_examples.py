from pathlib import Path

import pytest

from byok_api.byokkey import ByokKey
from byok_api.consent import admits
from byok_api.errors import Refusal
from byok_api.manifests import load_documents
from byok_api.objects import Namespace, Object, parse_object
from byok_api.presets import RESERVED_NAMES, load_presets
from byok_api.references import ObjectName
from byok_api.signingrecipe import MediaType, SigningRecipe
from tests.support.kinds import PRESETS, resolved

ROOT = Path(__file__).parents[2]
SHIPPED = load_presets(ROOT / "charts/byok-operator/presets", PRESETS)


def examples() -> list[Object]:
    files = sorted((ROOT / "examples").glob("*.yaml"))
    return [
        parse_object(document, file.name) for file in files for document in load_documents(file.read_bytes(), file.name)
    ]


RECIPES = [each for each in examples() if isinstance(each, SigningRecipe)]


def test_the_reserved_names_are_those_of_the_presets() -> None:
    assert {preset.name for preset in SHIPPED} == {ObjectName(PRESETS, name) for name in RESERVED_NAMES}


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda preset: preset.metadata.name)
def test_a_preset_demands_where_the_asset_comes_from_and_has_nothing_without_effect(preset: SigningRecipe) -> None:
    effective = resolved(preset)
    assert {"digital_source_type", "generator", "created_at"} <= set(effective.assertions)
    assert effective.notes == ()
    assert effective.key is None


def test_there_is_a_preset_for_each_kind_of_media() -> None:
    assert {preset.spec.media_type for preset in SHIPPED} == {*MediaType, None}


def test_no_child_of_the_strict_preset_can_allow_labels() -> None:
    strict = next(preset for preset in SHIPPED if preset.metadata.name == "enterprise-strict-v1")
    child = SHIPPED[0].model_copy(
        update={
            "metadata": SHIPPED[0].metadata.model_copy(update={"namespace": "media", "name": "photo"}),
            "spec": strict.spec.model_copy(
                update={
                    "extends": "enterprise-strict-v1@1",
                    "c2pa": strict.spec.c2pa and strict.spec.c2pa.model_copy(update={"allowed_labels": ("com.x",)}),
                },
            ),
        },
    )
    assert resolved(strict, child).allowed_labels == ()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.metadata.name)
def test_an_example_extends_a_preset_and_may_use_the_example_key(recipe: SigningRecipe) -> None:
    effective = resolved(*SHIPPED, recipe)
    (owned,) = [each for each in examples() if isinstance(each, ByokKey)]
    labels = {each.metadata.name: each.labels for each in examples() if isinstance(each, Namespace)}
    assert effective.lineage[0].name.name in RESERVED_NAMES
    assert effective.key == owned.name
    assert admits(owned, recipe.name.namespace, labels[recipe.name.namespace])


def test_the_examples_cover_every_kind_of_media_and_carry_no_certificate() -> None:
    assert {resolved(*SHIPPED, recipe).media_type for recipe in RECIPES} == set(MediaType)
    assert all(each.spec.certificate is None for each in examples() if isinstance(each, ByokKey))


def test_namespaces_are_applied_before_what_stands_in_them() -> None:
    kinds = [type(each) for each in examples()]
    assert kinds.index(ByokKey) > max(index for index, kind in enumerate(kinds) if kind is Namespace)


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
        "apiVersion: byok.dev/v1alpha1\nkind: SigningRecipe\nmetadata: {name: x, namespace: y}\nspec: {version: 1}\n",
    ],
)
def test_only_recipes_without_namespace_are_presets(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(Refusal, match="a preset must be a SigningRecipe without namespace"):
        load_presets(tmp_path, PRESETS)


def test_a_preset_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(Refusal, match=r"folder\.yaml: cannot be read: Is a directory"):
        load_presets(tmp_path, PRESETS)
