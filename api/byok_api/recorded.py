"""Parts of a recipe that are stored, inherited and shown, and that nothing acts on yet."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from byok_api.fields import UNIQUE, Effect, Identifier, Inheritance, Model, recipe_mark

_RECORDED = recipe_mark(Effect.RECORDED)
_TIGHTEN = recipe_mark(Effect.RECORDED, Inheritance.TIGHTEN_ONLY)
_COUNTED = recipe_mark(Effect.RECORDED, mutable=True, hashed=False)


class WatermarkEngine(StrEnum):
    """Software that embeds a watermark."""

    TRUSTMARK = "trustmark"
    AUDIOSEAL = "audioseal"
    VIDEOSEAL = "videoseal"
    SYNTHID_TEXT = "synthid_text"


class SoftBindingMethod(StrEnum):
    """How an asset is found again when its manifest was stripped."""

    EXACT_WATERMARK = "exact_watermark"
    PERCEPTUAL_HASH = "perceptual_hash"
    AUDIO_FINGERPRINT = "audio_fingerprint"
    VIDEO_FINGERPRINT = "video_fingerprint"
    TEXT_FINGERPRINT = "text_fingerprint"


class AnchoringMethod(StrEnum):
    """Where a manifest's hash is anchored."""

    OPENTIMESTAMPS = "opentimestamps"
    BITCOIN = "bitcoin"
    ARBITRUM = "arbitrum"
    BYOC = "byoc"


class WatermarkPayload(Model):
    """What a watermark says."""

    type: Annotated[Identifier | None, _RECORDED, Field(description="Kind of payload.")] = None
    encoding: Annotated[Identifier | None, _RECORDED, Field(description="How it is encoded.")] = None


class Watermark(Model):
    """A watermark in the asset itself."""

    enabled: Annotated[bool | None, _TIGHTEN, Field(description="Whether one is wanted; false if unset.")] = None
    engine: Annotated[WatermarkEngine | None, _RECORDED, Field(description="What embeds it.")] = None
    payload: Annotated[WatermarkPayload | None, Field(description="What it says.")] = None


class SoftBinding(Model):
    """How an asset is found again when its manifest was stripped."""

    enabled: Annotated[bool | None, _TIGHTEN, Field(description="Whether one is wanted; false if unset.")] = None
    methods: Annotated[
        tuple[SoftBindingMethod, ...] | None,
        _RECORDED,
        Field(max_length=8, description="How; any of them will do."),
        UNIQUE,
    ] = None


class Anchoring(Model):
    """Proof of time outside of the installation."""

    enabled: Annotated[bool | None, _TIGHTEN, Field(description="Whether it is wanted; false if unset.")] = None
    methods: Annotated[
        tuple[AnchoringMethod, ...] | None,
        _RECORDED,
        Field(max_length=8, description="How; any of them will do."),
        UNIQUE,
    ] = None


Days = Annotated[int, Field(ge=0, le=36_500)]


class Retention(Model):
    """How long things are kept, in days."""

    manifest_days: Annotated[Days | None, _RECORDED, Field(description="Days that the manifest is kept.")] = None
    original_asset_days: Annotated[
        Days | None, _RECORDED, Field(description="Days that the asset before signing is kept.")
    ] = None
    derived_asset_days: Annotated[Days | None, _RECORDED, Field(description="Days that the signed asset is kept.")] = (
        None
    )


class RecipeVerification(Model):
    """How sure a soft-binding match must be."""

    minimum_confidence: Annotated[
        float | None, _RECORDED, Field(ge=0, le=1, description="Least confidence of a match, from 0 to 1.")
    ] = None
    ambiguous_match_behavior: Annotated[
        Identifier | None,
        _RECORDED,
        Field(description="What follows from several matches."),
    ] = None


class Billing(Model):
    """Under what the use of the recipe is counted."""

    meter: Annotated[Identifier | None, _COUNTED, Field(description="Name of the meter.")] = None
    unit: Annotated[Identifier | None, _COUNTED, Field(description="What is counted, such as asset.")] = None
