"""Which metrics, labels and values a PromQL expression names; of its meaning nothing, which is promtool's to judge."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKENS = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
    | (?P<variable>\$\{?\w+\}?)
    | (?P<number>\d+(?:\.\d+)?(?:ms|[smhdwy])?)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<name>[A-Za-z_:][\w:]*)
    | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){}\[\],@])
    """,
    re.VERBOSE,
)
_GROUPINGS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_OPEN = ("sign", "(")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_FUNCTIONS = frozenset({"absent", "histogram_quantile", "increase", "max", "min", "rate", "sum", "time", "vector"})


@dataclass(frozen=True)
class Matcher:
    """One condition of a selector; `values` are the alternatives of a regular expression, or the one value."""

    metric: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """Everything that an expression names."""

    metrics: frozenset[str]
    matchers: tuple[Matcher, ...]
    grouping: frozenset[str]
    """Labels of `by`, `on` and the like."""


def named_in(expression: str) -> Named:
    """Read an expression; ValueError for a word that is none of PromQL's, nor followed by what a metric may be."""
    metrics, grouping, matchers = set[str](), set[str](), list[Matcher]()
    tokens = list(_tokens(expression))
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        at += 1
        if kind != "name" or text in _WORDS:
            continue
        if text in _GROUPINGS and tokens[at : at + 1] == [_OPEN]:
            end = tokens.index(("sign", ")"), at)
            grouping |= {name for kind, name in tokens[at:end] if kind == "name"}
            at = end
        elif text in _FUNCTIONS or text in _GROUPINGS:
            continue
        elif tokens[at : at + 1] == [_OPEN]:
            raise ValueError(f"{text}: no function that is known here")
        else:
            metrics.add(text)
            if tokens[at : at + 1] == [("sign", "{")]:
                end = tokens.index(("sign", "}"), at)
                matchers += _matchers(text, tokens[at + 1 : end])
                at = end
    return Named(frozenset(metrics), tuple(matchers), frozenset(grouping))


def _matchers(metric: str, tokens: list[tuple[str, str]]) -> Iterator[Matcher]:
    words = [token for token in tokens if token != ("sign", ",")]
    for (_, label), (_, sign), (_, quoted) in zip(words[0::3], words[1::3], words[2::3], strict=True):
        value = quoted[1:-1]
        yield Matcher(metric, label, tuple(value.split("|")) if sign in {"=~", "!~"} else (value,))


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(expression):
        found = _TOKENS.match(expression, at)
        if found is None:
            raise ValueError(f"at {expression[at : at + 20]!r}: no word of PromQL")
        at = found.end()
        if found.lastgroup not in {None, "space"}:
            yield str(found.lastgroup), found[0]
