"""From a document to an object of a known kind, or to everything that is wrong with it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from byok_api.byokkey import ByokKey, KeyState
from byok_api.errors import Reason, Refusal
from byok_api.fields import API_VERSION, Model
from byok_api.legible import Legible, legible_in
from byok_api.manifests import DEPTH_LIMIT, Document, Finding, ManifestError, Path
from byok_api.metadata import NAMESPACE_NAME_LABEL, UNREAD, ObjectMeta
from byok_api.references import ObjectName
from byok_api.signingrecipe import SigningRecipe

__all__ = ["Identity", "Namespace", "Object", "ObjectMeta", "Unreadable", "identity_of", "parse_object", "unreadable"]


class Namespace(Model):
    """A namespace, for the labels that `allowedConsumers` selects by."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Namespace"] = "Namespace"
    metadata: ObjectMeta

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels, with its name where the API server puts it, whatever the manifest says."""
        return {**(self.metadata.labels or {}), NAMESPACE_NAME_LABEL: self.metadata.name}


Object = ByokKey | SigningRecipe | Namespace

Identity = tuple[str, ObjectName]
"""Kind, and namespace/name (an empty namespace for a Namespace)."""


@dataclass(frozen=True)
class Unreadable:
    """An object that is there under a name, and whose content is refused: it must not count as absent."""

    kind: str
    name: ObjectName
    reason: Reason
    message: str
    version: int | None = None
    """A recipe's, where that much can be read."""
    legible: Legible | None = None
    """What can be read of a ByokKey's claim; None if there is no document to read."""

    def refusal(self) -> Refusal:
        """Make the refusal that users of the object are told."""
        return Refusal(self.reason, self.message)


_KINDS: Final[Mapping[tuple[str, str], type[Object]]] = {
    (API_VERSION, "ByokKey"): ByokKey,
    (API_VERSION, "SigningRecipe"): SigningRecipe,
    ("v1", "Namespace"): Namespace,
}
_REASONS: Final[Mapping[type[Object], Reason]] = {
    ByokKey: Reason.KeyInvalid,
    SigningRecipe: Reason.RecipeInvalid,
    Namespace: Reason.InvalidRequest,
}
# Written by others and decided by others: never read, so never a ground to refuse an object either.
_UNREAD_PARTS: Final[Mapping[type[Object], frozenset[str]]] = {
    ByokKey: frozenset({"status"}),
    SigningRecipe: frozenset({"status"}),
    Namespace: frozenset({"spec", "status"}),
}
_QUOTE_LIMIT = 60
_MESSAGE_LIMIT = 600
# Beyond it JSON readers lose digits (RFC 8259, section 6), so that RFC 8785, by which recipes are hashed, has no form.
_NUMBER_LIMIT = 2**53 - 1
_SIZE_LIMIT = 256 * 1024
"""What an object's own part may weigh: its text by character, and each value `_VALUE_WEIGHT` besides.

A recipe can hold as much as the API server takes, 1.5 MiB, in values that its schema leaves open; whoever may write one
would hold up all who read it for seconds.
"""
_VALUE_WEIGHT = 16
_PART_OF_PATH = re.compile(r"[.\[]")
# What is never handed to the model, which could not cope.
_UNFIT: Final = frozenset({"DepthLimit", "NumberLimit"})
# The message says it already, or the value is long and may be a private key in the wrong place.
_NOT_QUOTED: Final = frozenset({"extra_forbidden", "assertion_name", "string_too_long"})

# What to do, by pydantic's error type; the message says what was found.
_REMEDIES: Final[Mapping[str, str]] = {
    "extra_forbidden": "remove it or correct its spelling",
    "missing": "add it",
    "string_type": "write text; quote what looks like a number or a boolean",
    "int_type": "write a whole number without quotes",
    "bool_type": "write true or false without quotes",
    "float_type": "write a number without quotes",
    "tuple_type": "write a list",
    "dict_type": "write a mapping",
    "model_type": "write a mapping",
    "enum": "use one of the values named",
    "literal_error": "use the value named",
    "string_pattern_mismatch": "write it in the form that docs/reference shows",
    "string_too_long": "shorten it",
    "string_too_short": "give a longer value",
    "too_long": "remove some",
    "greater_than_equal": "raise it",
    "less_than_equal": "lower it",
    "assertion_name": "use one of the names known",
    "default_value": "give a value of that shape",
    "unique_items": "keep one of them",
}


def parse_object(document: Mapping[str, Any], source: str, *, namespace: str | None = None) -> Object:
    """Read a document as a ByokKey, a SigningRecipe or a Namespace; `status` and what the API server adds are not read.

    `document` holds JSON values only, as `load_documents` or an API server gives them. `source` names the file in
    messages; `namespace` is meant where the object names none. Raises ManifestError with every finding: reason
    KeyInvalid or RecipeInvalid by kind, else InvalidRequest.
    """
    model = _kind_of(document, source)
    content = {key: value for key, value in document.items() if key not in _UNREAD_PARTS[model]}
    metadata = content.get("metadata")
    if isinstance(metadata, Mapping):
        content["metadata"] = {key: value for key, value in metadata.items() if key not in UNREAD}
        if namespace is not None and model is not Namespace:
            content["metadata"].setdefault("namespace", namespace)
    if _weighs_too_much([value for key, value in content.items() if key != "metadata"]):
        finding = _finding(document, ("spec",), "SizeLimit", f"weighs over {_SIZE_LIMIT} bytes", "shorten it")
        raise ManifestError(_REASONS[model], source, _subject(document, model), (finding,))
    findings = list(_unreadable(document, content, ()))
    if _UNFIT.isdisjoint(finding.rule for finding in findings):
        validated = _validated(model, content, document)
        if isinstance(validated, list):
            told = {path for finding in findings for path in _paths_to(finding.path)}
            findings += [each for each in validated if each.path not in told]
        elif not findings:
            return validated
    raise ManifestError(_REASONS[model], source, _subject(document, model), tuple(findings))


