"""One call of a KMS operation: what the operation demands, and what is known of the call as it goes along."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.grants import Grant
from byok_sandbox.kms.identities import Caller

if TYPE_CHECKING:
    # The front reads this module and must not wait for moto.
    from byok_sandbox.kms.store import KeyStore, StoredKey

USABLE = frozenset({"Enabled"})
KEPT = frozenset({"Disabled", "Enabled", "PendingImport"})
ANY_STATE = KEPT | {"PendingDeletion"}

# KMS gives a parameter the same type in every operation (AWS KMS API reference).
_TYPES: Mapping[str, type] = MappingProxyType(
    {
        "AliasName": str,
        "BypassPolicyLockoutSafetyCheck": bool,
        "Constraints": dict,
        "CustomerMasterKeySpec": str,
        "Description": str,
        "DryRun": bool,
        "GrantId": str,
        "GrantToken": str,
        "GrantTokens": list,
        "GranteePrincipal": str,
        "KeyId": str,
        "KeySpec": str,
        "KeyUsage": str,
        "Limit": int,
        "Marker": str,
        "Message": str,
        "MessageType": str,
        "MultiRegion": bool,
        "Name": str,
        "Operations": list,
        "Origin": str,
        "PendingWindowInDays": int,
        "Policy": str,
        "PolicyName": str,
        "ReplicaRegion": str,
        "RetiringPrincipal": str,
        "Signature": str,
        "SigningAlgorithm": str,
        "TagKeys": list,
        "Tags": list,
        "TargetKeyId": str,
    },
)


@dataclass(frozen=True)
class KmsRequest:
    """What an authenticated caller asked for."""

    caller: Caller
    region: str
    operation: str
    parameters: Mapping[str, Any]
    now: float
    """Seconds since the epoch."""


@dataclass
class KmsCall:
    """A request for an operation that KMS has."""

    request: KmsRequest
    operation: "Operation"
    keys: list["StoredKey"] = field(default_factory=list)
    """The keys that it concerns, once they are found; the one that KeyId names comes first."""
    grant: Grant | None = None
    """The grant that allows it, if the key policy does not."""

    @property
    def caller(self) -> Caller:
        """Who calls."""
        return self.request.caller

    @property
    def region(self) -> str:
        """The Region that was called."""
        return self.request.region

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters as sent."""
        return self.request.parameters

    @property
    def key(self) -> "StoredKey":
        """The key that it concerns."""
        return self.keys[0]

    def text(self, name: str, default: str = "") -> str:
        """Read a string parameter."""
        return str(self.parameters.get(name, default))

    def flag(self, name: str) -> bool:
        """Read a boolean parameter; unset is false."""
        return self.parameters.get(name) is True

    def blob(self, name: str) -> bytes:
        """Decode a binary parameter; AwsFaultError if it is not base64."""
        try:
            return base64.b64decode(self.text(name), validate=True)
        except (binascii.Error, ValueError) as error:
            raise AwsFaultError("SerializationException", f"'{name}' is not base64.") from error


Handler = Callable[["KeyStore", KmsCall], Awaitable[Mapping[str, Any]]]
Check = Callable[[KmsCall], None]


@dataclass(frozen=True)
class Operation:
    """An operation of KMS, and what KMS demands before it is done."""

    name: str
    perform: Handler
    required: tuple[str, ...] = ("KeyId",)
    keys: tuple[str, ...] = ("KeyId",)
    """Parameters that name keys; those that are absent are passed over."""
    states: frozenset[str] = ANY_STATE
    """Key states in which it is done (AWS KMS developer guide, "Key state table")."""
    read_only: bool = False
    """As CloudTrail marks it."""
    by_alias: bool = False
    """Whether the key may be named by alias."""
    cross_account: bool = False
    validate: Check | None = None
    """What AWS's model says of the values, looked at before it matters who asks for which key."""
    check: Check | None = None
    """What is looked at after permission and state, and also in a dry run."""
    dry_run: bool = False

    def check_parameters(self, call: KmsCall) -> None:
        """Check presence, types and values; AwsFaultError as AWS's model validation answers."""
        parameters = call.parameters
        for name in self.required:
            if parameters.get(name) is None:
                member = name[0].lower() + name[1:]
                raise AwsFaultError(
                    "ValidationException",
                    f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
                    "Member must not be null",
                )
        for name, value in parameters.items():
            expected = _TYPES.get(name)
            wrong = expected is not None and value is not None and not isinstance(value, expected)
            if wrong or (expected is int and isinstance(value, bool)):
                raise AwsFaultError("SerializationException", f"'{name[:60]}' is of the wrong type.")
        if self.validate is not None:
            self.validate(call)
