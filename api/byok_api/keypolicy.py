"""What a key's owner pastes into policies so that the signer may use the key, and nothing more.

Sources: AWS KMS developer guide, "Key policies" and "AWS KMS condition keys" (kms:SigningAlgorithm and kms:MessageType
are keys of Sign, so that GetPublicKey needs a statement of its own); IAM user guide, "Access to AWS accounts owned by
third parties" and "Pass session tags in AWS STS".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from byok_api.algorithms import SigningAlgorithm
from byok_api.references import ObjectName

Statement = dict[str, object]
"""One element of a policy's `Statement`."""


@dataclass(frozen=True)
class Grantee:
    """The identity that calls KMS, and how it comes to be."""

    principal: str
    """ARN of the role that calls KMS."""
    session_tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of its session, where it is a role that the signer assumes: they tell this key's calls from others'."""
    assumed_by: str | None = None
    """ARN of the signer's own role, where `principal` is a role that it assumes."""


def session_tags(installation: str, key: ObjectName) -> dict[str, str]:
    """List the tags of the session in which a role that was assumed for `key` calls KMS."""
    return {"byok-cluster": installation, "byok-namespace": key.namespace, "byok-key": key.name}


def public_key_statement(grantee: Grantee) -> Statement:
    """Allow GetPublicKey, in a key policy."""
    return _allow(grantee, "kms:GetPublicKey", _tagged(grantee))


def sign_statement(grantee: Grantee, algorithm: SigningAlgorithm) -> Statement:
    """Allow Sign with one algorithm, in a key policy."""
    condition = {
        "kms:SigningAlgorithm": algorithm.facts.kms,
        "kms:MessageType": "RAW" if algorithm.facts.hash_name is None else "DIGEST",
    }
    return _allow(grantee, "kms:Sign", condition | _tagged(grantee))


def key_policy_statements(grantee: Grantee, algorithm: SigningAlgorithm) -> list[Statement]:
    """List what a key's policy must hold for the signer, and all that it should."""
    return [public_key_statement(grantee), sign_statement(grantee, algorithm)]


def trust_statements(grantee: Grantee, external_id: str) -> list[Statement]:
    """List what the trust policy of a role must hold for the signer to assume it for one key; empty without a role."""
    if grantee.assumed_by is None:
        return []
    signer = Grantee(grantee.assumed_by)
    tags = {f"aws:RequestTag/{name}": value for name, value in grantee.session_tags.items()}
    return [
        _allow(signer, "sts:AssumeRole", {"sts:ExternalId": external_id, **tags}),
        # AssumeRole with tags asks the policy for both.
        _allow(signer, "sts:TagSession", tags),
    ]


def as_json(statements: list[Statement]) -> str:
    """Print statements as they are pasted into a policy: one object, or more with a comma between them."""
    return ",\n".join(json.dumps(statement, indent=2) for statement in statements)


def _tagged(grantee: Grantee) -> dict[str, str]:
    return {f"aws:PrincipalTag/{name}": value for name, value in grantee.session_tags.items()}


def _allow(grantee: Grantee, action: str, condition: Mapping[str, str]) -> Statement:
    # Without Sid, which must be unique in a policy, so that pasting never fails on it.
    statement: Statement = {"Effect": "Allow", "Principal": {"AWS": grantee.principal}, "Action": action}
    if action.startswith("kms:"):
        # In a key policy, "*" is the key that the policy belongs to; a trust policy has no Resource.
        statement["Resource"] = "*"
    if condition:
        statement["Condition"] = {"StringEquals": dict(condition)}
    return statement
