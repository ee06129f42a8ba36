"""What the operator knows of an object when it plans: frozen values, gathered elsewhere, judged by the plans.

All times are aware and, save where said otherwise, of the operator's own clock.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from byok_api.conditions import Condition
from byok_api.key_rules import KeyStanding
from byok_api.objects import Unreadable
from byok_api.recipe_rules import RecipeStanding
from byok_api.references import ObjectName
from byok_api.statuses import ByokKeyStatus, SigningRecipeStatus

REVERIFY_ANNOTATION = "byok.dev/reverify"
"""Whoever changes its value has the key probed at once, least privilege included where the spec asks for that."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    """The key's owner must act."""
    UNKNOWN = "unknown"
    """KMS could not be asked, or the check was not made."""


@dataclass(frozen=True)
class Finding:
    """One check of a probe, in the signer's words."""

    outcome: Outcome
    reason: str = ""
    """Reason from docs/reference/errors.md, one that this version may not know; empty if it passed."""
    message: str = ""
    missing_statement: str = ""
    """Policy statement that is missing, as JSON to paste; empty if none is."""


@dataclass(frozen=True, kw_only=True)
class KmsFacts:
    """What KMS told a probe of the key; empty is what it did not tell."""

    key_arn: str = ""
    """ARN of the key itself, never of an alias."""
    public_key: bytes = b""
    """DER SubjectPublicKeyInfo."""
    key_spec: str = ""
    key_state: str = ""
    origin: str = ""
    multi_region: bool | None = None
    algorithm: str = ""
    """C2PA algorithm that signatures are made with."""
    external_id: str = ""
    """Sent where a role is assumed for the key."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe that the signer answered."""

    at: datetime
    """When it was asked for: what KMS said is no older."""
    generation: int
    """metadata.generation that the signer probed."""
    replica: str
    """The replica of the signer that made it."""
    public_key: Finding
    """GetPublicKey."""
    sign: Finding
    """Sign with DryRun."""
    certificate: Finding
    """Whether the registered certificate is the key's, may sign, and is valid now."""
    standing: Finding
    """Whether the signer's own rules would let the key sign, KMS left aside."""
    least_privilege: Finding | None = None
    """None unless it was asked for."""
    facts: KmsFacts = field(default_factory=KmsFacts)
    reverify: str | None = None
    """Value of REVERIFY_ANNOTATION when the probe was asked for."""

    @property
    def verified(self) -> bool:
        """Whether KMS would have signed."""
        return self.public_key.outcome is Outcome.PASSED and self.sign.outcome is Outcome.PASSED

    def succeeding(self, earlier: "Probe | None") -> "Probe":
        """Keep what an earlier probe of the same generation found of least privilege, if this one was not to ask."""
        if earlier is None or self.least_privilege is not None or earlier.generation != self.generation:
            return self
        return replace(self, least_privilege=earlier.least_privilege)


@dataclass(frozen=True)
class ProbeFailure:
    """An attempt at a probe that no replica of the signer answered with findings."""

    at: datetime
    """When it was asked for."""
    reason: str
    """Reason from docs/reference/errors.md, such as SignerUnreachable."""
    message: str


@dataclass(frozen=True, kw_only=True)
class ReplicaHealth:
    """What one replica of the signer, whose stream is open now, sees of a key while it signs."""

    replica: str
    generation: int
    """metadata.generation of the spec that was signed with."""
    outcome: Outcome
    """Passed: a signature was made and verified. Failed: KMS refuses. Unknown: KMS could not be asked."""
    reason: str = ""
    message: str = ""
    since: datetime
    """Since when KMS says so, by the replica's clock."""
    last_verified: datetime | None = None
    """When a signature was last verified, to the minute, by the replica's clock; None if none was."""


@dataclass(frozen=True, kw_only=True)
class KeyObservation:
    """A ByokKey, and all that was found out about it."""

    name: ObjectName
    uid: str
    generation: int
    standing: KeyStanding | Unreadable
    """By the rules that the signer decides by."""
    status: ByokKeyStatus | None
    """As the API server has it; None if there is none, or none that can be read."""
    probe: Probe | None = None
    """The last one answered for this uid, of whatever generation."""
    probe_failure: ProbeFailure | None = None
    """The last attempt for this uid, if it failed."""
    health: tuple[ReplicaHealth, ...] = ()
    """At most one of each replica, only of those connected."""
    signer_came: datetime | None = None
    """When a replica was last heard of that was not before; None if none was."""
    recipes: int = 0
    """How many recipes resolve to the key."""
    recipes_written: datetime | None = None
    """When this process last wrote `status.recipes`; None if never."""
    reverify: str | None = None
    """Value of REVERIFY_ANNOTATION."""


@dataclass(frozen=True, kw_only=True)
class RecipeObservation:
    """A SigningRecipe, and all that was found out about it."""

    name: ObjectName
    uid: str
    generation: int
    standing: RecipeStanding | Unreadable
    """By the rules that the signer decides by."""
    status: SigningRecipeStatus | None
    """As the API server has it; None if there is none, or none that can be read."""
    key_ready: Condition | None = None
    """Ready of the ByokKey that it resolves to, as last planned or else as read; None without one."""
