"""The Condition element of policies; pure.

Source: IAM user guide, "IAM JSON policy elements: Condition operators" and "Set operators for multivalued context
keys".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

Context = Mapping[str, tuple[str, ...]]
"""What is known of a request, by lower-case condition key; a key that does not apply to it is absent."""

_KNOWN = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:requestedregion",
        "aws:tagkeys",
        "kms:calleraccount",
        "kms:granteeprincipal",
        "kms:grantoperations",
        "kms:keyorigin",
        "kms:keyspec",
        "kms:keyusage",
        "kms:messagetype",
        "kms:multiregion",
        "kms:requestalias",
        "kms:resourcealiases",
        "kms:signingalgorithm",
        "sts:externalid",
        "sts:rolesessionname",
    },
)
_KNOWN_PREFIXES = ("aws:principaltag/", "aws:requesttag/", "aws:resourcetag/")

Matcher = Callable[[str, str], bool]
"""Whether a policy's value (first) matches a request's value (second)."""


def like(pattern: str, text: str) -> bool:
    """Match with IAM's wildcards: `*` for any characters, `?` for one."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(character) or re.escape(character) for character in pattern), re.DOTALL)


_OPERATORS: Mapping[str, tuple[Matcher, bool]] = MappingProxyType(
    {
        "StringEquals": (str.__eq__, False),
        "StringNotEquals": (str.__eq__, True),
        "StringEqualsIgnoreCase": (lambda pattern, value: pattern.casefold() == value.casefold(), False),
        "StringNotEqualsIgnoreCase": (lambda pattern, value: pattern.casefold() == value.casefold(), True),
        "StringLike": (like, False),
        "StringNotLike": (like, True),
        "ArnEquals": (like, False),
        "ArnLike": (like, False),
        "ArnNotEquals": (like, True),
        "ArnNotLike": (like, True),
        "Bool": (lambda pattern, value: pattern.casefold() == value.casefold(), False),
    },
)


class ConditionError(ValueError):
    """A Condition element is malformed, or uses what this module does not evaluate."""


@dataclass(frozen=True)
class Condition:
    """One operator applied to one condition key."""

    key: str
    """Lower case."""
    operator: str
    """Without set prefix and IfExists."""
    quantifier: str
    """`ForAnyValue`, `ForAllValues` or empty."""
    if_exists: bool
    values: tuple[str, ...]

    def holds(self, context: Context, *, unknown: bool) -> bool:
        """Decide for one request; `unknown` is the answer for a condition key that the sandbox does not know."""
        if self.key not in _KNOWN and not self.key.startswith(_KNOWN_PREFIXES):
            return unknown
        actual = context.get(self.key)
        if self.operator == "Null":
            return all((not actual) == (value.casefold() == "true") for value in self.values)
        matcher, negated = _OPERATORS[self.operator]
        if not actual:
            return self.if_exists or self.quantifier == "ForAllValues" or (negated and not self.quantifier)
        results = [any(matcher(pattern, value) for pattern in self.values) is not negated for value in actual]
        if self.quantifier == "ForAnyValue":
            return any(results)
        # Without a set operator AWS does not say what a multivalued key does: every value has to pass.
        return all(results)


def parse_conditions(document: object) -> tuple[Condition, ...]:
    """Read a Condition element; ConditionError names the operator or value that cannot be evaluated."""
    if not isinstance(document, dict):
        raise ConditionError("must be an object")
    return tuple(
        _condition(operator, key, values)
        for operator, keys in document.items()
        for key, values in _object(keys, operator).items()
    )


def _condition(text: str, key: str, values: object) -> Condition:
    quantifier, _, operator = text.rpartition(":")
    name = operator.removesuffix("IfExists")
    if quantifier not in {"", "ForAnyValue", "ForAllValues"} or (name not in _OPERATORS and name != "Null"):
        raise ConditionError(f"the sandbox does not evaluate the operator {text[:60]!r}")
    items = values if isinstance(values, list) else [values]
    if not items or not all(isinstance(value, str | bool) for value in items):
        raise ConditionError(f"{key[:80]!r} must be compared with strings")
    texts = tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in items)
    if any("${" in value for value in texts):
        raise ConditionError(f"{key[:80]!r}: the sandbox does not evaluate policy variables")
    return Condition(key.lower(), name, quantifier, operator != name, texts)


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not value:
        raise ConditionError(f"{where[:60]} must be an object of condition keys")
    return value
