"""The reference docs as Markdown, from the models, the tables and the `.proto` that they describe."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from byok_api.assertions import ASSERTIONS, RECIPE_LABEL
from byok_api.conditions import ByokKeyConditionType, ConditionReason, SigningRecipeConditionType
from byok_api.crds import Kind, structural_schema
from byok_api.errors import ERROR_DOMAIN, Reason
from byok_api.fields import API_VERSION, Described, Effect, Inheritance, Mark, Model, Rule, TransitionRule
from byok_api.inheritance import hashed_fields, nested_model
from byok_api.portable import FIELDS
from byok_api.signingrecipe import SigningRecipe, SigningRecipeSpec

_CONDITIONS: dict[str, type[Described]] = {
    "ByokKey": ByokKeyConditionType,
    "SigningRecipe": SigningRecipeConditionType,
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def kind_page(kind: Kind) -> str:
    """Describe a kind: its fields, rules and conditions."""
    recipe = kind.spec is SigningRecipeSpec
    head = ["field", "type", "effect", *(["inheritance", "may change"] if recipe else []), "what it says"]
    parts = [
        f"# {kind.name}\n\n{kind.model.__doc__}\n\n",
        f"`apiVersion: {API_VERSION}`, `kind: {kind.name}`; `kubectl get {kind.plural}`, short `{kind.short_name}`.\n",
        "\n## spec\n\n",
        table(head, _field_rows(kind.spec, recipe=recipe)),
        "\nEffect: ",
        _legend(Effect),
        *(["\nInheritance: ", _legend(Inheritance)] if recipe else []),
        "\n## Rules over several fields\n\n",
        table(["rule", "at", "what it demands"], _rule_rows(kind.spec, "spec")),
        *([_hash_section()] if recipe else []),
        "\n## status\n\n",
        f"{kind.status.__doc__}\n\n",
        table(["field", "type", "what it says"], _status_rows(kind.status)),
        "\n## Conditions\n\n",
        table(["type", "True means"], ([f"`{item.value}`", item.description] for item in _CONDITIONS[kind.name])),
        "\nThe reason of a False condition is one of [errors.md](errors.md). Others:\n\n",
        table(["reason", "meaning"], ([f"`{item.value}`", item.description] for item in ConditionReason)),
    ]
    return "".join(parts)


def assertions_page() -> str:
    """Describe the table of assertions."""
    head = ["name", "what it says", "value", "bytes at most", "if missing", "where it stands", "enforced by"]
    rows = (
        [
            f"`{row.name}`",
            row.description,
            row.shape.expected,
            f"{row.size_limit}",
            row.derivation.value,
            f"`{row.label}`: `{row.path}`",
            row.enforced_by.value,
        ]
        for row in ASSERTIONS.values()
    )
    return (
        "# Assertions\n\n"
        "The names that recipes require and that callers pass as metadata. A claim carries labels and hashes of "
        "assertions, not their contents: what is *enforced by signer* the signer itself sees in the claim, what is "
        "*enforced by client* is the client's word.\n\n"
        + table(head, rows)
        + f"\nEvery manifest also carries `{RECIPE_LABEL}`: the recipe's namespace, name, version and effectiveHash.\n"
        "The signer enforces that it is there; its content is the client's word.\n"
    )


def errors_page() -> str:
    """Describe every reason."""
    rows = (
        [f"`{reason.name}`", f"`{reason.facts.status.name}`", reason.facts.cause, reason.facts.remedy]
        for reason in Reason
    )
    return (
        "# Errors\n\n"
        f"Every error of the signer carries `google.rpc.ErrorInfo` with domain `{ERROR_DOMAIN}` and one of these "
        "reasons, and `google.rpc.RetryInfo` only where waiting helps. The client raises, and audit records and "
        "metrics name, the same reasons.\n\n" + table(["reason", "gRPC status", "cause", "remedy"], rows)
    )


def presets_page(presets: Iterable[SigningRecipe]) -> str:
    """Describe the presets."""
    intro = (
        "# Presets\n\n"
        "Recipes that every installation has, to be extended with `extends: <name>@<version>`. Their names are "
        "reserved: no recipe outside the presets' namespace may have one.\n\n"
    )
    rows = []
    for preset in presets:
        c2pa = preset.spec.c2pa
        rows.append(
            [
                f"`{preset.metadata.name}@{preset.spec.version}`",
                preset.spec.media_type or "any",
                preset.spec.description or "",
                _names(c2pa.assertions if c2pa else None),
                _names(c2pa.optional_assertions if c2pa else None),
            ],
        )
    return intro + table(["preset", "media", "for", "required", "optional"], rows)


def portable_page() -> str:
    """Describe the portable recipe format."""
    rows = ([f"`{name}`", f"`{path}`"] for name, path in FIELDS.items())
    return (
        "# Portable recipe format\n\n"
        "One recipe as plain YAML, for use outside of Kubernetes. `byokctl recipe import` makes a SigningRecipe of it; "
        "`signer_pinning.key_alias` also becomes `spec.keyRef.name`, unless `--key` names the key. Unknown fields are "
        "refused.\n\n" + table(["portable", "SigningRecipe"], rows)
    )


def _names(names: Iterable[str] | None) -> str:
    return ", ".join(f"`{name}`" for name in names or ())


def _legend(described: type[Described]) -> str:
    return "; ".join(f"*{item.value}*: {item.description.rstrip('.').lower()}" for item in described) + ".\n"


def _hash_section() -> str:
    fields = ", ".join(f"`{path}`" for path in hashed_fields())
    return (
        "\n## effectiveHash\n\n"
        "SHA-256 of the effective recipe's content as RFC 8785 JSON: "
        f"{fields}. Lists are sorted, metadata values canonical; fields that are unset after inheritance and defaults "
        "are absent. Name, version, key, description and billing are not part of it.\n"
    )


def _rule_rows(model: type[Model], path: str) -> Iterator[list[str]]:
    rules: list[Rule | TransitionRule] = [*model.RULES, *model.TRANSITIONS]
    for rule in rules:
        yield [f"`{rule.name}`", f"`{path}`", rule.message]
    for _, info, _ in model.marked_fields():
        if _is_nested(info.annotation):
            yield from _rule_rows(nested_model(info.annotation), f"{path}.{info.alias}")


def _field_rows(model: type[Model], *, recipe: bool) -> Iterator[list[str]]:
    for path, schema, required, mark in _walk(model, structural_schema(model), "spec", None):
        cells = [mark.inheritance.value, "yes" if mark.mutable else "no"] if mark else ["", ""]
        effect = mark.effect.value if mark else ""
        shown = f"`{path}`" + (" (required)" if required else "")
        yield [shown, _type(schema), effect, *(cells if recipe else []), schema.get("description", "")]


def _status_rows(model: type[Model]) -> Iterator[list[str]]:
    for path, schema, _, _ in _walk(model, structural_schema(model), "status", None):
        yield [f"`{path}`", _type(schema), schema.get("description", "")]


def _walk(
    model: type[Model], schema: dict[str, Any], path: str, outer: Mark | None
) -> Iterator[tuple[str, dict[str, Any], bool, Mark | None]]:
    for _, info, own in model.marked_fields():
        mark = own or outer
        part = schema["properties"][info.alias]
        here = f"{path}.{info.alias}"
        nested = _is_nested(info.annotation)
        yield here, part, info.alias in schema.get("required", ()), None if nested and own is None else mark
        if nested:
            listed = part["type"] == "array"
            inner = part["items"] if listed else part
            yield from _walk(nested_model(info.annotation), inner, here + ("[]" if listed else ""), mark)


def _is_nested(annotation: object) -> bool:
    try:
        nested_model(annotation)
    except TypeError:
        return False
    return True


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of at most {schema['maxItems']}" if "maxItems" in schema else "list"
    limits = [
        f"{word} {schema[name]}"
        for name, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if name in schema
    ]
    unit = " characters" if "maxLength" in schema else ""
    words = {"string": schema.get("format", "text"), "object": "mapping"}
    return " ".join([words.get(kind, kind), *limits]) + unit
