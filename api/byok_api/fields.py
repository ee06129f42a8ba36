"""What every model of the kinds is built from: strict models, marks on fields, rules that hold across fields.

A mark says, beside the field itself, whether this version puts it into effect, how a child recipe inherits it, and
whether it may change once written. Resolution, CRDs and reference docs all read the marks; nothing says the same in a
second place.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

API_GROUP = "byok.dev"
API_VERSION: Final = "byok.dev/v1alpha1"


class Described(StrEnum):
    """Text values that carry what the reference docs say of them."""

    description: str

    def __new__(cls, value: str, description: str) -> Self:
        """Keep the description beside the value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member


class Effect(Described):
    """Whether this version puts a field into effect."""

    ENFORCED = "enforced", "The signer or the client acts on it."
    RECORDED = "recorded", "It is stored, inherited and shown, and nothing acts on it yet."
    REFUSED = "refused", "The value that would be dangerous to ignore is refused; the harmless ones are recorded."


class Inheritance(Described):
    """How a recipe's field and its parent's become one."""

    OVERRIDE = "override", "The child's value wins where it sets one."
    GROW_ONLY = "grow-only", "The child adds to the parent's set."
    TIGHTEN_ONLY = "tighten-only", "The child may go from the lax value to the strict one, never back."
    SHRINK_ONLY = "shrink-only", "Once a set is given, the child may only take from it."
    OWN = "own", "It is never inherited."


@dataclass(frozen=True)
class Mark:
    """The mark of one field."""

    effect: Effect
    inheritance: Inheritance = Inheritance.OWN
    mutable: bool = True
    """Whether it may change in an object that exists."""
    hashed: bool = False
    """Whether the effective recipe's hash covers it."""


def recipe_mark(
    effect: Effect,
    inheritance: Inheritance = Inheritance.OVERRIDE,
    *,
    mutable: bool = False,
    hashed: bool = True,
) -> Mark:
    """Mark a recipe's field; most override, cannot be changed, and are hashed."""
    return Mark(effect, inheritance, mutable=mutable, hashed=hashed)


@dataclass(frozen=True)
class Rule:
    """A rule over several fields, said twice: for the API server in CEL, here in Python."""

    name: str
    cel: str
    message: str
    check: Callable[[Any], bool]
    """Whether a validated model keeps the rule."""
    one_of: tuple[str, ...] = ()
    """Attributes that the schema must leave optional, so that this rule's message is what the user reads."""


@dataclass(frozen=True)
class TransitionRule:
    """A rule over an object's old and new spec."""

    name: str
    cel: str
    message: str
    check: Callable[[Any, Any], bool]
    """Whether the change from old to new keeps the rule."""


def camel(attribute: str) -> str:
    """Name an attribute as manifests do; pydantic's own generator makes `c2Pa` of `c2pa`."""
    first, *rest = attribute.split("_")
    return first + "".join(part.capitalize() for part in rest)


class Model(BaseModel):
    """A part of a manifest: frozen, no unknown fields, no coercion, camelCase outside; None is a field left out.

    Validate with `model_validate_json`: only there does strict mode read enumerations, arrays and times from their
    JSON forms. `byok_api.objects` refuses null before that, as the API server does.
    """

    model_config = ConfigDict(
        alias_generator=camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    TRANSITIONS: ClassVar[tuple[TransitionRule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        broken = [rule for rule in type(self).RULES if not rule.check(self)]
        if broken:
            raise PydanticCustomError(
                "rule",
                "{message}",
                {"message": "; ".join(rule.message for rule in broken), "rules": [rule.name for rule in broken]},
            )
        return self

    @classmethod
    def marked_fields(cls) -> Iterator[tuple[str, FieldInfo, Mark | None]]:
        """Each field with its mark; None where the marks are on the parts of the field's own model.

        A marked field is inherited as a whole, an unmarked one part by part.
        """
        for name, info in cls.model_fields.items():
            yield name, info, next((item for item in info.metadata if isinstance(item, Mark)), None)


def broken_transitions(old: Model, new: Model) -> tuple[TransitionRule, ...]:
    """List the rules that a change from `old` to `new` would break."""
    return tuple(rule for rule in type(new).TRANSITIONS if not rule.check(old, new))


def exactly_one(what: str, attributes: tuple[str, ...]) -> Rule:
    """Demand that exactly one of these fields is set."""
    names = tuple(camel(attribute) for attribute in attributes)
    return Rule(
        name=f"ExactlyOne{what}",
        cel=f"[{', '.join(f'has(self.{name})' for name in names)}].exists_one(given, given)",
        message=f"exactly one of {', '.join(names)} must be set" if len(names) > 1 else f"{names[0]} must be set",
        check=lambda model: sum(getattr(model, attribute) is not None for attribute in attributes) == 1,
        one_of=attributes,
    )


def unchangeable(attribute: str, *, required: bool, remedy: str) -> TransitionRule:
    """Demand that a field stays what it was, absent or present."""
    name = camel(attribute)
    same = f"self.{name} == oldSelf.{name}"
    return TransitionRule(
        name=f"{name[0].upper()}{name[1:]}Unchanged",
        cel=same if required else f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})",
        message=f"{name} cannot be changed; {remedy}",
        check=lambda old, new: bool(getattr(old, attribute) == getattr(new, attribute)),
    )


def _unique(items: tuple[str, ...] | None) -> tuple[str, ...] | None:
    repeated = sorted({item for item in items or () if (items or ()).count(item) > 1})
    if repeated:
        raise PydanticCustomError(
            "unique_items", "{items} is listed more than once", {"items": ", ".join(repeated)[:200]}
        )
    return items


UNIQUE: Final = AfterValidator(_unique)
"""On a field that is a set; the CRD says `x-kubernetes-list-type: set`."""

_DURATION: Final = re.compile(r"([0-9]{1,5})([hms])")
_UNITS: Final[Mapping[str, str]] = {"h": "hours", "m": "minutes", "s": "seconds"}

Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,5}[hms]){1,3}$", max_length=18)]
"""A span of time as Go and CEL write it: `24h`, `90m`, `1h30m`."""

Identifier = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", max_length=63)
]
"""A short name without spaces, chosen by users."""


def duration(text: str) -> timedelta:
    """Read a `Duration`; ValueError if it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[:40]!r} is not a duration such as 24h or 1h30m")
    return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
