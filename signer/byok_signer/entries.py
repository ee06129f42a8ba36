"""What the signer knows, as frozen values: objects as they were read, and what they were resolved to.

A recipe or key that cannot be used is not left out but kept as `Refused`, with the reason that its users are told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.certificates import CertificateChain
from byok_api.consent import admits
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn, ObjectName
from byok_api.resolution import EffectiveRecipe
from byok_api.signingrecipe import SigningRecipe
from byok_signer.guard import ClaimPolicy
from byok_signer.kms.port import KeyHandle


@dataclass(frozen=True)
class Refused:
    """An object that is there and cannot be used, and why."""

    name: ObjectName
    reason: Reason
    message: str
    version: int | None = None

    def refusal(self) -> Refusal:
        """Make the refusal that users of the object are told."""
        return Refusal(self.reason, self.message)


@dataclass(frozen=True)
class Inventory:
    """All objects that are known; invalid ones as `Refused`."""

    keys: Mapping[ObjectName, ByokKey | Refused] = field(default_factory=dict)
    recipes: Mapping[ObjectName, SigningRecipe | Refused] = field(default_factory=dict)
    namespace_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyEntry:
    """A key with a valid spec: it can be probed; whether it can sign is `problem`."""

    manifest: ByokKey
    handle: KeyHandle
    chain: CertificateChain | None
    algorithm: SigningAlgorithm | None
    problem: Refused | None
    certificate_problem: Refused | None
    """What is wrong with its certificate at any time, whatever else is wrong with the key."""

    @property
    def name(self) -> ObjectName:
        """The ByokKey's name."""
        return self.handle.name

    def check_valid_at(self, now: datetime) -> None:
        """Refuse outside of the certificate's validity (CertificateExpired)."""
        if self.chain is not None and not self.chain.not_before <= now <= self.chain.not_after:
            raise Refusal(
                Reason.CertificateExpired,
                f"key {self.name}: its certificate chain is valid from {self.chain.not_before:%Y-%m-%d %H:%M} to "
                f"{self.chain.not_after:%Y-%m-%d %H:%M} UTC only; register a valid certificate",
                metadata={"key": str(self.name), "not_after": self.chain.not_after.isoformat()},
            )


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What a ByokKey must turn out to be: the key behind `handle` has the public key `spki_sha256`."""

    handle: KeyHandle
    spki_sha256: str
    recheck_after: float
    """Seconds after which KMS is asked again."""
    stale_after: float
    """Seconds for which the last answer stands while KMS cannot be asked."""


@dataclass(frozen=True)
class SigningEntry:
    """A recipe that can sign, and all that it signs with."""

    recipe: EffectiveRecipe
    key: KeyEntry
    chain: CertificateChain
    algorithm: SigningAlgorithm
    policy: ClaimPolicy
    pin: Pin

    @property
    def version(self) -> int:
        """The recipe's version."""
        return self.recipe.version

    @cached_property
    def recipe_label(self) -> str:
        """The recipe as records name it: `namespace/name@version`."""
        return f"{self.recipe.name}@{self.recipe.version}"

    @cached_property
    def key_label(self) -> str:
        """The key as records name it: `namespace/name`."""
        return str(self.key.name)


@dataclass(frozen=True)
class Catalogue:
    """Everything that callers can name."""

    recipes: Mapping[ObjectName, SigningEntry | Refused] = field(default_factory=dict)
    keys: Mapping[ObjectName, KeyEntry | Refused] = field(default_factory=dict)
    namespace_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def admits(self, key: KeyEntry, namespace: str) -> bool:
        """Say whether a key's owner lets callers and recipes of a namespace use it."""
        return admits(key.manifest, namespace, self.namespace_labels.get(namespace))


@dataclass(frozen=True)
class ReservedKey:
    """The checkpoint key, as ByokKeys must not name it."""

    arns: frozenset[KeyArn]
    """As the installation names it, and the key behind that as far as KMS was asked."""
    spki_sha256: str | None
    """None while KMS has not been asked."""

    def is_named_by(self, arns: Iterable[KeyArn], spki_sha256: str | None) -> bool:
        """Say whether one of these ARNs, an alias or replica included, or this public key is the checkpoint key."""
        mine = {_identity(arn) for arn in self.arns}
        return not mine.isdisjoint(map(_identity, arns)) or (
            spki_sha256 is not None and spki_sha256 == self.spki_sha256
        )


def _identity(arn: KeyArn) -> tuple[str, ...]:
    # Related multi-Region keys have one key id (KMS Developer Guide, "Multi-Region keys").
    resource = arn.text.split(":")[5]
    return (arn.account, resource) if resource.startswith("key/mrk-") else (arn.text,)
