"""What an image's wheel holds, and what its requirements pin, read without an image builder."""

import ast
import functools
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import PathDistribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parent.parent.parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
GENERATORS = {"byok_api/generate.py"}
"""Modules that developers run, and no image."""


@dataclass(frozen=True)
class PartWheel:
    """The wheel of one part."""

    part: str
    path: Path

    @property
    def files(self) -> list[str]:
        with zipfile.ZipFile(self.path) as archive:
            return archive.namelist()

    @property
    def packages(self) -> set[str]:
        """Top-level packages."""
        return {name.partition("/")[0] for name in self.files} - {self._info}

    @property
    def metadata(self) -> Message:
        return Parser().parsestr(self._text(f"{self._info}/METADATA"), headersonly=True)

    @property
    def requirements(self) -> list[Requirement]:
        return [Requirement(text) for text in self.metadata.get_all("Requires-Dist", [])]

    @property
    def entry_points(self) -> dict[str, str]:
        """Targets of all groups, by name."""
        distribution = PathDistribution(zipfile.Path(self.path, f"{self._info}/"))
        return {point.name: point.value for point in distribution.entry_points}

    def imports(self) -> Iterator[tuple[str, str]]:
        """List what each module imports: its file in the wheel, and the imported module's full name."""
        with zipfile.ZipFile(self.path) as archive:
            for name in archive.namelist():
                if name.endswith(".py") and name not in GENERATORS:
                    yield from ((name, module) for module in _imports(ast.parse(archive.read(name))))

    @property
    def _info(self) -> str:
        return "-".join(self.path.name.split("-")[:2]) + ".dist-info"

    def _text(self, name: str) -> str:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name).decode()


def _imports(node: ast.AST) -> Iterator[str]:
    """List the modules imported at run time; what only a type checker reads is left out."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from [node.module] if node.module else []
    elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)


def pins(name: str) -> dict[str, Version]:
    """Read the versions that requirements/NAME.txt pins, by canonical name."""
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text()
    return {canonicalize_name(found): Version(version) for found, version in _PIN.findall(text)}


def providers(module: str) -> set[str]:
    """Name the distributions that provide a module, by canonical name; none for the standard library's."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return set()
    # Several distributions share `google`; what lies in it tells them apart.
    shared = {"google.rpc": {"googleapis-common-protos"}, "google.protobuf": {"protobuf"}}
    for prefix, names in shared.items():
        if module.startswith(prefix):
            return names
    return {canonicalize_name(name) for name in _providers().get(top, [top])}


@functools.cache
def _providers() -> Mapping[str, list[str]]:
    return packages_distributions()
