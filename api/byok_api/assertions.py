"""What an asset can say of itself: the one table of assertion names, by which client, signer and docs go.

A name is what recipes require and what callers pass as metadata. Its row says where the value stands in the manifest:
under the label of a standard where one has a place for it (C2PA 2.x; CAWG metadata 1.1 with the fields of Dublin Core,
XMP, IPTC and Exif), else under `dev.byok.<name>`. Several names may share a label.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from byok_api.shapes import (
    DISCLOSURE,
    EXIF_TAGS,
    FLAG,
    SHA256_HEX,
    SOURCE_TYPE,
    TIMESTAMP,
    Json,
    Shape,
    names,
    text,
)

RECIPE_LABEL = "dev.byok.recipe"
"""Label of the assertion {namespace, name, version, effectiveHash} that every manifest carries."""
ACTIONS_LABEL = "c2pa.actions.v2"
METADATA_LABEL = "cawg.metadata"

_INSTANCE = re.compile(r"__[0-9]+\Z")


class Derivation(StrEnum):
    """How a missing value comes about, in the words of the reference docs."""

    NONE = "must be given"
    SOURCE_TYPE = "from digital_source_type"
    AI_FLAGS = "from ai_generated or ai_assisted if one of them is true"
    CLIENT = "the client's own name and version"
    CLOCK = "the time of signing"


class EnforcedBy(StrEnum):
    """Who vouches that a required assertion is there. Its content is the client's word either way."""

    SIGNER = "signer"
    """The claim itself shows it."""
    CLIENT = "client"
    """It is a field under a label that others share, and a claim carries only a salted hash of the content."""


@dataclass(frozen=True, kw_only=True)
class AssertionType:
    """One row of the table."""

    name: str
    label: str
    """Assertion label, exactly as a claim refers to it."""
    path: str
    """Where the value stands in it: keys parted by dots; `[]` is any element, `[x]` the one whose action is x."""
    shape: Shape
    size_limit: int
    """Bytes of the value as JSON in UTF-8."""
    derivation: Derivation
    enforced_by: EnforcedBy
    description: str

    def parse(self, value: object) -> Json:
        """Bring a metadata value into its canonical form; ValueError says what was found and what was expected."""
        parsed = self.shape.parse(value)
        size = len(json.dumps(parsed, ensure_ascii=False).encode())
        if size > self.size_limit:
            raise ValueError(f"is {size} bytes of JSON, expected at most {self.size_limit}")
        return parsed


def label_base(label: str) -> str:
    """Strip the `__N` that tells repeated assertions of one label apart (C2PA 2.1, section 6.2)."""
    return _INSTANCE.sub("", label)


def _action(name: str, path: str, shape: Shape, derivation: Derivation, description: str) -> AssertionType:
    return AssertionType(
        name=name,
        label=ACTIONS_LABEL,
        path=path,
        shape=shape,
        size_limit=512,
        derivation=derivation,
        enforced_by=EnforcedBy.SIGNER if derivation is Derivation.CLIENT else EnforcedBy.CLIENT,
        description=description,
    )


def _metadata(name: str, path: str, shape: Shape, size_limit: int, description: str) -> AssertionType:
    return AssertionType(
        name=name,
        label=METADATA_LABEL,
        path=path,
        shape=shape,
        size_limit=size_limit,
        derivation=Derivation.CLOCK if shape is TIMESTAMP else Derivation.NONE,
        enforced_by=EnforcedBy.CLIENT,
        description=description,
    )


def _own(name: str, path: str, shape: Shape, size_limit: int, description: str) -> AssertionType:
    return AssertionType(
        name=name,
        label=f"dev.byok.{name}",
        path=path,
        shape=shape,
        size_limit=size_limit,
        derivation=Derivation.NONE,
        enforced_by=EnforcedBy.SIGNER,
        description=description,
    )


