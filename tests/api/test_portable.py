from typing import Any

import pytest
import yaml

from byok_api.errors import Reason
from byok_api.manifests import ManifestError
from byok_api.objects import parse_object
from byok_api.portable import FIELDS, export_recipe, import_recipe
from byok_api.references import ObjectName
from byok_api.signingrecipe import SigningRecipe
from tests.support.kinds import recipe

FULL: dict[str, Any] = {
    "id": "photo-v2",
    "version": 2,
    "extends": "image-basic-v1@1",
    "media_type": "image",
    "description": "Photos.",
    "c2pa": {"enabled": True, "assertions": ["creator", "exif"], "require_ingredient_chain": True},
    "watermark": {"enabled": True, "engine": "trustmark", "payload": {"type": "uuid", "encoding": "bch"}},
    "soft_binding": {"enabled": True, "methods": ["exact_watermark", "perceptual_hash"]},
    "anchoring": {"enabled": False, "methods": ["opentimestamps", "bitcoin", "arbitrum", "byoc"]},
    "kms_mode": "byok",
    "retention": {"manifest_days": 3650, "original_asset_days": 30, "derived_asset_days": 0},
    "verification": {"minimum_confidence": 0.9, "ambiguous_match_behavior": "reject"},
    "signer_pinning": {"key_alias": "brand", "requires_admin_approval": False},
    "billing": {"meter": "signatures", "unit": "asset"},
}


def imported(document: dict[str, Any], **options: Any) -> dict[str, Any]:  # noqa: ANN401 - any option
    return import_recipe(yaml.safe_dump(document).encode(), "photo.yaml", **options)


def exported(manifest: dict[str, Any]) -> dict[str, Any]:
    parsed = parse_object(manifest, "test.yaml", namespace="media")
    assert isinstance(parsed, SigningRecipe)
    return export_recipe(parsed).document


def leaves(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        parts = [leaves(part, f"{path}.{name}".lstrip(".")) for name, part in value.items()]
        return {name: leaf for part in parts for name, leaf in part.items()}
    return {path: value}


def without(document: Any, path: str) -> Any:  # noqa: ANN401 - any part of a recipe
    first, _, rest = path.partition(".")
    kept = {name: without(part, rest) if name == first and rest else part for name, part in document.items()}
    return {name: part for name, part in kept.items() if (name != first or rest) and part != {}}


def test_the_full_recipe_has_every_field_of_the_format() -> None:
    assert set(leaves(FULL)) == set(FIELDS)


def test_every_field_comes_back() -> None:
    assert exported(imported(FULL)) == FULL


@pytest.mark.parametrize("path", sorted(set(FIELDS) - {"id", "version"}))
def test_a_field_that_is_left_out_stays_out(path: str) -> None:
    document = without(FULL, path)
    assert path not in leaves(document)
    assert exported(imported(document)) == document


def test_a_recipe_of_nothing_but_name_and_version_comes_back() -> None:
    assert exported(imported({"id": "a", "version": 1})) == {"id": "a", "version": 1}


def test_the_key_alias_becomes_the_key_unless_another_is_given() -> None:
    assert imported(FULL)["spec"]["keyRef"] == {"name": "brand"}
    other = imported(FULL, key=ObjectName("keys", "other"), namespace="media")
    assert other["spec"]["keyRef"] == {"name": "other", "namespace": "keys"}
    assert other["metadata"] == {"name": "photo-v2", "namespace": "media"}
    assert exported(other) == FULL


def test_a_managed_recipe_keeps_its_alias_without_naming_a_key() -> None:
    managed = FULL | {"kms_mode": "managed"}
    assert "keyRef" not in imported(managed)["spec"]
    assert exported(imported(managed)) == managed


def test_the_key_of_a_recipe_that_was_never_imported_is_its_alias() -> None:
    document = export_recipe(recipe("media/photo", keyRef={"name": "brand"}))
    assert (document.document["signer_pinning"], document.left_out) == ({"key_alias": "brand"}, ())


def test_what_the_format_has_no_place_for_is_named() -> None:
    spec = {
        "c2pa": {"defaults": {"creator": "A"}, "allowedLabels": ["com.a"]},
        "keyRef": {"name": "other", "namespace": "keys"},
        "signerPinning": {"keyAlias": "brand"},
        "timestamp": {"url": "https://tsa"},
    }
    assert export_recipe(recipe("media/photo", **spec)).left_out == (
        "spec.c2pa.allowedLabels",
        "spec.c2pa.defaults.creator",
        "spec.keyRef.name",
        "spec.keyRef.namespace",
        "spec.timestamp.url",
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"mediaType": "image"}, "mediaType"),
        ({"c2pa": {"optional_assertions": ["creator"]}}, "c2pa.optional_assertions"),
        ({"keyRef": {"name": "x"}}, "keyRef.name"),
        ({"c2pa": True}, "c2pa"),
        ({"retention": {}}, "retention"),
        ({"version": "1"}, "version"),
        ({"id": "No Name"}, "id"),
        ({"media_type": "hologram"}, "media_type"),
        ({"c2pa": {"assertions": ["creator", "genre"]}}, "c2pa.assertions[1]"),
        ({"watermark": {"engine": "ink"}}, "watermark.engine"),
        ({"soft_binding": {"methods": ["glue"]}}, "soft_binding.methods[0]"),
        ({"anchoring": {"methods": ["ship"]}}, "anchoring.methods[0]"),
        ({"signer_pinning": {"key_alias": "alias/brand"}}, "signer_pinning.key_alias"),
        ({"signer_pinning": {"requires_admin_approval": True}}, "signer_pinning"),
        ({"description": None}, "description"),
    ],
    ids=str,
)
def test_a_bad_field_is_refused_by_its_portable_name(change: dict[str, Any], path: str) -> None:
    with pytest.raises(ManifestError) as refused:
        imported({"id": "a", "version": 1, **change})
    assert refused.value.reason is Reason.RecipeInvalid
    assert [finding.path for finding in refused.value.findings] == [path]


def test_a_recipe_without_name_and_version_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"id: is missing.*version: is missing"):
        imported({"media_type": "image"})


def test_a_bad_field_is_refused_with_its_line() -> None:
    with pytest.raises(ManifestError, match=r"^photo\.yaml:4: portable recipe: watermark\.engine: should be"):
        import_recipe(b"id: a\nversion: 1\nwatermark:\n  engine: ink\n", "photo.yaml")


@pytest.mark.parametrize("data", [b"", b"id: a\nversion: 1\n---\nid: b\nversion: 1\n"])
def test_a_file_holds_one_recipe(data: bytes) -> None:
    with pytest.raises(ManifestError, match="give one recipe in a file"):
        import_recipe(data, "photo.yaml")


def test_an_alias_that_is_no_name_needs_the_key_given() -> None:
    document = {"id": "a", "version": 1, "signer_pinning": {"key_alias": "alias/brand"}}
    with pytest.raises(ManifestError, match="--key NAMESPACE/NAME"):
        imported(document)
    assert imported(document, key=ObjectName("keys", "brand"))["spec"]["signerPinning"] == {"keyAlias": "alias/brand"}
