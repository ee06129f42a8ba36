"""How a recipe's spec and its parent's become one, field by field, by the marks in the models."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import JsonValue, ValidationError

from byok_api.assertions import ASSERTIONS
from byok_api.errors import Reason, Refusal
from byok_api.fields import Effect, Inheritance, Mark, Model
from byok_api.signingrecipe import Ingredients, MediaType, SigningRecipeSpec

AnyModel = TypeVar("AnyModel", bound=Model)

# Followed on their own: each depends on which recipe wrote it.
_KEY_FIELDS = frozenset({"key_ref", "kms_mode"})


@dataclass
class Merge:
    """One step from a parent to its child."""

    child: str
    """How messages call the child, such as `SigningRecipe media/photo@2`."""
    parent: str
    notes: list[str] = field(default_factory=list)
    """What the child wrote without effect."""

    def specs(self, parent: SigningRecipeSpec | None, child: SigningRecipeSpec) -> SigningRecipeSpec:
        """Merge two specs, but for the key; Refusal (RecipeInvalid) if they contradict each other."""
        own = {name: value for name, value in child if value is not None and name not in _KEY_FIELDS}
        bare = SigningRecipeSpec(**own)
        return bare if parent is None else self._models(parent, bare, "")

    def _models(self, parent: AnyModel, child: AnyModel, path: str) -> AnyModel:
        values: dict[str, Any] = {}
        for name, info, mark in type(child).marked_fields():
            merged = self._values(getattr(parent, name), getattr(child, name), mark, f"{path}{info.alias}")
            if merged is not None:
                values[name] = merged
        try:
            return type(child)(**values)
        except ValidationError as error:
            found = "; ".join(details["msg"] for details in error.errors(include_url=False, include_input=False))
            raise self._refusal(
                f"together with what it inherits from {self.parent}: {found}; change one of the two"
            ) from error

    def _values(self, parent: Any, child: Any, mark: Mark | None, path: str) -> Any:  # noqa: ANN401 - any field's value
        inheritance = mark.inheritance if mark else None
        if child is None or parent is None or inheritance is Inheritance.OWN:
            unset = child is None and inheritance is not Inheritance.OWN
            return parent if unset else child
        match inheritance:
            case None:
                return self._models(parent, child, f"{path}.")
            case Inheritance.GROW_ONLY:
                return tuple(sorted({*parent, *child}))
            case Inheritance.SHRINK_ONLY:
                return self._shrunk(parent, child, path)
            case Inheritance.TIGHTEN_ONLY:
                return self._tightened(parent, child, path)
        return {**parent, **child} if isinstance(child, dict) else child

    def _shrunk(self, parent: tuple[str, ...], child: tuple[str, ...], path: str) -> tuple[str, ...]:
        refused = sorted(set(child) - set(parent))
        if refused:
            self.notes.append(f"{path}: {', '.join(refused)} has no effect: {self.parent} does not allow it")
        return tuple(sorted(set(child) & set(parent)))

    def _tightened(self, parent: Any, child: Any, path: str) -> Any:  # noqa: ANN401 - a flag or enumeration
        if isinstance(parent, MediaType) and child is not parent:
            raise self._refusal(f"{path} is {child}, but {self.parent} is for {parent}; extend a recipe for {child}")
        if parent in (True, Ingredients.FORBID) and child != parent:
            shown = str(child).lower() if isinstance(child, bool) else child
            self.notes.append(f"{path}: {shown} has no effect: {self.parent} is stricter")
            return parent
        return child

    def _refusal(self, message: str) -> Refusal:
        return Refusal(Reason.RecipeInvalid, f"{self.child}: {message}")


def hashed_fields(model: type[Model] = SigningRecipeSpec, path: str = "") -> Iterator[str]:
    """List the fields that the effective recipe's hash covers."""
    for _, info, mark in model.marked_fields():
        if mark is None:
            yield from hashed_fields(nested_model(info.annotation), f"{path}{info.alias}.")
        elif mark.hashed:
            yield f"{path}{info.alias}"


def nested_model(annotation: object) -> type[Model]:
    """Find the model in an annotation such as `C2pa | None` or `tuple[Part, ...]`; TypeError if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if argument not in (type(None), ...):
            return nested_model(argument)
    raise TypeError(f"{annotation} holds no model")


def content(model: Model) -> dict[str, JsonValue]:
    """Write down what is hashed of a spec, as JSON: sets sorted, metadata values canonical, unset fields absent."""
    written: dict[str, JsonValue] = {}
    for name, info, mark in type(model).marked_fields():
        value = getattr(model, name)
        if value is None:
            continue
        if mark is None:
            part = content(value)
            if part:
                written[str(info.alias)] = part
        elif mark.hashed:
            written[str(info.alias)] = _plain(value)
    return written


def _plain(value: Any) -> JsonValue:  # noqa: ANN401 - any field's value
    match value:
        case tuple():
            return [*sorted(str(item) for item in value)]
        case dict():
            return cast("JsonValue", {name: ASSERTIONS[name].parse(given) for name, given in value.items()})
        case bool() | int() | float():
            return value
        case _:
            return str(value)


def recorded(model: Model, path: str = "") -> Iterator[str]:
    """List the fields of a spec that are set and that this version does not put into effect; false asks for nothing."""
    for name, info, mark in type(model).marked_fields():
        value = getattr(model, name)
        if value is None or value is False:
            continue
        if mark is None:
            yield from recorded(value, f"{path}{info.alias}.")
        elif mark.effect is Effect.RECORDED:
            yield f"{path}{info.alias}"
