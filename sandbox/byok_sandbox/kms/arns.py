"""Names of keys, aliases and principals: what a `KeyId` may be, and ARNs taken apart.

Source: AWS KMS developer guide, "Key identifiers (KeyId)"; AWS General Reference, "Amazon Resource Names".
"""

import re
from dataclasses import dataclass

from byok_sandbox.kms.faults import AwsFaultError

_KEY_ID = re.compile(r"(?:mrk-[0-9a-f]{32}|(?:mrk-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_PRINCIPAL = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?:iam::(?P<iam>[0-9]{12}):(?:root|(?:role|user)/[A-Za-z0-9+=,.@_/-]{1,512})"
    r"|sts::(?P<sts>[0-9]{12}):assumed-role/[A-Za-z0-9+=,.@_-]{1,64}/[A-Za-z0-9+=,.@_-]{2,64})",
)
_KEY_ID_LIMIT = 2048
REGION = re.compile(r"[a-z]{2}(?:-[a-z]{2,10}){1,3}-[0-9]")


@dataclass(frozen=True)
class KeyReference:
    """A `KeyId` parameter, resolved against the caller's account and the request's Region."""

    account: str
    region: str
    key_id: str | None
    """The key's id, if it was named by id or key ARN."""
    alias: str | None
    """`alias/...`, if it was named by that or by alias ARN."""

    @property
    def arn(self) -> str:
        """The ARN of the key or alias."""
        name = self.alias or f"key/{self.key_id}"
        return f"arn:{partition_of(self.region)}:kms:{self.region}:{self.account}:{name}"


def partition_of(region: str) -> str:
    """Name the partition that a Region belongs to."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def parse_key_reference(text: str, account: str, region: str) -> KeyReference:
    """Read a key id, key ARN, alias name or alias ARN; AwsFaultError as KMS answers for what is none of these."""
    if not 0 < len(text) <= _KEY_ID_LIMIT:
        raise AwsFaultError("ValidationException", f"'keyId' must have 1 to {_KEY_ID_LIMIT} characters.")
    if text.startswith("arn:"):
        return _parse_arn(text, region)
    if _ALIAS.fullmatch(text):
        return KeyReference(account, region, None, text)
    if _KEY_ID.fullmatch(text):
        return KeyReference(account, region, text, None)
    raise AwsFaultError("NotFoundException", f"Invalid keyId '{text[:80]}'")


def parse_key_arn(text: str) -> KeyReference:
    """Read the ARN of a key or alias in any account and Region; AwsFaultError InvalidArnException."""
    return _parse_arn(text, next(iter(text.split(":")[3:4]), ""))


def _parse_arn(text: str, region: str) -> KeyReference:
    parts = text.split(":", 5)
    if len(parts) != len(("arn", "partition", "service", "region", "account", "resource")):
        raise AwsFaultError("InvalidArnException", "Invalid arn")
    _, partition, service, arn_region, account, resource = parts
    if service != "kms" or partition != partition_of(arn_region) or re.fullmatch(r"[0-9]{12}", account) is None:
        raise AwsFaultError("InvalidArnException", "Invalid arn")
    if arn_region != region:
        # Observed answer of KMS to a key ARN of another Region.
        raise AwsFaultError("NotFoundException", f"Invalid arn {arn_region[:40]}")
    if _ALIAS.fullmatch(resource):
        return KeyReference(account, region, None, resource)
    key_id = resource.removeprefix("key/")
    if key_id == resource or _KEY_ID.fullmatch(key_id) is None:
        raise AwsFaultError("InvalidArnException", "Invalid arn")
    return KeyReference(account, region, key_id, None)


def is_principal_arn(text: str) -> bool:
    """Say whether this is the ARN of an account's root, a role, a user or a role's session."""
    return _PRINCIPAL.fullmatch(text) is not None


def account_of(principal_arn: str) -> str:
    """Read the account out of a principal's ARN; ValueError if it is none."""
    match = _PRINCIPAL.fullmatch(principal_arn)
    if match is None:
        raise ValueError(f"{principal_arn[:120]!r} is not the ARN of an account's root, a role, a user or a session")
    return match["iam"] or match["sts"]


def role_name(role_arn: str) -> str:
    """Read the name, without path, out of a role's or user's ARN."""
    return role_arn.rsplit("/", 1)[-1]
