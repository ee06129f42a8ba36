"""Thousands of keys and recipes: each key with a public key and a certificate of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from byok_api.fields import API_VERSION
from byok_api.references import ObjectName
from byok_sandbox.ca import SigningAuthority, name, pem_of

_REGION, _ACCOUNT = "eu-central-1", "111122223333"
_PER_NAMESPACE = 100
_VALIDITY = timedelta(days=90)


@dataclass(frozen=True)
class Fleet:
    """What is applied, and the private keys that KMS must have."""

    keys: list[dict[str, Any]]
    recipes: list[dict[str, Any]]
    private_keys: dict[str, bytes]
    """PEM by key ARN."""

    @property
    def namespaces(self) -> list[str]:
        """Every namespace in it."""
        return sorted({each["metadata"]["namespace"] for each in self.keys})


def fleet(count: int) -> Fleet:
    """Make `count` keys, and as many recipes, one for each; a hundred of each in a namespace."""
    authority, now = SigningAuthority.create(now=datetime.now(UTC)), datetime.now(UTC)
    made = Fleet([], [], {})
    for number in range(count):
        namespace = f"team-{number // _PER_NAMESPACE:03d}"
        private_key = ec.generate_private_key(ec.SECP256R1())
        arn = f"arn:aws:kms:{_REGION}:{_ACCOUNT}:key/{number:08x}-0000-4000-8000-000000000000"
        subject = name("Example Media", f"key {number}")
        chain = authority.certify(private_key.public_key(), subject, now=now, validity=_VALIDITY)
        made.keys.append(key(ObjectName(namespace, f"key-{number}"), arn, pem_of(chain.certificates)))
        made.recipes.append(recipe(ObjectName(namespace, f"recipe-{number}"), f"key-{number}"))
        made.private_keys[arn] = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made


def key(named: ObjectName, arn: str, pem: str) -> dict[str, Any]:
    """Write a ByokKey."""
    return _object("ByokKey", named, {"aws": {"keyArn": arn}, "certificate": {"pem": pem}})


def recipe(named: ObjectName, key_name: str) -> dict[str, Any]:
    """Write a SigningRecipe that demands some assertions."""
    c2pa = {"enabled": True, "assertions": ["creator", "created_at"], "defaults": {"creator": ["Example Media"]}}
    spec = {"version": 1, "mediaType": "image", "c2pa": c2pa, "keyRef": {"name": key_name}}
    return _object("SigningRecipe", named, spec)


def _object(kind: str, named: ObjectName, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": named.namespace, "name": named.name}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def in_pairs(made: Fleet) -> Iterator[dict[str, Any]]:
    """Give each key, and its recipe after it."""
    for one, another in zip(made.keys, made.recipes, strict=True):
        yield one
        yield another
