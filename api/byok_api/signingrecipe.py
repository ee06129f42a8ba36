"""The kind SigningRecipe: what every asset signed under it must contain, and which key signs it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, cast

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from byok_api.assertions import ASSERTIONS, KNOWN_NAMES
from byok_api.fields import (
    API_VERSION,
    UNIQUE,
    Effect,
    Inheritance,
    Model,
    Rule,
    TransitionRule,
    recipe_mark,
    unchangeable,
)
from byok_api.metadata import ObjectMeta
from byok_api.recorded import Anchoring, Billing, RecipeVerification, Retention, SoftBinding, Watermark
from byok_api.references import NAME_LIMIT, NAME_PATTERN, NAMESPACE_PATTERN, VERSION_PATTERN, ObjectName

MAXIMUM_VERSION = 999_999_999
MAXIMUM_DEPTH = 8
"""Recipes in a lineage, the recipe itself included."""


_CONTENT = recipe_mark(Effect.ENFORCED)
_TIGHTEN = recipe_mark(Effect.ENFORCED, Inheritance.TIGHTEN_ONLY)
_KEY = recipe_mark(Effect.ENFORCED, mutable=True, hashed=False)


class MediaType(StrEnum):
    """A kind of media."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    TEXT = "text"
    """PDF and office documents."""


class Ingredients(StrEnum):
    """Whether an asset may be made of others."""

    ALLOW = "Allow"
    FORBID = "Forbid"


class KmsMode(StrEnum):
    """Whose key signs."""

    BYOK = "byok"
    """The one that keyRef names."""
    MANAGED = "managed"
    """The one that the installation names."""


def _known(name: str) -> str:
    if name not in KNOWN_NAMES:
        raise PydanticCustomError(
            "assertion_name",
            "{name} is no assertion's name; known are {known}",
            {"name": name[:64], "known": ", ".join(sorted(KNOWN_NAMES))},
        )
    return name


def _fitting(defaults: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name, value in defaults.items():
        row = ASSERTIONS[_known(name)]
        try:
            row.parse(value)
        except ValueError as error:
            raise PydanticCustomError("default_value", "{name} {error}", {"name": name, "error": str(error)}) from error
    return defaults


def _value_schema(schema: Mapping[str, object]) -> dict[str, JsonValue]:
    # A structural schema knows no alternatives of types, so those and free objects are left to the signer's own check.
    if "oneOf" in schema:
        return {"x-kubernetes-preserve-unknown-fields": True}
    if schema["type"] == "object":
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return cast("dict[str, JsonValue]", dict(schema))


AssertionName = Annotated[
    str,
    AfterValidator(_known),
    Field(max_length=64, json_schema_extra={"enum": sorted(KNOWN_NAMES)}),
]
"""A name of the table in docs/reference/assertions.md."""

Defaults = Annotated[
    dict[str, JsonValue],
    AfterValidator(_fitting),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                name: {"description": row.description, **_value_schema(row.shape.schema)}
                for name, row in sorted(ASSERTIONS.items())
            },
        },
    ),
]
"""Metadata values by assertion name."""

Label = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){1,7}$", max_length=128),
]
"""A C2PA assertion label without `__N`, such as `com.example.review` (C2PA 2.1, section 6.2)."""


class C2pa(Model):
    """What the manifest of an asset must and may contain."""

    enabled: Annotated[
        bool | None, _TIGHTEN, Field(description="Whether anything is signed under it; true if unset.")
    ] = None
    assertions: Annotated[
        tuple[AssertionName, ...] | None,
        recipe_mark(Effect.ENFORCED, Inheritance.GROW_ONLY),
        Field(max_length=32, description="Assertions that every asset must carry."),
        UNIQUE,
    ] = None
    optional_assertions: Annotated[
        tuple[AssertionName, ...] | None,
        _CONTENT,
        Field(max_length=32, description="Assertions that are added where a value is known."),
        UNIQUE,
    ] = None
    defaults: Annotated[
        Defaults | None,
        _CONTENT,
        Field(
            description="Metadata values where the caller gives none. A child's value replaces its parent's.",
        ),
    ] = None
    allowed_labels: Annotated[
        tuple[Label, ...] | None,
        recipe_mark(Effect.ENFORCED, Inheritance.SHRINK_ONLY),
        Field(
            max_length=64, description="Assertion labels allowed beside the table's and the standard's; none if unset."
        ),
        UNIQUE,
    ] = None
    require_ingredient_chain: Annotated[
        bool | None,
        _TIGHTEN,
        Field(description="Whether every asset must have a parent ingredient; false if unset."),
    ] = None
    ingredients: Annotated[
        Ingredients | None,
        _TIGHTEN,
        Field(description="Forbid refuses assets with ingredients; Allow if unset."),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="IngredientsNotBothWays",
            cel=(
                "!(has(self.requireIngredientChain) && self.requireIngredientChain"
                " && has(self.ingredients) && self.ingredients == 'Forbid')"
            ),
            message="requireIngredientChain: true and ingredients: Forbid contradict each other",
            check=lambda c2pa: not (c2pa.require_ingredient_chain and c2pa.ingredients is Ingredients.FORBID),
        ),
        Rule(
            name="DefaultsNotBothAiFlags",
            cel=(
                "!(has(self.defaults) && has(self.defaults.ai_generated) && self.defaults.ai_generated"
                " && has(self.defaults.ai_assisted) && self.defaults.ai_assisted)"
            ),
            message="defaults: ai_generated and ai_assisted exclude each other; only one may be true",
            check=lambda c2pa: (
                not c2pa.defaults
                or c2pa.defaults.get("ai_generated") is not True
                or c2pa.defaults.get("ai_assisted") is not True
            ),
        ),
    )


