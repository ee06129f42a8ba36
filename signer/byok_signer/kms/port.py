"""What the signer asks of a key management service, in the signer's own words.

Two implementations exist: `byok_signer.kms.aws.AwsKms`, and `byok_sandbox.software_kms.SoftwareKms` for tests. Both
pass `tests/contracts/test_kms_*.py`.
"""
# ruff: noqa: ASYNC109 - a timeout here is spent over retries and replicas, and is told to KMS; a cancel scope is neither

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt
from byok_api.keypolicy import Grantee
from byok_api.references import KeyArn, ObjectName

OnLost = Callable[[tuple[Attempt, ...]], Awaitable[None]]
"""Told, before KMS is asked again, of requests that may have left a signature which nobody has.

Given are all requests since it was last told, one `unknown` among them at least. A Refusal of its ends the call, as a
KmsError that has those attempts; whatever else it raises comes out of the call. In both cases KMS is not asked again.
"""


def external_id_for(installation: str, name: ObjectName) -> str:
    """Compute the external id that proves to a key's account on behalf of which ByokKey a role is assumed."""
    return f"byok:{installation}:{name}"


@dataclass(frozen=True, kw_only=True)
class KeyHandle:
    """A key as its ByokKey names it, with all that is needed to reach it."""

    name: ObjectName
    arn: KeyArn
    """Key ARN or alias ARN; GetPublicKey goes there."""
    external_id: str
    """Computed by `external_id_for`, never taken from a manifest; sent only when a role is assumed."""
    resolved_arn: KeyArn | None = None
    """Key ARN that GetPublicKey answered with; Sign goes there."""
    replicas: tuple[KeyArn, ...] = ()
    """Multi-Region replicas, tried in this order when the key's own Region fails."""
    role_arn: str | None = None
    """Role to assume for this key."""
    endpoint: str | None = None
    """URL to call instead of AWS's own; only one that the installation allows."""

    @property
    def signing_arn(self) -> KeyArn:
        """The key ARN that Sign is called on; ValueError for an unresolved alias, since an alias can move."""
        if self.resolved_arn is not None:
            return self.resolved_arn
        if self.arn.is_alias:
            raise ValueError(f"key {self.name}: {self.arn} must be resolved by GetPublicKey before Sign")
        return self.arn


@dataclass(frozen=True)
class PublicKeyAnswer:
    """What `kms:GetPublicKey` says."""

    key_arn: KeyArn
    """Never an alias; in the Region of `KeyHandle.arn`, though a replica may have answered."""
    spki: bytes
    """DER SubjectPublicKeyInfo."""
    key_spec: str
    """Such as ECC_NIST_P256."""
    key_usage: str
    """SIGN_VERIFY for a key that can be used here."""
    algorithms: tuple[SigningAlgorithm, ...]
    """Those of the key's algorithms that C2PA allows, the default first; empty if it allows none."""
    request_id: str


@dataclass(slots=True)  # not frozen: one is made for every signature, and freezing doubles the cost
class SignAnswer:
    """A signature that KMS made; not verified yet."""

    signature: bytes
    """As COSE carries it: IEEE P1363 for ECDSA."""
    signature_der: bytes
    """The same ECDSA signature in DER; empty for the other algorithms."""
    key_arn: KeyArn
    """The key, or its replica, that signed."""
    request_id: str
    attempts: tuple[Attempt, ...]
    """Every request made for this signature, in order, but for those that `on_lost` was told of; the last one is
    `signed`."""


@dataclass(frozen=True)
class KeyDescription:
    """What `kms:DescribeKey` says; the signer's role need not be allowed to ask."""

    key_arn: KeyArn
    state: str
    """Such as Enabled, Disabled, PendingDeletion, PendingImport."""
    origin: str
    """AWS_KMS, EXTERNAL, AWS_CLOUDHSM or EXTERNAL_KEY_STORE."""
    multi_region: bool
    request_id: str


@dataclass(frozen=True)
class Allowed:
    """KMS would have done, or did, what was asked; the answer's contents are of no interest."""

    request_id: str


class Kms(Protocol):
    """Every method takes `timeout` in seconds for all its retries and replicas, and raises `KmsError` when refused.

    Who keeps a trail passes `on_lost`: of the signatures that nobody has, one at most is then not on record yet.
    """

    async def get_public_key(self, key: KeyHandle, *, timeout: float) -> PublicKeyAnswer:
        """Read the public key behind `key.arn`, resolving an alias."""
        ...

    async def sign(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        message: bytes,
        timeout: float,
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        """Sign `message`, hashed here where the algorithm hashes; `MessageTooLong` beyond 4,096 bytes with Ed25519."""
        ...

    async def sign_digest(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        digest: bytes,
        timeout: float,
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        """Sign a digest made elsewhere; `DigestMismatch` if its length is not the algorithm's, or it has none."""
        ...

    async def try_sign(self, key: KeyHandle, algorithm: SigningAlgorithm, *, timeout: float) -> Allowed:
        """Ask with DryRun whether Sign is allowed; no signature is made."""
        ...

    async def try_create_grant(self, key: KeyHandle, *, timeout: float) -> Allowed:
        """Ask with DryRun whether CreateGrant is allowed, which it should not be."""
        ...

    async def try_get_key_policy(self, key: KeyHandle, *, timeout: float) -> Allowed:
        """Ask whether GetKeyPolicy is allowed, which it should not be."""
        ...

    async def describe_key(self, key: KeyHandle, *, timeout: float) -> KeyDescription:
        """Read facts that are nice to know; expect `KeyAccessDenied`."""
        ...

    async def grantee(self, key: KeyHandle, *, timeout: float) -> Grantee:
        """Name the identity that calls KMS for this key, which its policy must allow."""
        ...

    async def calling_account(self, key: KeyHandle, *, timeout: float) -> str:
        """Name the account that this key's calls are charged to: 12 digits; the key's own if that cannot be told."""
        ...

    async def close(self) -> None:
        """Drop connections; calls in flight fail."""
        ...
