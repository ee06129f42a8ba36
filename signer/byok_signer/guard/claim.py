"""A C2PA claim, version 2, as a typed value (C2PA 2.1, chapter 10: claim-map-v2)."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Self, TypedDict, cast

from byok_api.assertions import label_base

HARD_BINDING_PREFIX = "c2pa.hash."
REFERENCE_LISTS = ("created_assertions", "gathered_assertions")
TITLE = "dc:title"
TEXT_LIMIT = 1024
"""Characters of a claim's texts."""
URN_PREFIX = "urn:c2pa:"
UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"
"""A manifest's, as a pattern; 36 characters."""


class ReferenceFields(TypedDict, total=False):
    """A hashed-uri-map as it stands in a claim."""

    url: str
    alg: str
    hash: bytes


class AssertionReference(NamedTuple):
    """A claim's word that an assertion in the same manifest has this (salted) hash."""

    label: str
    """Assertion label, with the `__N` of repeated ones."""
    base: str
    """The same without it."""
    algorithm: str | None
    """Hash algorithm: its own, else the claim's."""
    hash: bytes

    @classmethod
    def parse(cls, fields: ReferenceFields, default: str | None) -> Self:
        """Take a map that the checks of structure.py have passed."""
        label = fields["url"].rpartition("/")[2]
        base = label_base(label) if "__" in label else label
        return cls(label, base, fields.get("alg", default), fields["hash"])


class Claim(NamedTuple):
    """What a claim says."""

    manifest_id: str
    """URN of the manifest, `urn:c2pa:<UUID>...`."""
    generator: str
    """Name of the claim generator, and `/version` where it gives one."""
    icon: AssertionReference | None
    created: tuple[AssertionReference, ...]
    """Assertions attributed to the signer."""
    gathered: tuple[AssertionReference, ...]
    """Assertions that the claim carries without vouching for them."""
    references: tuple[AssertionReference, ...]
    """All of them, the created first."""
    hard_bindings: tuple[AssertionReference, ...]
    """Those of them that tie the manifest to the bytes of its asset."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all assertions, the created ones first."""
        return tuple([reference.label for reference in self.references])

    @classmethod
    def parse(cls, fields: Mapping[str, object]) -> Self:
        """Take a map that the checks of structure.py have passed: they have proved every type that is cast here."""
        algorithm = cast("str | None", fields.get("alg"))
        generator = cast("dict[str, object]", fields["claim_generator_info"])
        version = generator.get("version")
        icon = cast("ReferenceFields | None", generator.get("icon"))
        listed = cast("list[ReferenceFields]", fields["created_assertions"])
        created = tuple([AssertionReference.parse(reference, algorithm) for reference in listed])
        listed = cast("list[ReferenceFields]", fields.get("gathered_assertions", []))
        gathered = tuple([AssertionReference.parse(reference, algorithm) for reference in listed])
        references = created + gathered
        return cls(
            manifest_id=cast("str", fields["signature"]).split("/")[2],
            generator=f"{generator['name']}/{version}" if version else str(generator["name"]),
            icon=None if icon is None else AssertionReference.parse(icon, algorithm),
            created=created,
            gathered=gathered,
            references=references,
            hard_bindings=tuple([one for one in references if one.base.startswith(HARD_BINDING_PREFIX)]),
        )


class CheckedClaim(NamedTuple):
    """What the signer knows of a claim that has passed, for the answer and the audit record."""

    manifest_id: str
    """URN of the manifest."""
    claim_sha256: str
    """SHA-256 of the claim's bytes as they stand in the asset: 64 lower-case hexadecimal digits."""
    labels: tuple[str, ...]
    """Labels of its assertions, the created ones first."""
    generator: str
    """Name/version of the claim generator."""

    @classmethod
    def of(cls, data: bytes, claim: Claim) -> Self:
        """Describe a claim; `data` is its encoding."""
        return cls(claim.manifest_id, hashlib.sha256(data).hexdigest(), claim.labels, claim.generator)
