"""What the chart says of itself, as Artifact Hub reads it, and what `helm package` makes of it.

Formats: Artifact Hub documentation, "Helm annotations".
"""

import json
import re
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from byok_api.crds import KINDS
from byok_api.objects import parse_object
from tests.chart.rendering import CHART, NAMESPACE, RELEASE, containers, helm, render_text, rendered

_ABOUT: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
_PREFIX = "artifacthub.io/"
_TEXT = {"type": "string", "minLength": 1}
_URL = {"type": "string", "pattern": "^https://"}
_FLAG = {"enum": ["true", "false"]}


def listed(properties: Mapping[str, object], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    item = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "array", "minItems": 1, "items": item}


_LINKS = listed({"name": _TEXT, "url": _URL})
_KINDS_OF_CHANGES = ["added", "changed", "deprecated", "removed", "fixed", "security"]
_CAPABILITIES = ["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"]
_CATEGORIES = [
    *("ai-machine-learning", "database", "integration-delivery", "monitoring-logging", "networking", "security"),
    *("skip-prediction", "storage", "streaming-messaging"),
]
_IN_YAML = {
    "changes": listed({"kind": {"enum": _KINDS_OF_CHANGES}, "description": _TEXT, "links": _LINKS}, "links"),
    "crds": listed(dict.fromkeys(("kind", "version", "name", "displayName", "description"), _TEXT)),
    "crdsExamples": listed({"apiVersion": _TEXT, "kind": _TEXT, "metadata": {}, "spec": {}}),
    "images": listed({"name": _TEXT, "image": _TEXT, "whitelisted": {"type": "boolean"}}, "whitelisted"),
    "links": _LINKS,
}
_PLAIN: dict[str, dict[str, Any]] = {
    "category": {"enum": _CATEGORIES},
    "license": _TEXT,
    "operator": _FLAG,
    "operatorCapabilities": {"enum": _CAPABILITIES},
    "prerelease": _FLAG,
}


def annotation(name: str) -> Any:  # noqa: ANN401 - whatever its YAML holds
    text = _ABOUT["annotations"][_PREFIX + name]
    return yaml.safe_load(text) if name in _IN_YAML else text


def test_all_is_said_that_artifact_hub_shows() -> None:
    assert {name.removeprefix(_PREFIX) for name in _ABOUT["annotations"]} == {*_IN_YAML, *_PLAIN}


@pytest.mark.parametrize("name", [*_IN_YAML, *_PLAIN])
def test_each_annotation_has_artifact_hubs_form(name: str) -> None:
    Draft202012Validator({**_IN_YAML, **_PLAIN}[name]).validate(annotation(name))


def test_the_chart_has_the_projects_version_and_licence() -> None:
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    assert _ABOUT["version"] == _ABOUT["appVersion"] == project["version"]
    assert annotation("license") == project["license"]
    # Semantic versioning: 0.x is not stable.
    assert annotation("prerelease") == json.dumps(project["version"].startswith("0."))


def test_images_are_those_that_the_chart_runs() -> None:
    named = {each["name"]: each["image"] for each in annotation("images")}
    plain = {pod: pods["containers"][0]["image"] for pod, pods in rendered("defaults").pods().items()}
    assert plain == {"byok-operator": named["operator"], "byok-signer": named["signer"], "byok-test": named["cli"]}
    tag = named["signer"].rpartition(":")[2]
    sandbox = rendered("sandbox").pod("byok-sandbox")
    assert [container["name"] for container in containers(sandbox)] == ["sandbox"]
    assert named["sandbox"] == f"byok-operator/sandbox:{tag}"


def test_both_kinds_are_named_with_an_example_that_is_one() -> None:
    kinds = {kind.name: f"{kind.plural}.byok.dev" for kind in KINDS}
    assert {each["kind"]: each["name"] for each in annotation("crds")} == kinds
    examples = annotation("crdsExamples")
    assert [each["kind"] for each in examples] == list(kinds)
    for each in examples:
        assert parse_object(each, "an example").metadata.name == each["metadata"]["name"]


def test_the_package_renders_what_the_folder_does_and_holds_nothing_else(tmp_path: Path) -> None:
    said = helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    assert package.name in said
    assert helm("template", RELEASE, str(package), "--namespace", NAMESPACE) == render_text({})
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "values.schema.json", "templates/NOTES.txt"} <= names
    assert not [name for name in names if re.search(r"\.(py|tgz|orig|swp)$|^ci/", name)]
