"""What a structural schema may and must say; that the API server takes the CRDs is proven in tests/cluster."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from byok_api.crds import KINDS, Kind, crd

ROOT = Path(__file__).parents[2]
# Keywords of JSONSchemaProps that a structural schema may carry (Kubernetes, Specifying a structural schema).
KEYWORDS = {
    "type",
    "description",
    "properties",
    "additionalProperties",
    "items",
    "required",
    "enum",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


def version(kind: Kind) -> dict[str, Any]:
    (only,) = crd(kind)["spec"]["versions"]
    assert isinstance(only, dict)
    return only


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{path}[]")


kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def all_nodes(kind: Kind) -> list[tuple[str, dict[str, Any]]]:
    return list(nodes(version(kind)["schema"]["openAPIV3Schema"]))


@kinds
def test_the_schema_is_structural(kind: Kind) -> None:
    for path, node in all_nodes(kind):
        assert set(node) <= KEYWORDS, path
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields") is True, path
        assert not {"properties", "additionalProperties"} <= set(node), path


@kinds
def test_no_default_is_set(kind: Kind) -> None:
    assert not [path for path, node in all_nodes(kind) if "default" in node]


@kinds
def test_everything_is_bounded(kind: Kind) -> None:
    bounds = {
        "string": {"maxLength", "enum", "format"},
        "array": {"maxItems"},
        "object": {"properties", "maxProperties", "x-kubernetes-preserve-unknown-fields"},
    }
    unbounded = [
        path for path, node in all_nodes(kind) if node.get("type") in bounds and not bounds[node["type"]] & set(node)
    ]
    bounded_by_pattern = [".spec.c2pa.defaults.prompt_hash"]
    assert set(unbounded) <= {".apiVersion", ".kind", ".metadata", *bounded_by_pattern}


@kinds
def test_a_list_says_how_it_merges(kind: Kind) -> None:
    merged = {path: node["x-kubernetes-list-type"] for path, node in all_nodes(kind) if node.get("type") == "array"}
    assert [path for path, way in merged.items() if way == "map"] == [".status.conditions"]
    conditions = dict(all_nodes(kind))[".status.conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@kinds
def test_patterns_are_such_as_go_reads(kind: Kind) -> None:
    # RE2 has neither look-around nor back-references, and repeats at most 1,000 times.
    patterns = {node["pattern"] for _, node in all_nodes(kind) if "pattern" in node}
    assert not [pattern for pattern in patterns if re.search(r"\(\?[=!<]|\\[1-9]", pattern)]
    assert max(int(count) for pattern in patterns for count in re.findall(r"[{,](\d+)\}", pattern)) <= 1000


@kinds
def test_a_kind_has_what_kubectl_users_expect(kind: Kind) -> None:
    names, only = crd(kind)["spec"]["names"], version(kind)
    assert (names["categories"], names["shortNames"]) == (["byok"], [kind.short_name])
    assert only["subresources"] == {"status": {}}
    columns = {column["name"]: column for column in only["additionalPrinterColumns"]}
    assert columns["Message"] == {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        "priority": 1,
    }


@kinds
def test_columns_and_selectable_fields_name_fields_that_exist(kind: Kind) -> None:
    only = version(kind)
    fields = dict(all_nodes(kind))
    paths = [field["jsonPath"] for field in only["selectableFields"]]
    assert all(fields[path]["type"] in {"string", "integer", "boolean"} for path in paths)
    paths = [column["jsonPath"] for column in only["additionalPrinterColumns"] if "?" not in column["jsonPath"]]
    assert set(paths) <= {*fields, ".metadata.creationTimestamp"}


@kinds
def test_the_file_in_the_repository_is_this_crd(kind: Kind) -> None:
    assert yaml.safe_load((ROOT / "crds" / kind.file_name).read_bytes()) == crd(kind)
