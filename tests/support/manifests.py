"""Small valid manifests, to be varied: as documents, and as text."""

from copy import deepcopy
from typing import Any

import yaml

from byok_api.byokkey import ByokKey
from byok_api.objects import Object, parse_object
from byok_api.signingrecipe import SigningRecipe
from byok_sandbox.ca import pem_of
from tests.support.pki import Identity, identity

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PRESETS = "byok-system"


def pem_of_identity(signer: Identity) -> str:
    """The identity's chain as manifests carry it."""
    return pem_of(signer.chain.certificates)


def key_document(name: str = "media/brand", /, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any part of a spec
    """A ByokKey with the session's ES256 certificate; a value of None takes a field out."""
    defaults: dict[str, Any] = {"aws": {"keyArn": KEY_ARN}, "certificate": {"pem": pem_of_identity(identity())}}
    return _document("ByokKey", name, defaults | spec)


def recipe_document(name: str = "media/photo", /, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any part of a spec
    """A SigningRecipe that uses `media/brand`."""
    return _document("SigningRecipe", name, {"version": 1, "keyRef": {"name": "brand", "namespace": "media"}} | spec)


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    namespace, _, own = name.partition("/")
    return {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": own},
        "spec": {field: deepcopy(value) for field, value in spec.items() if value is not None},
    }


def parsed(document: dict[str, Any]) -> Object:
    """Read a document that is valid."""
    return parse_object(document, "test")


def key(name: str = "media/brand", /, **spec: Any) -> ByokKey:  # noqa: ANN401 - any part of a spec
    """A ByokKey as `key_document` makes it."""
    found = parsed(key_document(name, **spec))
    assert isinstance(found, ByokKey)
    return found


def recipe(name: str = "media/photo", /, **spec: Any) -> SigningRecipe:  # noqa: ANN401 - any part of a spec
    """A SigningRecipe as `recipe_document` makes it."""
    found = parsed(recipe_document(name, **spec))
    assert isinstance(found, SigningRecipe)
    return found


def yaml_of(*documents: dict[str, Any]) -> str:
    """Write documents as a manifest file."""
    return yaml.safe_dump_all(documents, sort_keys=False)
