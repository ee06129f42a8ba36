"""Values that the pages show are values that the chart takes, its checks included."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, helm, render_text

_REPOSITORY = CHART.parents[1]
_PAGES = [*(_REPOSITORY / "docs").glob("*.md"), *(_REPOSITORY / "examples").rglob("*.md"), CHART / "README.md"]
# A ByokKey's spec has a part of this name too.
_TOPS = yaml.safe_load((CHART / "values.yaml").read_text()).keys() - {"acknowledgement"}


def blocks(page: Path, language: str) -> Iterator[str]:
    """Code of one language, without the indentation of a list that it is in."""
    for indent, text in re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


def values_in(page: Path) -> Iterator[Mapping[str, Any]]:
    """Whole files of values, and what Argo CD and Flux are given in their place."""
    for text in blocks(page, "yaml"):
        for document in yaml.safe_load_all(text):
            match document:
                case {"kind": "Application", "spec": {"source": {"helm": {"valuesObject": values}}}}:
                    yield values
                case {"kind": "HelmRelease", "spec": {"values": values}}:
                    yield values
                case dict() if text.startswith("# values.yaml") or document.keys() <= _TOPS:
                    yield document


def settings_in(page: Path) -> Iterator[tuple[str, ...]]:
    """What helm is told by --set in a command, with the option."""
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.startswith("helm ") else []
            given = [index for index, word in enumerate(words) if word.startswith("--set")]
            if given:
                yield tuple(word for index in given for word in words[index : index + 2])


_SHOWN = [(page, values) for page in sorted(_PAGES) for values in values_in(page)]
_TOLD = [(page, options) for page in sorted(_PAGES) for options in settings_in(page)]


@pytest.mark.parametrize(
    "values", [each for _, each in _SHOWN], ids=[f"{page.parent.name}/{page.stem}" for page, _ in _SHOWN]
)
def test_values_that_a_page_shows_are_taken(values: Mapping[str, Any]) -> None:
    assert render_text(values)


@pytest.mark.parametrize("options", [each for _, each in _TOLD], ids=[page.stem for page, _ in _TOLD])
def test_options_that_a_page_shows_are_taken(options: tuple[str, ...]) -> None:
    assert helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *options)


def test_pages_are_read_that_show_values() -> None:
    shown = {page.relative_to(_REPOSITORY).as_posix() for page, _ in _SHOWN}
    assert shown >= {"docs/aws.md", "docs/gitops.md", "docs/install.md", "docs/monitoring.md", "docs/network.md"}
    assert shown >= {"docs/platform.md", "docs/sizing.md", "charts/byok-operator/README.md"}
    assert _TOLD
