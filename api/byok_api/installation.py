"""What an installation has decided, for the signer and the operator alike."""

from dataclasses import dataclass

from byok_api.ownership import KeyOwnership
from byok_api.references import ObjectName


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the installation has decided: signer and operator must be given the same."""

    installation: str
    """Its name: part of every external id and session tag."""
    presets_namespace: str
    """Whose recipes every namespace may extend, and whose recipes' names no other may use."""
    managed_key: ObjectName | None = None
    """The ByokKey of recipes with kmsMode: managed."""
    required_terms: str | None = None
    """Name of the terms that every key must acknowledge; None demands none by name."""
    required_terms_sha256: str | None = None
    """SHA-256 of the terms' text that every key must acknowledge, 64 lower-case hexadecimal digits."""
    ownership: KeyOwnership | None = None
    """Which namespaces may name which keys; None leaves it to age (`byok_api.key_rules`)."""
    require_external_id: bool = False
    """Whether every key must be reached through a role, since only AssumeRole carries an external id."""
    default_role: str | None = None
    """ARN of the role that the signer assumes for keys that name none."""
