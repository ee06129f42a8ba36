"""Ways in which a KMS key or its certificate does not fit, done to a key that did."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.references import KeyArn
from byok_sandbox import ca, parts
from byok_sandbox.filling import FIRST, CertifiedKey
from tests.support.pki import NOW, Leaf, extensions
from tests.testenv.surroundings import Surroundings

Break = Callable[[Surroundings, CertifiedKey], Mapping[str, Any]]
"""Does it in KMS, or answers fields of the ByokKey's spec that do it."""

GONE = "00000000-0000-0000-0000-000000000000"


def named(old: str, new: str) -> Break:
    """Name another key: a part of the ARN is replaced."""
    return lambda _, key: {"aws": {"keyArn": str(key.arn).replace(old, new)}}


def gone(_around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Name a key that is not there."""
    return {"aws": {"keyArn": str(key.arn).rpartition("/")[0] + f"/{GONE}"}}


def of_kind(usage: str, spec: str) -> Break:
    """Name a key of another usage and spec, which is granted all the same."""

    def change(around: Surroundings, _key: CertifiedKey) -> Mapping[str, Any]:
        # The client's own types list the values that AWS takes; these come from a table.
        kms = cast("Any", around.owner.kms)
        made = KeyArn(kms.create_key(KeyUsage=usage, KeySpec=spec)["KeyMetadata"]["Arn"])
        around.owner.grant(made, FIRST)
        return {"aws": {"keyArn": str(made)}}

    return change


def disabled(around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Disable the key."""
    around.owner.kms.disable_key(KeyId=str(key.arn))
    return {}


def pending_deletion(around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Schedule the key's deletion."""
    around.owner.kms.schedule_key_deletion(KeyId=str(key.arn), PendingWindowInDays=7)
    return {}


def never_granted(around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Take the signer's statements out of the key policy."""
    around.owner.revoke(key.arn)
    return {}


def behind_an_alias_that_moved(around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Name the key by an alias, and have that point to another key."""
    alias = f"alias/moved-{str(key.arn)[-12:]}"
    around.owner.kms.create_alias(AliasName=alias, TargetKeyId=str(key.arn))
    other = parts.certified_key(around.owner, FIRST, around.authority)
    around.owner.kms.update_alias(AliasName=alias, TargetKeyId=str(other.arn))
    return {"aws": {"keyArn": str(key.arn).rpartition(":")[0] + f":{alias}"}}


def expired(around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Register a certificate that was valid until 110 days ago."""
    return _certified(around, key, Leaf(not_before=NOW - timedelta(days=200)))


def of_a_ca(around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Register a leaf with CA:TRUE."""
    return _certified(
        around, key, Leaf(extensions=extensions((x509.BasicConstraints(ca=True, path_length=None), True)))
    )


def in_the_wrong_order(_around: Surroundings, key: CertifiedKey) -> Mapping[str, Any]:
    """Register the issuer before the leaf."""
    return {"certificate": {"pem": ca.pem_of(tuple(reversed(key.chain.certificates)))}}


def of_another_key(around: Surroundings, _key: CertifiedKey) -> Mapping[str, Any]:
    """Register the chain of another key."""
    return {
        "certificate": {"pem": ca.pem_of(parts.certified_key(around.owner, FIRST, around.authority).chain.certificates)}
    }


def not_a_certificate(_around: Surroundings, _key: CertifiedKey) -> Mapping[str, Any]:
    """Register what only looks like PEM."""
    return {"certificate": {"pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}


def without_a_certificate(_around: Surroundings, _key: CertifiedKey) -> Mapping[str, Any]:
    """Register none."""
    return {"certificate": None}


def _certified(around: Surroundings, key: CertifiedKey, leaf: Leaf) -> Mapping[str, Any]:
    public_key = load_der_public_key(around.owner.kms.get_public_key(KeyId=str(key.arn))["PublicKey"])
    issuer = around.authority.intermediate
    issued = replace(leaf, public_key=cast("CertificatePublicKeyTypes", public_key)).issued_by(issuer)
    return {"certificate": {"pem": ca.pem_of((issued, issuer.certificate))}}
