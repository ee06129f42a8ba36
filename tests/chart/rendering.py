"""The chart as the real helm renders it, each rendering made once."""

import functools
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.testenv.binaries import helm_binary, say_on_stderr

CHART = Path(__file__).parents[2] / "charts" / "byok-operator"
NAMESPACE = "byok-system"
RELEASE = "byok"
DEFAULTS = "defaults"
CASES = (DEFAULTS, *sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")))
"""No values at all, and each file of ci/."""

Document = Mapping[str, Any]


class RenderError(Exception):
    """Helm refused; str() is what it said."""


def helm(*arguments: str, stdin: str = "") -> str:
    """Run helm and return what it prints; RenderError."""
    ended = subprocess.run(
        [helm_binary(os.environ, say_on_stderr), *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        timeout=60,
    )
    if ended.returncode != 0:
        raise RenderError(ended.stderr)
    return ended.stdout


def values_of(case: str) -> dict[str, Any]:
    """Read the values of a case."""
    return {} if case == DEFAULTS else dict(yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text()))


def render_text(values: Mapping[str, Any], *flags: str) -> str:
    """Render the chart with values, anew each time; RenderError."""
    return helm(
        "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-", *flags, stdin=yaml.safe_dump(values)
    )


@dataclass(frozen=True)
class Rendering:
    """What one set of values yields, tests included."""

    documents: tuple[Document, ...]

    @classmethod
    def of(cls, text: str) -> "Rendering":
        """Read what helm rendered."""
        return cls(tuple(document for document in yaml.safe_load_all(text) if document))

    def kind(self, *kinds: str) -> tuple[Document, ...]:
        """All objects of these kinds."""
        return tuple(document for document in self.documents if document["kind"] in kinds)

    def one(self, kind: str, name: str) -> Document:
        """The object of that kind and name."""
        (found,) = (document for document in self.kind(kind) if document["metadata"]["name"] == name)
        return found

    def names(self, kind: str) -> set[str]:
        """Names of all objects of a kind."""
        return {document["metadata"]["name"] for document in self.kind(kind)}

    def config(self, service: str) -> dict[str, Any]:
        """The settings that a service is given."""
        return dict(yaml.safe_load(self.one("ConfigMap", f"byok-{service}-config")["data"]["config.yaml"]))

    def pod(self, name: str) -> Document:
        """The specification of a workload's pods."""
        return self.pods()[name]

    def pods(self) -> dict[str, Document]:
        """The specification of every pod, by the name of what makes it."""
        workloads = self.kind("Deployment", "StatefulSet")
        made = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in workloads}
        return made | {each["metadata"]["name"]: each["spec"] for each in self.kind("Pod")}


@functools.cache
def rendered(case: str) -> Rendering:
    """Render a case, once in a session."""
    return Rendering.of(render_text(values_of(case)))


def containers(pod: Document) -> Iterable[Document]:
    """All containers of a pod."""
    return (*pod.get("initContainers", ()), *pod["containers"])
