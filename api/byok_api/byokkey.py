"""The kind ByokKey: a KMS key that its owner lets the signer use, and for whom."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from byok_api.algorithms import SigningAlgorithm
from byok_api.fields import (
    API_VERSION,
    Duration,
    Effect,
    Identifier,
    Mark,
    Model,
    Rule,
    duration,
    exactly_one,
)
from byok_api.metadata import ObjectMeta
from byok_api.references import (
    KEY_ARN_PATTERN,
    NAME_PATTERN,
    NAMESPACE_PATTERN,
    REGION_PATTERN,
    ROLE_ARN_PATTERN,
    VERSION_PATTERN,
    ObjectName,
)
from byok_api.selectors import NamespaceSelector

CERTIFICATE_LIMIT = 32 * 1024
DEFAULT_STALE_AFTER = "24h"
DEFAULT_INTERVAL = "10m"
MINIMUM_STALE_AFTER = timedelta(hours=2)
MINIMUM_INTERVAL = timedelta(minutes=1)

_ENFORCED = Mark(Effect.ENFORCED)

_REPLICA_PATTERN = rf"^arn:aws[a-z-]*:kms:{REGION_PATTERN}:[0-9]{{12}}:key/mrk-[A-Za-z0-9]{{1,60}}$"
_ENDPOINT_PATTERN = r"^https?://([A-Za-z0-9.-]{1,200}|\[[0-9A-Fa-f:]{2,39}\])(:[0-9]{1,5})?/?$"


class KeyState(StrEnum):
    """Whether the key's owner lets it be used at all."""

    ACTIVE = "Active"
    DEACTIVATED = "Deactivated"


class LeastPrivilege(StrEnum):
    """What follows from the signer being allowed more than it needs."""

    WARN = "Warn"
    ENFORCE = "Enforce"


class BareDigests(StrEnum):
    """Whether a digest is signed without the claim that it is the digest of."""

    DENY = "Deny"
    ALLOW = "Allow"


class AssumeRole(Model):
    """The role of the key's account that the signer assumes before it calls KMS."""

    arn: Annotated[
        str,
        _ENFORCED,
        Field(
            pattern=f"^{ROLE_ARN_PATTERN}$",
            max_length=600,
            description=(
                "ARN of the role. Its trust policy demands the external id byok:<installation>:<namespace>/<name>."
            ),
        ),
    ]


def _replicas_match(aws: "AwsKey") -> bool:
    primary = aws.key_arn.split(":")
    for replica in aws.replicas or ():
        parts = replica.split(":")
        same_key = primary[5].startswith("alias/") or parts[5] == primary[5]
        if not (same_key and parts[1] == primary[1] and parts[4] == primary[4] and parts[3] != primary[3]):
            return False
    return True


class AwsKey(Model):
    """A key in AWS KMS. The Region and account are those of the ARN."""

    key_arn: Annotated[
        str,
        _ENFORCED,
        Field(
            pattern=f"^{KEY_ARN_PATTERN}$",
            max_length=400,
            description="ARN of the KMS key or of an alias of it. An alias is resolved, and only the key found signs.",
        ),
    ]
    replicas: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=_REPLICA_PATTERN, max_length=200)], ...] | None,
        _ENFORCED,
        Field(max_length=8, description="ARNs of the key's multi-Region replicas, tried in this order."),
    ] = None
    assume_role: Annotated[AssumeRole | None, Field(description="Role to assume, for a key of another account.")] = None
    endpoint: Annotated[
        str | None,
        _ENFORCED,
        Field(
            pattern=_ENDPOINT_PATTERN,
            max_length=256,
            description="KMS endpoint other than the Region's own. The installation must allow it.",
        ),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="ReplicasAreOfThisKey",
            cel=(
                "!has(self.replicas) || self.replicas.all(replica, "
                "(self.keyArn.split(':')[5].startsWith('alias/') || replica.split(':')[5] == self.keyArn.split(':')[5])"
                " && replica.split(':')[1] == self.keyArn.split(':')[1]"
                " && replica.split(':')[4] == self.keyArn.split(':')[4]"
                " && replica.split(':')[3] != self.keyArn.split(':')[3])"
            ),
            message="replicas must be the same multi-Region key (mrk-...) in other Regions of the same account",
            check=_replicas_match,
        ),
    )


class Certificate(Model):
    """The certificate chain (x5chain) that claims signed with the key carry. A chain is public."""

    pem: Annotated[
        str,
        _ENFORCED,
        Field(
            min_length=1,
            max_length=CERTIFICATE_LIMIT,
            description="The chain as PEM, leaf first; the root may be left out.",
        ),
    ]

    RULES: ClassVar[tuple[Rule, ...]] = (
        exactly_one("CertificateSource", ("pem",)),
        Rule(
            name="NoPrivateKey",
            cel="!has(self.pem) || !self.pem.contains('PRIVATE KEY')",
            message="pem holds a private key; it must hold certificates only (consider that private key disclosed)",
            check=lambda certificate: "PRIVATE KEY" not in certificate.pem,
        ),
    )


class AllowedConsumers(Model):
    """Namespaces, beside the key's own, whose recipes and callers may use the key."""

    # A list of one owner, not a set: of a set, what another field manager added would outlive its owner's removal.
    namespaces: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=f"^{NAMESPACE_PATTERN}$", max_length=63)], ...] | None,
        _ENFORCED,
        Field(max_length=256, description="Namespaces by name."),
    ] = None
    namespace_selector: Annotated[
        NamespaceSelector | None,
        Field(description="Namespaces by label. Whoever may label namespaces decides with it."),
    ] = None


