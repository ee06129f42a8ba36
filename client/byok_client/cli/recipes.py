"""The work of `byokctl recipe render` and `recipe lint`: recipes resolved by the same code as the signer's."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from byok_api.assertions import ASSERTIONS
from byok_api.errors import Reason, Refusal
from byok_api.fields import Model
from byok_api.inheritance import nested_model
from byok_api.presets import load_presets
from byok_api.references import ObjectName, RecipeReference
from byok_api.resolution import EffectiveRecipe, resolve
from byok_api.signingrecipe import SigningRecipe, SigningRecipeSpec
from byok_client.cli.findings import counted, report_of
from byok_client.cli.manifest_files import Manifests, Problem, Severity, read_manifests
from byok_client.cli.output import Line, Report, Table


@dataclass(frozen=True)
class Source:
    """Where recipes come from, and what else decides how they resolve."""

    paths: Sequence[Path]
    presets: Path | None
    presets_namespace: str
    managed_key: str | None
    namespace: str | None


class _Recipes:
    """Recipes of files and presets, to be resolved."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._managed_key = _object_name(source.managed_key) if source.managed_key else None
        self.manifests: Manifests = read_manifests(source.paths, namespace=source.namespace)
        presets = load_presets(source.presets, source.presets_namespace) if source.presets else ()
        self.all: Mapping[ObjectName, SigningRecipe] = {
            **{preset.name: preset for preset in presets},
            **self.manifests.recipes,
        }

    def resolve(self, recipe: SigningRecipe) -> EffectiveRecipe:
        """Resolve a recipe; Refusal RecipeInvalid."""
        return resolve(
            recipe,
            self.all.get,
            presets_namespace=self._source.presets_namespace,
            managed_key=self._managed_key,
        )


def _object_name(text: str) -> ObjectName:
    try:
        return ObjectName.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--managed-key") from None


def lint(source: Source) -> Report:
    """Check manifests and resolve every recipe in them."""
    recipes = _Recipes(source)
    manifests = recipes.manifests
    problems = [
        *manifests.problems,
        *(problem for name in manifests.recipes for problem in _lint_recipe(recipes, name)),
    ]
    facts = {"files": manifests.files, "recipes": len(manifests.recipes), "otherObjects": manifests.others}
    return report_of(
        problems, facts, f"{counted(manifests.files, 'file')}, {counted(len(manifests.recipes), 'recipe')}"
    )


def _lint_recipe(recipes: _Recipes, name: ObjectName) -> Iterator[Problem]:
    recipe = recipes.manifests.recipes[name]
    source, subject = recipes.manifests.source_of(recipe), f"SigningRecipe {name}"
    try:
        effective = recipes.resolve(recipe)
    except Refusal as refusal:
        message = refusal.message.removeprefix(f"{subject}@{recipe.spec.version}: ")
        yield Problem(source, subject, refusal.reason.name, message)
        return
    for note in effective.notes:
        yield Problem(source, subject, "WithoutEffect", note, severity=Severity.WARNING)
    if effective.key is None:
        yield Problem(
            source,
            subject,
            "RecipeWithoutKey",
            "names no key: it can be extended, not signed under",
            severity=Severity.NOTE,
        )


def render(reference: str, source: Source) -> Report:
    """Show one recipe resolved; Refusal if it is not there, is broken, or cannot be resolved."""
    recipes = _Recipes(source)
    effective = recipes.resolve(_find(recipes, reference, source.namespace))
    return Report(_document(effective), _text(effective))


def _find(recipes: _Recipes, reference: str, namespace: str | None) -> SigningRecipe:
    try:
        wanted = RecipeReference.parse(reference)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="RECIPE") from None
    within = wanted.namespace or namespace
    found = [
        recipe
        for name, recipe in recipes.all.items()
        if name.name == wanted.name
        and within in {None, name.namespace}
        and wanted.version in {None, recipe.spec.version}
    ]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(recipe.name) for recipe in found)
        raise _refusal(f"recipe {reference} is in several namespaces: {places}; name one of these")
    broken = "; ".join(str(problem) for problem in recipes.manifests.problems[:3])
    known = ", ".join(f"{name}@{recipe.spec.version}" for name, recipe in sorted(recipes.all.items())[:20])
    unread = f"; not read: {broken}" if broken else ""
    raise _refusal(f"recipe {reference} is not there; found: {known or 'no recipe'}{unread}")