_ROWS = (
    _action(
        "digital_source_type",
        "actions[].digitalSourceType",
        SOURCE_TYPE,
        Derivation.AI_FLAGS,
        "How the content came into being: the IPTC digital source type of the action that made it.",
    ),
    _action(
        "ai_generated",
        "actions[].digitalSourceType",
        FLAG,
        Derivation.SOURCE_TYPE,
        "Whether generative AI made the whole of it; excludes ai_assisted.",
    ),
    _action(
        "ai_assisted",
        "actions[].digitalSourceType",
        FLAG,
        Derivation.SOURCE_TYPE,
        "Whether generative AI made a part of it; excludes ai_generated.",
    ),
    _action(
        "generator",
        "actions[].softwareAgent",
        text(256),
        Derivation.CLIENT,
        "The software that made it, as name or name/version; also the claim's claim_generator_info.",
    ),
    _action(
        "published",
        "actions[c2pa.published]",
        FLAG,
        Derivation.NONE,
        "Whether it is being made public with this signature; a recipe that requires it wants true.",
    ),
    _metadata("model", "Iptc4xmpExt:AISystemUsed", text(256), 1024, "The AI model that was used."),
    _metadata("created_at", "xmp:CreateDate", TIMESTAMP, 64, "When it was made."),
    _metadata("creator", "dc:creator", names(256), 4096, "Who made it: persons or organizations."),
    _metadata("editor", "dc:contributor", names(256), 4096, "Who edited it: persons or organizations."),
    _metadata(
        "location_hint",
        "Iptc4xmpExt:LocationCreated.Iptc4xmpExt:LocationName",
        text(256),
        1024,
        "Roughly where it was made, in words.",
    ),
    _metadata("exif", "exif:*", EXIF_TAGS, 8192, "Exif tags of the capture."),
    _own("prompt_hash", "sha256", SHA256_HEX, 66, "SHA-256 of the prompt that generated it, never the prompt."),
    _own("legal_entity", "name", text(256), 1024, "The legal entity that answers for it."),
    _own("legal_case_ref", "reference", text(256), 1024, "The legal case that it belongs to."),
    _own(
        "deepfake_disclosure",
        "disclosure",
        DISCLOSURE,
        4096,
        "That it shows what never was (AI Act, article 50): true, false, or the disclosure's words.",
    ),
    _own(
        "voiceclone_disclosure",
        "disclosure",
        DISCLOSURE,
        4096,
        "That a voice in it is cloned: true, false, or the disclosure's words.",
    ),
)

ASSERTIONS: Mapping[str, AssertionType] = MappingProxyType({row.name: row for row in _ROWS})
"""Every assertion name that this version knows."""

KNOWN_NAMES: tuple[str, ...] = tuple(sorted(ASSERTIONS))

STANDARD_LABELS: frozenset[str] = frozenset(
    {
        # C2PA 2.1, section 18, and the versions of them that c2pa-rs 0.91 writes (sdk/src/assertions/labels.rs).
        "c2pa.actions",
        "c2pa.actions.v2",
        "c2pa.asset-ref",
        "c2pa.asset-type",
        "c2pa.asset-type.v2",
        "c2pa.certificate-status",
        "c2pa.cloud-data",
        "c2pa.depthmap.GDepth",
        "c2pa.embedded-data",
        "c2pa.external-reference",
        "c2pa.hash.bmff.v2",
        "c2pa.hash.bmff.v3",
        "c2pa.hash.boxes",
        "c2pa.hash.collection.data",
        "c2pa.hash.data",
        "c2pa.hash.multi-asset",
        "c2pa.icon",
        "c2pa.ingredient",
        "c2pa.ingredient.v2",
        "c2pa.ingredient.v3",
        "c2pa.metadata",
        "c2pa.soft-binding",
        "c2pa.thumbnail.claim",
        "c2pa.thumbnail.ingredient",
        "c2pa.time-stamp",
        # CAWG identity 1.1, metadata 1.1, training and data mining 1.1.
        "cawg.identity",
        "cawg.metadata",
        "cawg.training-mining",
        # The recipe that every manifest names.
        RECIPE_LABEL,
    },
)
"""Labels that need no leave of a recipe: the standards' and `dev.byok.recipe`. Those of the table come on top."""
