"""The portable recipe format: plain YAML in snake_case, the same recipe without a cluster around it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from byok_api.errors import Reason
from byok_api.fields import API_VERSION
from byok_api.manifests import Document, Finding, ManifestError, Path, load_documents
from byok_api.objects import parse_object
from byok_api.references import ObjectName
from byok_api.signingrecipe import KmsMode, SigningRecipe

FIELDS: Final[Mapping[str, str]] = {
    "id": "metadata.name",
    "version": "spec.version",
    "extends": "spec.extends",
    "media_type": "spec.mediaType",
    "description": "spec.description",
    "c2pa.enabled": "spec.c2pa.enabled",
    "c2pa.assertions": "spec.c2pa.assertions",
    "c2pa.require_ingredient_chain": "spec.c2pa.requireIngredientChain",
    "watermark.enabled": "spec.watermark.enabled",
    "watermark.engine": "spec.watermark.engine",
    "watermark.payload.type": "spec.watermark.payload.type",
    "watermark.payload.encoding": "spec.watermark.payload.encoding",
    "soft_binding.enabled": "spec.softBinding.enabled",
    "soft_binding.methods": "spec.softBinding.methods",
    "anchoring.enabled": "spec.anchoring.enabled",
    "anchoring.methods": "spec.anchoring.methods",
    "kms_mode": "spec.kmsMode",
    "retention.manifest_days": "spec.retention.manifestDays",
    "retention.original_asset_days": "spec.retention.originalAssetDays",
    "retention.derived_asset_days": "spec.retention.derivedAssetDays",
    "verification.minimum_confidence": "spec.verification.minimumConfidence",
    "verification.ambiguous_match_behavior": "spec.verification.ambiguousMatchBehavior",
    "signer_pinning.key_alias": "spec.signerPinning.keyAlias",
    "signer_pinning.requires_admin_approval": "spec.signerPinning.requiresAdminApproval",
    "billing.meter": "spec.billing.meter",
    "billing.unit": "spec.billing.unit",
}
"""Every field of the format, and where it stands in a SigningRecipe."""

_ALIAS = "signer_pinning.key_alias"
_REQUIRED = ("id", "version")
# Only for the check: a file has no namespace, and the manifest need not name one.
_ANY_NAMESPACE = "default"


@dataclass(frozen=True)
class Exported:
    """A recipe in the portable format."""

    document: dict[str, Any]
    left_out: tuple[str, ...]
    """Fields of the recipe that are set and that the format has no place for."""


def import_recipe(
    data: bytes, source: str, *, namespace: str | None = None, key: ObjectName | None = None
) -> dict[str, Any]:
    """Make a SigningRecipe manifest of one portable recipe.

    `signer_pinning.key_alias` also becomes `keyRef.name`, unless `key` names the key or kms_mode is managed. Raises
    ManifestError (RecipeInvalid) with every finding, paths as in the portable file.
    """
    documents = load_documents(data, source)
    if len(documents) != 1:
        found = f"holds {len(documents)} recipes"
        raise _refused(source, (Finding("", "OneRecipe", found, "give one recipe in a file"),))
    document = documents[0]
    leaves = list(_leaves(document, ()))
    findings = [_unknown(document, path) for path, _ in leaves if _dotted(path) not in FIELDS]
    findings += [Finding(name, "missing", "is missing", "add it") for name in _REQUIRED if name not in document]
    if findings:
        raise _refused(source, tuple(findings))
    manifest: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "SigningRecipe", "metadata": {}, "spec": {}}
    for path, value in leaves:
        _put(manifest, FIELDS[_dotted(path)], value)
    if namespace is not None:
        manifest["metadata"]["namespace"] = namespace
    alias = manifest["spec"].get("signerPinning", {}).get("keyAlias")
    if key is not None:
        manifest["spec"]["keyRef"] = {"name": key.name, "namespace": key.namespace}
    elif alias is not None and manifest["spec"].get("kmsMode") != KmsMode.MANAGED:
        manifest["spec"]["keyRef"] = {"name": alias}
    try:
        parse_object(manifest, source, namespace=_ANY_NAMESPACE)
    except ManifestError as error:
        raise _refused(source, tuple(_translated(document, finding) for finding in error.findings)) from error
    return manifest


def export_recipe(recipe: SigningRecipe) -> Exported:
    """Write a recipe in the portable format; `keyRef.name` stands in for a missing `signer_pinning.key_alias`."""
    manifest = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    document: dict[str, Any] = {}
    present = {_dotted(path): value for path, value in _leaves({"spec": manifest["spec"]}, ())}
    present["metadata.name"] = recipe.metadata.name
    key_name = present.get("spec.keyRef.name")
    if key_name is not None:
        present.setdefault(FIELDS[_ALIAS], key_name)
    for portable, path in FIELDS.items():
        if path in present:
            _put(document, portable, present[path])
    known = {*FIELDS.values(), *(["spec.keyRef.name"] if present.get(FIELDS[_ALIAS]) == key_name else [])}
    return Exported(document, tuple(sorted(path for path in present if path not in known)))


def _refused(source: str, findings: tuple[Finding, ...]) -> ManifestError:
    return ManifestError(Reason.RecipeInvalid, source, "portable recipe: ", findings)


def _leaves(value: object, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and _dotted(path) not in FIELDS:
        if path and not value:
            yield path, value
        for name, part in value.items():
            yield from _leaves(part, (*path, name))
    else:
        yield path, value


def _put(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
    document[last] = value


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def _unknown(document: Document, path: Path) -> Finding:
    dotted = _dotted(path)
    line = document.line_of(path)
    if any(field.startswith(f"{dotted}.") for field in FIELDS):
        return Finding(dotted, "mapping", "should be a mapping with content", "write a mapping", line)
    return Finding(dotted[:200], "extra_forbidden", "is no known field", "remove it or correct its spelling", line)


def _translated(document: Document, finding: Finding) -> Finding:
    if finding.path == "spec.keyRef.name":
        remedy = "name the ByokKey with --key NAMESPACE/NAME"
        return Finding(_ALIAS, finding.rule, finding.message, remedy, document.line_of(tuple(_ALIAS.split("."))))
    for portable, path in FIELDS.items():
        if finding.path == path or finding.path.startswith(f"{path}["):
            line = document.line_of(tuple(portable.split(".")))
            return Finding(
                portable + finding.path.removeprefix(path), finding.rule, finding.message, finding.remedy, line
            )
    blocks = {path.rpartition(".")[0]: portable.rpartition(".")[0] for portable, path in FIELDS.items()}
    block = blocks.get(finding.path, finding.path)
    return Finding(block, finding.rule, finding.message, finding.remedy, document.line_of(tuple(block.split("."))))
