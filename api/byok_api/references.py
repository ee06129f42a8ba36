"""How objects and keys are named: `[namespace/]name[@version]`, `namespace/name`, and ARNs of KMS keys and aliases."""

import re
from dataclasses import dataclass
from typing import Self

# A DNS label (RFC 1123) as namespaces are, and a DNS subdomain as the API server demands of object names.
NAMESPACE_PATTERN = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
NAME_PATTERN = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
NAME_LIMIT = 253
VERSION_PATTERN = r"[1-9][0-9]{0,8}"
# As AWS names Regions; anything else could make another service's host of the endpoint.
REGION_PATTERN = r"[a-z]{2,8}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}"
KEY_ARN_PATTERN = (
    rf"arn:aws[a-z-]*:kms:{REGION_PATTERN}:[0-9]{{12}}:"
    r"(?:key/[A-Za-z0-9-]{1,64}|alias/[A-Za-z0-9/_-]{1,250})"
)
ROLE_ARN_PATTERN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}"

_REFERENCE_LIMIT = 63 + 1 + NAME_LIMIT + 10
_RECIPE = re.compile(rf"(?:({NAMESPACE_PATTERN})/)?({NAME_PATTERN})(?:@({VERSION_PATTERN}))?")
_OBJECT = re.compile(rf"({NAMESPACE_PATTERN})/({NAME_PATTERN})")
_KEY_ARN = re.compile(KEY_ARN_PATTERN)


@dataclass(frozen=True, order=True)
class ObjectName:
    """An object's place in a cluster, printed as `namespace/name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/name`; ValueError says what is wrong."""
        match = _OBJECT.fullmatch(text) if len(text) <= _REFERENCE_LIMIT else None
        if match is None or len(match[2]) > NAME_LIMIT:
            raise ValueError(f"{text[:80]!r} is not of the form namespace/name")
        return cls(match[1], match[2])


@dataclass(frozen=True)
class RecipeReference:
    """A recipe as a caller or another recipe names it: `[namespace/]name[@version]`."""

    namespace: str | None
    name: str
    version: int | None

    def __str__(self) -> str:
        prefix = f"{self.namespace}/" if self.namespace else ""
        suffix = f"@{self.version}" if self.version else ""
        return f"{prefix}{self.name}{suffix}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[namespace/]name[@version]`; ValueError says what is wrong."""
        match = _RECIPE.fullmatch(text) if len(text) <= _REFERENCE_LIMIT else None
        if match is None or len(match[2]) > NAME_LIMIT:
            raise ValueError(f"{text[:80]!r} is not of the form [namespace/]name[@version]")
        return cls(match[1], match[2], int(match[3]) if match[3] else None)


@dataclass(frozen=True)
class KeyArn:
    """The ARN of a KMS key or alias; its Region and account say where the key is (AWS General Reference, KMS ARNs)."""

    text: str

    def __post_init__(self) -> None:
        if _KEY_ARN.fullmatch(self.text) is None:
            raise ValueError(f"{self.text[:120]!r} is not the ARN of a KMS key or alias")

    def __str__(self) -> str:
        return self.text

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn`, `aws-us-gov`."""
        return self.text.split(":")[1]

    @property
    def region(self) -> str:
        """The Region, such as `eu-central-1`."""
        return self.text.split(":")[3]

    @property
    def account(self) -> str:
        """The twelve digits of the owning account."""
        return self.text.split(":")[4]

    @property
    def is_alias(self) -> bool:
        """Whether this names an alias, which can move, instead of a key."""
        return self.text.split(":")[5].startswith("alias/")