class KeyRef(Model):
    """The ByokKey that signs."""

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", max_length=NAME_LIMIT, description="Its name.")]
    namespace: Annotated[
        str | None,
        Field(
            pattern=f"^{NAMESPACE_PATTERN}$",
            max_length=63,
            description="Its namespace; if unset that of the recipe in which this stands, also where it is inherited.",
        ),
    ] = None


class SignerPinning(Model):
    """What a recipe that was imported says of its key."""

    key_alias: Annotated[
        str | None,
        recipe_mark(Effect.RECORDED, hashed=False),
        Field(min_length=1, max_length=253, description="The key's name where the recipe came from; keyRef decides."),
    ] = None
    requires_admin_approval: Annotated[
        bool | None,
        recipe_mark(Effect.REFUSED, Inheritance.TIGHTEN_ONLY, hashed=False),
        Field(description="true is refused in this version: nothing would wait for an approval."),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="AdminApprovalRefused",
            cel="!has(self.requiresAdminApproval) || !self.requiresAdminApproval",
            message="requiresAdminApproval: true does not work in this version and is refused; leave it out",
            check=lambda pinning: not pinning.requires_admin_approval,
        ),
    )


class Timestamp(Model):
    """A trusted time stamp on every signature."""

    url: Annotated[
        str,
        _CONTENT,
        Field(
            pattern=r"^https?://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,39}\])(:[0-9]{1,5})?(/[!\"$-~]*)?$",
            max_length=1024,
            description="RFC 3161 authority that the client asks.",
        ),
    ]


_NEW_VERSION = "apply a new SigningRecipe, such as photo-v2, with another version"


class SigningRecipeSpec(Model):
    """One version of a recipe. What is signed under it cannot be changed."""

    version: Annotated[
        int,
        recipe_mark(Effect.ENFORCED, Inheritance.OWN, hashed=False),
        Field(ge=1, le=MAXIMUM_VERSION, description="Version, from 1."),
    ]
    extends: Annotated[
        str | None,
        recipe_mark(Effect.ENFORCED, Inheritance.OWN, hashed=False),
        Field(
            pattern=f"^{NAME_PATTERN}@{VERSION_PATTERN}$",
            max_length=NAME_LIMIT + 10,
            description="Parent as name@version, looked up among the presets, then in the recipe's own namespace.",
        ),
    ] = None
    media_type: Annotated[
        MediaType | None,
        _TIGHTEN,
        Field(description="Kind of media; text means PDF and office documents. Once set, children keep it."),
    ] = None
    description: Annotated[
        str | None,
        recipe_mark(Effect.ENFORCED, Inheritance.OWN, mutable=True, hashed=False),
        Field(max_length=256, description="For people."),
    ] = None
    c2pa: Annotated[C2pa | None, Field(description="What the manifest must and may contain.")] = None
    kms_mode: Annotated[KmsMode | None, _KEY, Field(description="Whose key signs; byok if unset.")] = None
    key_ref: Annotated[
        KeyRef | None,
        _KEY,
        Field(description="The ByokKey that signs. A recipe without one can be extended and cannot sign."),
    ] = None
    watermark: Annotated[Watermark | None, Field(description="A watermark in the asset itself.")] = None
    soft_binding: Annotated[SoftBinding | None, Field(description="How a stripped asset is found again.")] = None
    anchoring: Annotated[Anchoring | None, Field(description="Proof of time outside of the installation.")] = None
    retention: Annotated[Retention | None, Field(description="How long things are kept.")] = None
    verification: Annotated[RecipeVerification | None, Field(description="How sure a match must be.")] = None
    signer_pinning: Annotated[SignerPinning | None, Field(description="The key, where the recipe came from.")] = None
    billing: Annotated[Billing | None, Field(description="Under what the use of the recipe is counted.")] = None
    timestamp: Annotated[Timestamp | None, Field(description="A trusted time stamp on every signature.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="ManagedNamesNoKey",
            cel="!(has(self.kmsMode) && self.kmsMode == 'managed' && has(self.keyRef))",
            message="kmsMode: managed uses the installation's key; leave keyRef out, or set kmsMode: byok",
            check=lambda spec: not (spec.kms_mode is KmsMode.MANAGED and spec.key_ref is not None),
        ),
    )
    TRANSITIONS: ClassVar[tuple[TransitionRule, ...]] = (
        unchangeable("version", required=True, remedy=_NEW_VERSION),
        *(
            unchangeable(attribute, required=False, remedy=_NEW_VERSION)
            for attribute in (
                "extends",
                "media_type",
                "c2pa",
                "watermark",
                "soft_binding",
                "anchoring",
                "retention",
                "verification",
                "signer_pinning",
                "timestamp",
            )
        ),
    )


class SigningRecipe(Model):
    """What every asset signed under it must contain, and which key signs it."""

    api_version: Literal["byok.dev/v1alpha1"] = API_VERSION
    kind: Literal["SigningRecipe"] = "SigningRecipe"
    metadata: ObjectMeta
    spec: SigningRecipeSpec

    @property
    def name(self) -> ObjectName:
        """Namespace and name."""
        return ObjectName(self.metadata.namespace, self.metadata.name)
