"""Grants: permissions on one key that a principal gives to another, beside the key policy; pure.

Source: AWS KMS developer guide, "Grants in AWS KMS"; API reference, CreateGrant.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from byok_sandbox.kms.arns import is_principal_arn
from byok_sandbox.kms.faults import AwsFaultError, invalid_value
from byok_sandbox.kms.identities import Caller

GRANT_LIMIT = 50_000
"""Grants on one key (AWS KMS developer guide, "Resource quotas")."""

_COMMON = frozenset({"CreateGrant", "DescribeKey", "RetireGrant"})
_SYMMETRIC = frozenset(
    {
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
    },
)
_BY_USAGE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "SIGN_VERIFY": frozenset({"GetPublicKey", "Sign", "Verify"}),
        "GENERATE_VERIFY_MAC": frozenset({"GenerateMac", "VerifyMac"}),
        "KEY_AGREEMENT": frozenset({"DeriveSharedSecret", "GetPublicKey"}),
    },
)
_ALL = _COMMON | _SYMMETRIC | frozenset().union(*_BY_USAGE.values())
_NAME = re.compile(r"[a-zA-Z0-9:/_-]{1,256}")


@dataclass(frozen=True)
class GrantTerms:
    """What CreateGrant was asked for."""

    grantee: str
    operations: frozenset[str]
    retiring: str | None
    name: str | None


@dataclass(frozen=True)
class Grant:
    """A grant on one key."""

    key_arn: str
    terms: GrantTerms
    issuing_account: str
    created: float
    grant_id: str = field(default_factory=lambda: secrets.token_hex(32))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)

    def permits(self, operation: str, caller: Caller) -> bool:
        """Decide whether this grant lets the caller do an operation on its key."""
        return operation in self.terms.operations and self.terms.grantee in caller.principals

    def may_be_retired_by(self, caller: Caller) -> bool:
        """Decide whether the caller may retire this grant, whatever the key policy says."""
        return self.terms.retiring in caller.principals or self.permits("RetireGrant", caller)

    def entry(self) -> dict[str, Any]:
        """Describe the grant as ListGrants does."""
        optional = {"RetiringPrincipal": self.terms.retiring, "Name": self.terms.name}
        return {
            "KeyId": self.key_arn,
            "GrantId": self.grant_id,
            "GranteePrincipal": self.terms.grantee,
            "Operations": sorted(self.terms.operations),
            "IssuingAccount": f"arn:{self.key_arn.split(':')[1]}:iam::{self.issuing_account}:root",
            "CreationDate": self.created,
            **{name: value for name, value in optional.items() if value is not None},
        }


def read_terms(parameters: Mapping[str, Any], key_usage: str) -> GrantTerms:
    """Check the parameters of CreateGrant for a key of this usage; AwsFaultError as KMS answers."""
    if parameters.get("Constraints"):
        raise AwsFaultError("UnsupportedOperationException", "The sandbox does not emulate grant constraints.")
    operations = parameters["Operations"]
    if not isinstance(operations, list) or not operations or not all(isinstance(name, str) for name in operations):
        raise AwsFaultError("ValidationException", "'operations' must be a list of at least one grant operation.")
    fitting = _COMMON | (_BY_USAGE.get(key_usage, frozenset()) if key_usage != "ENCRYPT_DECRYPT" else _SYMMETRIC)
    for name in operations:
        if name not in _ALL:
            raise invalid_value(name, "operations", f"Member must satisfy enum value set: {sorted(_ALL)}")
        if name not in fitting:
            raise AwsFaultError("ValidationException", f"Grant operation {name} is not valid for usage {key_usage}.")
    name = parameters.get("Name")
    if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        raise invalid_value(str(name), "name", f"Member must satisfy regular expression pattern: {_NAME.pattern}")
    grantee = _principal(parameters.get("GranteePrincipal"))
    retiring = None if parameters.get("RetiringPrincipal") is None else _principal(parameters["RetiringPrincipal"])
    return GrantTerms(grantee, frozenset(operations), retiring, name)


def _principal(value: object) -> str:
    if not isinstance(value, str) or not is_principal_arn(value):
        raise AwsFaultError("InvalidArnException", f"{str(value)[:120]!r} is not the ARN of a role, user or session.")
    return value
