"""`status` of both kinds: what the operator found out. Nothing here decides what may be signed."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, JsonValue, WithJsonSchema

from byok_api.algorithms import SigningAlgorithm
from byok_api.conditions import Condition, Phase
from byok_api.fields import Model
from byok_api.references import NAME_LIMIT
from byok_api.signingrecipe import MAXIMUM_DEPTH, MAXIMUM_VERSION


class KeyFacts(Model):
    """What KMS says of the key."""

    key_spec: Annotated[str | None, Field(max_length=64, description="KMS key spec, such as ECC_NIST_P256.")] = None
    key_state: Annotated[str | None, Field(max_length=64, description="KMS key state.")] = None
    origin: Annotated[str | None, Field(max_length=64, description="Where the key material came from.")] = None
    multi_region: Annotated[bool | None, Field(description="Whether it is a multi-Region key.")] = None


class PublicKeyFacts(Model):
    """The key's public half."""

    pem: Annotated[str | None, Field(max_length=4096, description="SubjectPublicKeyInfo as PEM.")] = None
    spki_sha256: Annotated[
        str | None,
        Field(alias="spkiSHA256", pattern=r"^[0-9a-f]{64}$", max_length=64, description="SHA-256 of its DER."),
    ] = None


class CertificateFacts(Model):
    """The registered leaf certificate."""

    subject: Annotated[str | None, Field(max_length=1024, description="Its subject.")] = None
    not_after: Annotated[datetime | None, Field(description="When it expires.")] = None


class ByokKeyStatus(Model):
    """What the operator found out. Nothing here decides what may be signed."""

    observed_generation: Annotated[int | None, Field(ge=0, description="metadata.generation of the spec judged.")] = (
        None
    )
    phase: Annotated[Phase | None, Field(description="The conditions in one word.")] = None
    conditions: Annotated[tuple[Condition, ...] | None, Field(max_length=16, description="One of each type.")] = None
    key: Annotated[KeyFacts | None, Field(description="What KMS says of the key.")] = None
    resolved_key_arn: Annotated[str | None, Field(max_length=400, description="ARN of the key that signs.")] = None
    public_key: Annotated[PublicKeyFacts | None, Field(description="The key's public half.")] = None
    external_id: Annotated[
        str | None,
        Field(max_length=512, description="External id that the signer sends when it assumes a role for this key."),
    ] = None
    certificate: Annotated[CertificateFacts | None, Field(description="The registered leaf certificate.")] = None
    algorithm: Annotated[SigningAlgorithm | None, Field(description="Algorithm that the key signs with.")] = None
    recipes: Annotated[int | None, Field(ge=0, description="How many recipes resolve to this key.")] = None
    last_verified_time: Annotated[datetime | None, Field(description="When the key was last seen to work.")] = None
    last_handled_reverify: Annotated[
        str | None,
        Field(max_length=256, description="Value of the annotation byok.dev/reverify that was last acted upon."),
    ] = None


class LineageStatus(Model):
    """A parent of a recipe."""

    namespace: Annotated[str, Field(max_length=63, description="Its namespace.")]
    name: Annotated[str, Field(max_length=NAME_LIMIT, description="Its name.")]
    version: Annotated[int, Field(ge=1, le=MAXIMUM_VERSION, description="Its version.")]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64, description="Its effectiveHash.")]


class KeyStatus(Model):
    """The ByokKey that a recipe resolves to."""

    namespace: Annotated[str, Field(max_length=63, description="Its namespace.")]
    name: Annotated[str, Field(max_length=NAME_LIMIT, description="Its name.")]


class SigningRecipeStatus(Model):
    """What the operator found out. Nothing here decides what may be signed."""

    observed_generation: Annotated[int | None, Field(ge=0, description="metadata.generation of the spec judged.")] = (
        None
    )
    conditions: Annotated[tuple[Condition, ...] | None, Field(max_length=16, description="One of each type.")] = None
    effective: Annotated[
        dict[str, JsonValue] | None,
        WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        Field(description="The recipe after inheritance."),
    ] = None
    effective_hash: Annotated[
        str | None,
        Field(pattern=r"^[0-9a-f]{64}$", max_length=64, description="SHA-256 of the effective recipe's content."),
    ] = None
    lineage: Annotated[
        tuple[LineageStatus, ...] | None,
        Field(max_length=MAXIMUM_DEPTH, description="The parents, nearest first."),
    ] = None
    key: Annotated[KeyStatus | None, Field(description="The key that it resolves to.")] = None
