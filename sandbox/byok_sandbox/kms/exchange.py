"""A request on its way through the front: whose it is, then what is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.identities import Caller

if TYPE_CHECKING:
    # The front reads this module and must not wait for moto.
    from byok_sandbox.kms.store import StoredKey


@dataclass(frozen=True)
class Exchange:
    """A request whose sender is known."""

    request_id: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes
    caller: Caller
    region: str
    now: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Asked:
    """An operation that was asked for."""

    exchange: Exchange
    service: str
    """`kms` or `sts`."""
    operation: str
    parameters: Mapping[str, Any]
    key: "StoredKey | None" = None
    """The key that KeyId names, if there is one."""
    refusal: AwsFaultError | None = None
    """Answered instead of doing it, if somebody ordered that."""
