"""Objects of both kinds from short descriptions, by the way that manifests take."""

from typing import Any

from byok_api.byokkey import ByokKey
from byok_api.fields import API_VERSION
from byok_api.objects import parse_object
from byok_api.references import ObjectName
from byok_api.resolution import EffectiveRecipe, resolve
from byok_api.signingrecipe import SigningRecipe

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PRESETS = "byok-system"


def manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest; `name` is namespace/name."""
    namespace, _, short = name.partition("/")
    metadata = {"namespace": namespace, "name": short}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def recipe(name: str, **spec: Any) -> SigningRecipe:  # noqa: ANN401 - any spec
    """Make a SigningRecipe; version 1 unless said otherwise."""
    parsed = parse_object(manifest("SigningRecipe", name, {"version": 1, **spec}), "test.yaml")
    assert isinstance(parsed, SigningRecipe)
    return parsed


def key(name: str = "keys/brand", **spec: Any) -> ByokKey:  # noqa: ANN401 - any spec
    """Make a ByokKey; for KEY_ARN unless said otherwise."""
    parsed = parse_object(manifest("ByokKey", name, {"aws": {"keyArn": KEY_ARN}, **spec}), "test.yaml")
    assert isinstance(parsed, ByokKey)
    return parsed


def resolved(
    *recipes: SigningRecipe,
    managed_key: ObjectName | None = None,
    presets_namespace: str = PRESETS,
) -> EffectiveRecipe:
    """Resolve the last of these recipes among all of them."""
    known = {each.name: each for each in recipes}
    return resolve(recipes[-1], known.get, presets_namespace=presets_namespace, managed_key=managed_key)
