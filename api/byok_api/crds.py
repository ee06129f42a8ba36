"""CustomResourceDefinitions from the models: structural schemas, with the models' rules in CEL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from byok_api.byokkey import ByokKey, ByokKeySpec
from byok_api.conditions import Condition
from byok_api.fields import API_GROUP, API_VERSION, UNIQUE, Model, Rule, TransitionRule
from byok_api.inheritance import nested_model
from byok_api.signingrecipe import SigningRecipe, SigningRecipeSpec
from byok_api.statuses import ByokKeyStatus, SigningRecipeStatus

_READY = '.status.conditions[?(@.type=="Ready")]'


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str
    path: str
    wide: bool = False
    """Only under `-o wide`."""


@dataclass(frozen=True)
class Kind:
    """A kind, as the API server needs to know it."""

    model: type[ByokKey | SigningRecipe]
    spec: type[Model]
    status: type[Model]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]
    """Fields that `kubectl get --field-selector` may name."""

    @property
    def name(self) -> str:
        """Its name in manifests."""
        return self.model.__name__

    @property
    def file_name(self) -> str:
        """Name of its file in `crds/`."""
        return f"{API_GROUP}_{self.plural}.yaml"


_READY_COLUMNS = (
    Column("Ready", "string", f"{_READY}.status"),
    Column("Reason", "string", f"{_READY}.reason"),
)
_LAST_COLUMNS = (
    Column("Age", "date", ".metadata.creationTimestamp"),
    Column("Message", "string", f"{_READY}.message", wide=True),
)

KINDS: Final = (
    Kind(
        model=ByokKey,
        spec=ByokKeySpec,
        status=ByokKeyStatus,
        plural="byokkeys",
        short_name="bk",
        columns=(
            Column("Phase", "string", ".status.phase"),
            *_READY_COLUMNS,
            Column("Algorithm", "string", ".status.algorithm"),
            Column("Recipes", "integer", ".status.recipes"),
            Column("Verified", "date", ".status.lastVerifiedTime"),
            *_LAST_COLUMNS,
            Column("Key ARN", "string", ".spec.aws.keyArn", wide=True),
        ),
        selectable=(".spec.aws.keyArn", ".spec.state", ".status.phase"),
    ),
    Kind(
        model=SigningRecipe,
        spec=SigningRecipeSpec,
        status=SigningRecipeStatus,
        plural="signingrecipes",
        short_name="recipe",
        columns=(
            Column("Version", "integer", ".spec.version"),
            Column("Media", "string", ".spec.mediaType"),
            Column("Extends", "string", ".spec.extends"),
            *_READY_COLUMNS,
            *_LAST_COLUMNS,
            Column("Key", "string", ".status.key.name", wide=True),
            Column("Hash", "string", ".status.effectiveHash", wide=True),
        ),
        selectable=(".spec.extends", ".spec.keyRef.name", ".spec.mediaType"),
    ),
)


def crd(kind: Kind) -> dict[str, Any]:
    """Write a kind's CustomResourceDefinition (apiextensions.k8s.io/v1)."""
    _, version = API_VERSION.split("/")
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["byok"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": path} for path in kind.selectable],
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _root(kind)},
                },
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**shown, "priority": 1} if column.wide else shown


def _root(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "description": kind.model.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(kind.spec),
            "status": structural_schema(kind.status),
        },
    }


def structural_schema(model: type[Model]) -> dict[str, Any]:
    """Write a model's structural schema (Kubernetes, Specifying a structural schema), nested models written out."""
    schema = model.model_json_schema(schema_generator=_Structural)
    definitions = schema.pop("$defs", {})
    return _inlined(schema, definitions)


class _Structural(GenerateJsonSchema):
    """Leaves out what structural schemas may not say: null, defaults, titles, `additionalProperties: false`."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        written = super().model_schema(schema)
        model: type[Model] = schema["cls"]
        del written["additionalProperties"]
        rules: list[Rule | TransitionRule] = [*model.RULES, *model.TRANSITIONS]
        if rules:
            written["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
        optional = {model.model_fields[name].alias for rule in model.RULES for name in rule.one_of}
        required = [name for name in written.pop("required", []) if name not in optional]
        if required:
            written["required"] = required
        for info in model.model_fields.values():
            listed = written["properties"][info.alias]
            if listed.get("type") == "array":
                holds_models = listed["items"].get("type") != "string"
                listed.update(_list_type(info.annotation if holds_models else None, unique=UNIQUE in info.metadata))
        return written

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return {"type": "string", "enum": [member.value for member in schema["members"]]}


def _list_type(annotation: object, *, unique: bool) -> dict[str, Any]:
    if unique:
        return {"x-kubernetes-list-type": "set"}
    if annotation is not None and nested_model(annotation) is Condition:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return {"x-kubernetes-list-type": "atomic"}


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        referred = definitions[schema["$ref"].removeprefix("#/$defs/")]
        return _inlined({**referred, **{name: part for name, part in schema.items() if name != "$ref"}}, definitions)
    # Titles repeat the names of Python classes.
    written = {name: part for name, part in schema.items() if name != "title"}
    if "properties" in written:
        written["properties"] = {name: _inlined(part, definitions) for name, part in written["properties"].items()}
    for name in ("items", "additionalProperties"):
        if name in written:
            written[name] = _inlined(written[name], definitions)
    return written