def _refusal(message: str) -> Refusal:
    return Refusal(Reason.RecipeInvalid, message)


@dataclass(frozen=True)
class _Field:
    path: str
    value: Any
    effect: str
    inheritance: str


def _document(effective: EffectiveRecipe) -> dict[str, Any]:
    return {
        "recipe": f"{effective.name}@{effective.version}",
        "effectiveHash": effective.hash,
        "key": str(effective.key) if effective.key else None,
        "kmsMode": effective.kms_mode.value,
        "lineage": [
            {"recipe": f"{entry.name}@{entry.version}", "effectiveHash": entry.hash} for entry in effective.lineage
        ],
        "fields": [vars(field) for field in _fields(effective)],
        "assertions": list(_assertions(effective)),
        "notes": list(effective.notes),
        "effective": json.loads(effective.hashed_json),
    }


def _fields(effective: EffectiveRecipe) -> list[_Field]:
    values: dict[str, Any] = json.loads(effective.hashed_json)
    values |= {"version": effective.version, "kmsMode": effective.kms_mode.value}
    if effective.key is not None:
        values["keyRef"] = {"namespace": effective.key.namespace, "name": effective.key.name}
    for name, part in (("signerPinning", effective.signer_pinning), ("billing", effective.billing)):
        if part is not None:
            values[name] = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return list(_flatten(SigningRecipeSpec, values, ""))


def _flatten(model: type[Model], values: Mapping[str, Any], path: str) -> Iterator[_Field]:
    for _, info, mark in model.marked_fields():
        name = str(info.alias)
        if name not in values:
            continue
        if mark is None:
            yield from _flatten(nested_model(info.annotation), values[name], f"{path}{name}.")
        else:
            yield _Field(f"{path}{name}", values[name], mark.effect.value, mark.inheritance.value)


def _assertions(effective: EffectiveRecipe) -> Iterator[dict[str, Any]]:
    for required, names in ((True, effective.assertions), (False, effective.optional_assertions)):
        for name in names:
            row = ASSERTIONS[name]
            yield {
                "name": name,
                "required": required,
                "label": row.label,
                "path": row.path,
                "default": effective.defaults.get(name),
                "ifMissing": row.derivation.value,
                "vouchedForBy": row.enforced_by.value,
            }


def _text(effective: EffectiveRecipe) -> list[Line | Table]:
    fields = [(f.path, json.dumps(f.value, ensure_ascii=False), f.effect, f.inheritance) for f in _fields(effective)]
    assertions = [
        (a["name"], "required" if a["required"] else "optional", a["label"], a["vouchedForBy"], a["ifMissing"])
        for a in _assertions(effective)
    ]
    lineage = " -> ".join(f"{entry.name}@{entry.version}" for entry in effective.lineage)
    return [
        Line(f"{effective.name}@{effective.version}", "bold"),
        Line(f"  hash     {effective.hash}"),
        Line(f"  extends  {lineage or 'nothing'}"),
        Line(f"  key      {effective.key or 'none: it can be extended and cannot sign'}"),
        Line(""),
        Table(("FIELD", "VALUE", "EFFECT", "INHERITANCE"), fields),
        Line(""),
        Table(("ASSERTION", "DEMAND", "LABEL", "VOUCHED FOR BY", "IF NOT GIVEN"), assertions),
        Line(""),
        Line("Vouched for by signer: the claim shows that it is there. By client: it shares its label with others."),
        Line("The content of every assertion is the client's word: a claim carries only its salted hash."),
        *(Line(f"note: {note}", "yellow") for note in effective.notes),
    ]