class Verification(Model):
    """How often it is proven that the key can be used."""

    interval: Annotated[
        Duration | None,
        _ENFORCED,
        Field(description=f"Time between two proofs; {DEFAULT_INTERVAL} if unset, at least 1m."),
    ] = None
    stale_after: Annotated[
        Duration | None,
        _ENFORCED,
        Field(
            description=f"How long a proof holds when none can be made; {DEFAULT_STALE_AFTER} if unset, at least 2h."
        ),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="StaleAfterAtLeast2h",
            cel="!has(self.staleAfter) || duration(self.staleAfter) >= duration('2h')",
            message="staleAfter must be at least 2h",
            check=lambda spec: spec.stale_after is None or duration(spec.stale_after) >= MINIMUM_STALE_AFTER,
        ),
        Rule(
            name="IntervalAtLeast1m",
            cel="!has(self.interval) || duration(self.interval) >= duration('1m')",
            message="interval must be at least 1m",
            check=lambda spec: spec.interval is None or duration(spec.interval) >= MINIMUM_INTERVAL,
        ),
        Rule(
            name="IntervalWithinStaleAfter",
            cel=(
                "!has(self.interval) || duration(self.interval) <= "
                f"duration(has(self.staleAfter) ? self.staleAfter : '{DEFAULT_STALE_AFTER}')"
            ),
            message=f"interval must not be longer than staleAfter ({DEFAULT_STALE_AFTER} if unset)",
            check=lambda spec: (
                spec.interval is None or duration(spec.interval) <= duration(spec.stale_after or DEFAULT_STALE_AFTER)
            ),
        ),
    )


class RateLimit(Model):
    """How much of the account's KMS quota this key may take."""

    signatures_per_second: Annotated[
        int,
        _ENFORCED,
        Field(
            ge=1,
            le=100_000,
            description="Signatures per second, over all replicas of the signer; beyond it calls are refused at once.",
        ),
    ]
    burst: Annotated[
        int | None,
        _ENFORCED,
        Field(
            ge=1,
            le=100_000,
            description=(
                "Signatures at once after a pause, over all replicas, each of which can make one; "
                "signaturesPerSecond if unset."
            ),
        ),
    ] = None


class Acknowledgement(Model):
    """Who accepted the installation's terms for bringing a key."""

    terms: Annotated[Identifier, _ENFORCED, Field(description="Name of the terms; an installation may demand some.")]
    terms_sha256: Annotated[
        str | None,
        _ENFORCED,
        Field(
            alias="termsSHA256",
            pattern=r"^[0-9a-f]{64}$",
            max_length=64,
            description="SHA-256 of the text that was accepted, in hexadecimal; an installation may demand one.",
        ),
    ] = None
    accepted_by: Annotated[str, _ENFORCED, Field(min_length=1, max_length=256, description="Who accepted them.")]
    accepted_at: Annotated[AwareDatetime, _ENFORCED, Field(description="When.")]


class ByokKeySpec(Model):
    """What the key's owner writes."""

    aws: Annotated[AwsKey, Field(description="The key in AWS KMS. Exactly one provider must be given.")]
    description: Annotated[str | None, _ENFORCED, Field(max_length=256, description="For people.")] = None
    state: Annotated[
        KeyState | None,
        _ENFORCED,
        Field(description="Deactivated stops all signing within seconds; Active if unset."),
    ] = None
    signing_algorithm: Annotated[
        SigningAlgorithm | None,
        _ENFORCED,
        Field(description="C2PA algorithm; if unset the key spec's own, PS256 for RSA."),
    ] = None
    certificate: Annotated[
        Certificate | None,
        Field(description="The registered chain. A key without one can be certified and cannot sign."),
    ] = None
    allowed_consumers: Annotated[
        AllowedConsumers | None,
        Field(description="Who may use the key; if empty or unset, only its own namespace."),
    ] = None
    required_recipe: Annotated[
        str | None,
        _ENFORCED,
        Field(
            pattern=rf"^({NAMESPACE_PATTERN}/)?{NAME_PATTERN}@{VERSION_PATTERN}$",
            max_length=330,
            description=(
                "Recipe, as [namespace/]name@version, that every recipe using this key must be or extend. "
                "The namespace is the presets' (the default) or the key's own."
            ),
        ),
    ] = None
    verification: Annotated[Verification | None, Field(description="How the key is proven usable.")] = None
    least_privilege: Annotated[
        LeastPrivilege | None,
        Mark(Effect.REFUSED),
        Field(
            description="Warn probes whether the signer may do more than it needs. Enforce is refused in this version."
        ),
    ] = None
    bare_digests: Annotated[
        BareDigests | None,
        _ENFORCED,
        Field(description="Allow signs digests without the claim as evidence, so unguarded; Deny if unset."),
    ] = None
    rate_limit: Annotated[RateLimit | None, Field(description="Bound on the key's use.")] = None
    acknowledgement: Annotated[Acknowledgement | None, Field(description="Acceptance of the installation's terms.")] = (
        None
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        exactly_one("Provider", ("aws",)),
        Rule(
            name="LeastPrivilegeEnforceRefused",
            cel="!has(self.leastPrivilege) || self.leastPrivilege != 'Enforce'",
            message="leastPrivilege: Enforce does not work in this version and is refused; use Warn or leave it out",
            check=lambda spec: spec.least_privilege is not LeastPrivilege.ENFORCE,
        ),
    )


class ByokKey(Model):
    """A KMS key that its owner lets the signer use, and for whom."""

    api_version: Literal["byok.dev/v1alpha1"] = API_VERSION
    kind: Literal["ByokKey"] = "ByokKey"
    metadata: ObjectMeta
    spec: ByokKeySpec

    @property
    def name(self) -> ObjectName:
        """Namespace and name."""
        return ObjectName(self.metadata.namespace, self.metadata.name)
