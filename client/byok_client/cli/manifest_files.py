"""Reading manifests from files and folders, as the signer reads its own; everything that is wrong is reported."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason, Refusal
from byok_api.fields import API_GROUP
from byok_api.manifests import SIZE_LIMIT, Document, Finding, ManifestError, load_documents
from byok_api.objects import Object, parse_object
from byok_api.references import ObjectName
from byok_api.signingrecipe import SigningRecipe

FILES_LIMIT = 10_000
_SUFFIXES = frozenset({".json", ".yaml", ".yml"})


class Severity(StrEnum):
    """How a finding counts."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    source: str
    """File, and line where it is known: `recipes.yaml:12`."""
    subject: str
    """The object, such as `SigningRecipe media/photo`; empty if that is unknown."""
    rule: str
    message: str
    remedy: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.severity.value}: {self.source}: {subject}{self.message}{remedy} [{self.rule}]"


@dataclass(frozen=True)
class Manifests:
    """What was read from some files."""

    files: int
    recipes: Mapping[ObjectName, SigningRecipe]
    keys: Mapping[ObjectName, ByokKey]
    sources: Mapping[tuple[str, ObjectName], str]
    """File of each object, by kind and name."""
    problems: tuple[Problem, ...]
    others: int
    """Objects of kinds that are not ours, not looked at."""

    def source_of(self, item: SigningRecipe | ByokKey) -> str:
        """Name the file that an object was read from."""
        return self.sources[item.kind, item.name]


class _Reader:
    def __init__(self, namespace: str | None) -> None:
        self._namespace = namespace
        self.files = 0
        self.recipes: dict[ObjectName, SigningRecipe] = {}
        self.keys: dict[ObjectName, ByokKey] = {}
        self.sources: dict[tuple[str, ObjectName], str] = {}
        self.problems: list[Problem] = []
        self.others = 0

    def read(self, path: Path) -> None:
        self.files += 1
        source = str(path)
        try:
            documents = load_documents(read_bounded(path, SIZE_LIMIT), source)
        except ManifestError as error:
            self._report(error, "")
            return
        for document in documents:
            if not _is_ours(document):
                self.others += 1
                continue
            try:
                self._take(parse_object(document, source, namespace=self._namespace), source)
            except ManifestError as error:
                self._report(error, _subject(document))

    def _take(self, item: Object, source: str) -> None:
        if not isinstance(item, SigningRecipe | ByokKey):
            return
        key = (item.kind, item.name)
        if key in self.sources:
            message = f"is in {self.sources[key]} already"
            self.problems.append(Problem(source, f"{item.kind} {item.name}", "Duplicate", message, "keep one of them"))
            return
        self.sources[key] = source
        if isinstance(item, SigningRecipe):
            self.recipes[item.name] = item
        else:
            self.keys[item.name] = item

    def _report(self, error: ManifestError, subject: str) -> None:
        self.problems += [_problem(error.source, subject, finding) for finding in error.findings]


def read_manifests(paths: Sequence[Path], *, namespace: str | None) -> Manifests:
    """Read files, and folders with what is below them; Refusal InvalidRequest for a path that is not there.

    `namespace` is meant where an object names none. Objects of others' kinds are counted and left alone.
    """
    reader = _Reader(namespace)
    for path in paths:
        for file in _files(path):
            if reader.files == FILES_LIMIT:
                raise Refusal(Reason.InvalidRequest, f"{path}: over {FILES_LIMIT} manifests; name a smaller folder")
            reader.read(file)
    return Manifests(reader.files, reader.recipes, reader.keys, reader.sources, tuple(reader.problems), reader.others)


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a file, at most one byte more than `limit`; Refusal InvalidRequest if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise Refusal(Reason.InvalidRequest, f"{path}: cannot be read: {error.strerror}") from error


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from (file for file in sorted(path.rglob("*")) if file.suffix in _SUFFIXES and file.is_file())


def _is_ours(document: Document) -> bool:
    version = document.get("apiVersion")
    # Without a version nobody's: parse_object says what is missing.
    return not isinstance(version, str) or version.startswith(f"{API_GROUP}/")


def _subject(document: Document) -> str:
    metadata = document.get("metadata")
    parts = [metadata.get("namespace"), metadata.get("name")] if isinstance(metadata, Mapping) else []
    name = "/".join(part for part in parts if isinstance(part, str))
    kind = document.get("kind")
    return f"{kind} {name}".strip()[:400] if isinstance(kind, str) else name[:400]


def _problem(source: str, subject: str, finding: Finding) -> Problem:
    place = f"{source}:{finding.line}" if finding.line is not None else source
    message = f"{finding.path}: {finding.message}" if finding.path else finding.message
    return Problem(place, subject, finding.rule, message, finding.remedy)