def identity_of(found: Object | Unreadable) -> Identity:
    """Tell which object this is."""
    name = found.name if isinstance(found, Unreadable) else ObjectName(found.metadata.namespace, found.metadata.name)
    return found.kind, name


def unreadable(document: Mapping[str, Any], identity: Identity, error: ManifestError) -> Unreadable:
    """Keep what can still be said of a document that `parse_object` refused: that it is there, and not in use.

    A key that is not plainly active counts as deactivated, whatever else is wrong with it: that was meant to stop it.
    """
    kind, name = identity
    spec = document.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    state, version = spec.get("state", KeyState.ACTIVE), spec.get("version")
    if kind != "ByokKey":
        return Unreadable(kind, name, error.reason, error.message, version if type(version) is int else None)
    legible = legible_in(document)
    if state != KeyState.ACTIVE:
        message = f"key {name} is not active: spec.state is {state!r:.40}"
        return Unreadable(kind, name, Reason.KeyDeactivated, message, legible=legible)
    return Unreadable(kind, name, error.reason, error.message, legible=legible)


def _kind_of(document: Mapping[str, Any], source: str) -> type[Object]:
    api_version, kind = document.get("apiVersion"), document.get("kind")
    model = _KINDS.get((api_version, kind)) if isinstance(api_version, str) and isinstance(kind, str) else None
    if model is None:
        known = ", ".join(f"{version} {known_kind}" for version, known_kind in _KINDS)
        message = f"apiVersion {_quoted(api_version)} with kind {_quoted(kind)} is none of {known}"
        finding = _finding(document, ("kind",), "kind", message, "correct apiVersion and kind")
        raise ManifestError(Reason.InvalidRequest, source, "", (finding,))
    return model


def _subject(document: Mapping[str, Any], model: type[Object]) -> str:
    metadata = document.get("metadata")
    names = [metadata.get("namespace"), metadata.get("name")] if isinstance(metadata, Mapping) else []
    name = "/".join(part[:_QUOTE_LIMIT] for part in names if isinstance(part, str))
    return f"{model.__name__} {name}: " if name else f"{model.__name__}: "


def _weighs_too_much(values: list[Any]) -> bool:
    left = _SIZE_LIMIT
    while values and left >= 0:
        value = values.pop()
        left -= _VALUE_WEIGHT
        match value:
            case str():
                left -= len(value)
            case Mapping():
                left -= sum(map(len, value))
                values += value.values()
            case list():
                values += value
    return left < 0


def _unreadable(document: Mapping[str, Any], value: object, path: Path) -> Iterator[Finding]:
    if len(path) > DEPTH_LIMIT:
        found = f"is nested deeper than {DEPTH_LIMIT} levels"
        yield _finding(document, path[:1], "DepthLimit", found, "flatten it")
        return
    match value:
        case None:
            # The API server takes a null out of what it stores; in a file it would count as unset, against its writer.
            yield _finding(document, path, "null", "is null", "leave it out")
        case int() if abs(value) > _NUMBER_LIMIT:
            found = "is a number of which readers of JSON lose digits"
            yield _finding(document, path, "NumberLimit", found, f"keep numbers within {_NUMBER_LIMIT}, or write text")
        case Mapping():
            for key, part in value.items():
                yield from _unreadable(document, part, (*path, str(key)))
        case list():
            for index, part in enumerate(value):
                yield from _unreadable(document, part, (*path, index))


def _validated(model: type[Object], content: Mapping[str, Any], document: Mapping[str, Any]) -> Object | list[Finding]:
    try:
        parsed = model.model_validate_json(json.dumps(content), by_alias=True, by_name=False)
    except ValidationError as error:
        return [_explained(document, details) for details in error.errors(include_url=False)]
    if parsed.metadata.namespace or model is Namespace:
        return parsed
    path = ("metadata", "namespace")
    return [_finding(document, path, "missing", "is missing", "add the namespace that it belongs to")]


def _explained(document: Mapping[str, Any], details: ErrorDetails) -> Finding:
    kind, path = details["type"], details["loc"]
    message = details["msg"].removeprefix("Input ").replace("Field required", "is missing").replace("String ", "")
    if kind == "extra_forbidden":
        message = "is no known field"
    if kind == "rule":
        names = ", ".join(details.get("ctx", {}).get("rules", ()))
        return _finding(document, path, names, message, "correct the fields named")
    if isinstance(details["input"], str | int | float) and kind not in _NOT_QUOTED:
        message += f", not {_quoted(details['input'])}"
    return _finding(document, path, kind, message, _REMEDIES.get(kind, "correct it"))


def _finding(document: Mapping[str, Any], path: Path, rule: str, message: str, remedy: str) -> Finding:
    line = document.line_of(path) if isinstance(document, Document) else None
    return Finding(_dotted(path), rule, message[:_MESSAGE_LIMIT], remedy, line)


def _dotted(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:_QUOTE_LIMIT]}" for part in path)
    return text.removeprefix(".")


def _paths_to(path: str) -> Iterator[str]:
    """List a part's path, and those of all parts around it."""
    yield from ("", path)
    yield from (path[: part.start()] for part in _PART_OF_PATH.finditer(path))


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if "PRIVATE KEY" in text:
        return "a private key (consider it disclosed)"
    return repr(text[:_QUOTE_LIMIT] + ("..." if len(text) > _QUOTE_LIMIT else ""))
