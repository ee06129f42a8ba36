"""Whose quota a signature is taken from.

AWS throttles cryptographic operations by account, Region and kind of key, and charges the account that calls, not the
one that owns the key (KMS Developer Guide, Request quotas: "Shared quotas for cryptographic operations", "Cross-account
requests"). All RSA key specs share one quota and all elliptic curve specs, Ed25519 among them, another; GetPublicKey
has one of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import RateLimit
from byok_api.references import ObjectName


class Family(StrEnum):
    """Keys that share a quota, by what KMS's names of their specs begin with."""

    RSA = "RSA"
    ECC = "ECC"


_FAMILIES: Mapping[SigningAlgorithm, Family] = MappingProxyType(
    {algorithm: Family(algorithm.facts.key_specs[0].split("_")[0]) for algorithm in SigningAlgorithm}
)


def family_of(algorithm: SigningAlgorithm) -> Family:
    """Tell which keys sign with `algorithm`."""
    return _FAMILIES[algorithm]


@dataclass(frozen=True)
class QuotaKey:
    """A quota of AWS's."""

    account: str
    """The calling account: the assumed role's, or the signer's own."""
    region: str
    family: Family

    def __str__(self) -> str:
        return f"account {self.account}'s quota for {self.family} keys in {self.region}"


@dataclass(frozen=True)
class Demand:
    """A signature that is wanted."""

    quota: QuotaKey
    key: ObjectName
    limit: RateLimit | None
    """The key's own limit, as its owner has it now."""
    namespace: str
    """The caller's, which is served in turn with the others."""
