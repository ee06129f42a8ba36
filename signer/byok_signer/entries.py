"""What the signer knows, as frozen values: what objects were resolved to.

A recipe or key that cannot be used is not left out but kept as `Refused`, with the reason that its users are told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.certificates import CertificateChain
from byok_api.claims import Leaders, arn_identity, claim_found_by_kms
from byok_api.consent import admits
from byok_api.errors import Reason, Refusal
from byok_api.key_rules import KeyStanding
from byok_api.references import KeyArn, ObjectName
from byok_api.resolution import EffectiveRecipe
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
class KeyEntry:
    """A key with a valid spec: it can be probed; whether it can sign is `problem`."""

    standing: KeyStanding
    handle: KeyHandle
    problem: Refused | None
    acceptance_problem: Refused | None
    """What stands against the spec by itself, whatever its certificate: then it is not certified either."""
    certificate_problem: Refused | None
    """What is wrong with its certificate at any time, whatever else is wrong with the key."""

    @property
    def name(self) -> ObjectName:
        """The ByokKey's name."""
        return self.handle.name

    @property
    def manifest(self) -> ByokKey:
        """The ByokKey."""
        return self.standing.key

    @property
    def chain(self) -> CertificateChain | None:
        """The registered chain, if there is a readable one."""
        return self.standing.chain

    @property
    def algorithm(self) -> SigningAlgorithm | None:
        """The algorithm that it signs with, as far as the spec tells."""
        return self.standing.algorithm

    def check_valid_at(self, now: datetime) -> None:
        """Refuse outside of the certificate's validity (CertificateExpired)."""
        problem, chain = self.standing.valid_at(now), self.chain
        if problem is not None and chain is not None:
            metadata = {"key": str(self.name), "not_after": chain.not_after.isoformat()}
            raise Refusal(problem.reason, problem.message, metadata=metadata)


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
    leaders: Leaders | None = field(default_factory=Leaders)
    """Which claims decide whose a KMS key is, those of unreadable keys among them; None where keyOwnership does."""

    def admits(self, key: KeyEntry, namespace: str) -> bool:
        """Say whether a key's owner lets callers and recipes of a namespace use it."""
        return admits(key.manifest, namespace, self.namespace_labels.get(namespace))

    def check_claim(self, key: KeyEntry, spki_sha256: str) -> None:
        """Refuse a key that turned out to be one to which another namespace has the better claim (KeyClaimedElsewhere).

        For what only KMS has told, which need not be the key of a registered certificate; by specs alone
        `KeyEntry.problem` says so. Others' keys without certificate are compared by the ARNs of `key.handle`.
        """
        if self.leaders is None:
            return
        named = (key.handle.arn, *key.handle.replicas)
        older = self.leaders.older(claim_found_by_kms(key.manifest, named, spki_sha256))
        if older is not None:
            raise Refusal(
                Reason.KeyClaimedElsewhere,
                f"key {key.name} is the same KMS key as {older}, which claims it too",
                metadata={"key": str(key.name)},
            )


@dataclass(frozen=True)
class ReservedKey:
    """The checkpoint key, as ByokKeys must not name it."""

    arns: frozenset[KeyArn]
    """As the installation names it, and the key behind that as far as KMS was asked."""
    spki_sha256: str | None
    """None while KMS has not been asked."""

    def is_named_by(self, arns: Iterable[KeyArn], spki_sha256: str | None) -> bool:
        """Say whether one of these ARNs, an alias or replica included, or this public key is the checkpoint key."""
        mine = {arn_identity(arn) for arn in self.arns}
        return not mine.isdisjoint(map(arn_identity, arns)) or (
            spki_sha256 is not None and spki_sha256 == self.spki_sha256
        )
