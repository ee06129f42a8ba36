"""`values.yaml` as its own documentation: each value with its comment, its default, and what it may be.

The comment above a key says what it means. A line `# @schema ...` in it says what a value may be, where the default
does not: the name of a definition (`tests.chart.definitions`), or a JSON Schema in YAML's flow style.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_SCHEMA = "@schema "
_TYPES = {bool: "boolean", int: "integer", str: "string"}


class SourceError(Exception):
    """values.yaml says too little of a value; str() names it."""


@dataclass(frozen=True)
class Value:
    """A value, or a group of them."""

    path: tuple[str, ...]
    meaning: str
    schema: Mapping[str, Any] | None
    """What it may be; None for a group."""
    default: object
    members: tuple["Value", ...] = ()

    @property
    def name(self) -> str:
        """As `--set` takes it."""
        return ".".join(self.path)

    def leaves(self) -> Iterator["Value"]:
        """Every value below, or this one itself."""
        if self.schema is not None:
            yield self
        for member in self.members:
            yield from member.leaves()


def read(text: str) -> tuple[Value, ...]:
    """Read values.yaml; SourceError for a value without a comment, or without anything that tells its type."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise SourceError("values.yaml: expected a mapping")
    return tuple(_members(root, (), text.splitlines()))


def _members(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key, content in node.value:
        where = (*path, str(key.value))
        meaning, schema = _comment(lines, key.start_mark.line, key.start_mark.column, ".".join(where))
        default = yaml.safe_load(yaml.serialize(content))
        if schema is None and isinstance(content, yaml.MappingNode) and content.value:
            yield Value(where, meaning, None, default, tuple(_members(content, where, lines)))
        else:
            yield Value(where, meaning, _typed(schema, default, ".".join(where)), default)


def _comment(lines: list[str], line: int, column: int, name: str) -> tuple[str, Mapping[str, Any] | None]:
    head = f"{' ' * column}# "
    first = line
    while first > 0 and lines[first - 1].startswith(head):
        first -= 1
    said = [text.removeprefix(head) for text in lines[first:line]]
    schemas = [text.removeprefix(_SCHEMA) for text in said if text.startswith(_SCHEMA)]
    meaning = " ".join(text for text in said if not text.startswith(_SCHEMA))
    if not meaning or len(schemas) > 1:
        raise SourceError(f"values.yaml: {name}: expected a comment above it, with at most one line {_SCHEMA.strip()}")
    if not schemas:
        return meaning, None
    schema = yaml.safe_load(schemas[0])
    return meaning, {"$ref": f"#/definitions/{schema}"} if isinstance(schema, str) else schema


def _typed(schema: Mapping[str, Any] | None, default: object, name: str) -> Mapping[str, Any]:
    if schema and ("$ref" in schema or "type" in schema):
        return schema
    if type(default) not in _TYPES:
        raise SourceError(f"values.yaml: {name}: its default does not tell its type; add a line {_SCHEMA.strip()}")
    return {"type": _TYPES[type(default)], **(schema or {})}
