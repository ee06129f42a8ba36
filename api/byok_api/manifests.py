"""Reading manifests: YAML in, plain JSON values out, whoever wrote it.

Only what kubectl and JSON agree on is read: no aliases, tags or merge keys, no duplicate or non-text keys, no
infinities; dates are text. All else is refused by name, with file and line.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from byok_api.errors import Reason, Refusal

SIZE_LIMIT = 1024 * 1024
DOCUMENT_LIMIT = 1000
DEPTH_LIMIT = 32
PART_LIMIT = 100_000
"""Keys and values in a file; without it a file within the size limit could still take hundreds of megabytes."""
NUMBER_LIMIT = 2**63
_QUOTE_LIMIT = 60
_PATH_LIMIT = 80
_SHOWN_FINDINGS = 20

Path = tuple[str | int, ...]
Fault = tuple[Path, str, str, str]
"""Where, then rule, message and remedy of a Finding."""

# libyaml is some thirty times faster and emits the same events.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Final = yaml.SafeLoader("")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_CORE_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a manifest."""

    path: str
    """Where, such as `spec.c2pa.assertions[2]`; empty for the whole document."""
    rule: str
    """Name of the rule that is broken."""
    message: str
    """What was found."""
    remedy: str
    """What to do about it."""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{place}{self.message} ({self.remedy})"


class ManifestError(Refusal):
    """A manifest was refused; `findings` lists everything that is wrong with it."""

    def __init__(self, reason: Reason, source: str, subject: str, findings: tuple[Finding, ...]) -> None:
        line = findings[0].line
        place = f"{source}:{line}" if line is not None else source
        shown = [str(finding) for finding in findings[:_SHOWN_FINDINGS]]
        if len(findings) > _SHOWN_FINDINGS:
            shown.append(f"and {len(findings) - _SHOWN_FINDINGS} more")
        message = f"{place}: {subject}{'; '.join(shown)}"
        # Names and keys are quoted as they were found, and may hold line ends, escape sequences or lone surrogates.
        super().__init__(reason, "".join(character if character.isprintable() else "?" for character in message))
        self.source = source
        self.findings = findings


class Document(dict[str, Any]):
    """One YAML document, a mapping; remembers on which line each of its parts stands."""

    def __init__(self, content: Mapping[str, Any], lines: Mapping[Path, int]) -> None:
        super().__init__(content)
        self.lines = lines

    def line_of(self, path: Path) -> int | None:
        """Line (from 1) of the part at `path`, or of the nearest part around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def load_documents(data: bytes, source: str) -> list[Document]:
    """Read a YAML (or JSON) file of manifests; empty documents are left out.

    `source` is the name by which messages call the file. Raises ManifestError for what is not plain YAML, over 1 MiB,
    over 1,000 documents or 100,000 keys and values, or deeper than 32 levels.
    """
    if len(data) > SIZE_LIMIT:
        raise _refused(source, "SizeLimit", f"is {len(data)} bytes", f"keep files within {SIZE_LIMIT} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(source, "Utf8", "is not UTF-8", "save it as UTF-8", line) from error
    try:
        return list(_documents(text, source))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be parsed"
        raise _refused(
            source, "Yaml", f"is not YAML: {problem}", "correct the syntax", mark.line + 1 if mark else None
        ) from error
    except yaml.YAMLError as error:
        raise _refused(source, "Yaml", "is not YAML: it holds control characters", "remove them") from error


def load_mapping(data: bytes, source: str, faults: Callable[[Mapping[str, object]], Iterable[Fault]]) -> Document:
    """Read YAML of one document; none is taken for an empty one. ManifestError lists all that `faults` finds."""
    documents = load_documents(data, source)
    if len(documents) > 1:
        raise _refused(source, "OneDocument", "holds several documents", "keep one of them")
    document = documents[0] if documents else Document({}, {})
    findings = tuple(
        Finding(".".join(str(part) for part in path)[:_PATH_LIMIT], rule, message, remedy, document.line_of(path))
        for path, rule, message, remedy in faults(document)
    )
    if findings:
        raise ManifestError(Reason.InvalidRequest, source, "", findings)
    return document


def _refused(source: str, rule: str, message: str, remedy: str, line: int | None = None) -> ManifestError:
    return ManifestError(Reason.InvalidRequest, source, "", (Finding("", rule, message, remedy, line),))


@dataclass
class _Open:
    """A mapping or sequence that is still being read."""

    path: Path
    line: int
    mapping: dict[str, Any] | None
    sequence: list[Any] = field(default_factory=list)
    key: str | None = None

    @property
    def next_path(self) -> Path:
        return (*self.path, len(self.sequence) if self.mapping is None else self.key or "")

    def add(self, value: object) -> None:
        if self.mapping is None:
            self.sequence.append(value)
        elif self.key is not None:
            self.mapping[self.key] = value
            self.key = None

    @property
    def value(self) -> Any:  # noqa: ANN401 - a YAML value
        return self.sequence if self.mapping is None else self.mapping


class _Builder:
    """Builds one document from parser events, without recursion."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._open: list[_Open] = []
        self.lines: dict[Path, int] = {}
        self.root: Any = None

    def take(self, event: yaml.Event) -> None:
        line = _line(event)
        match event:
            case yaml.AliasEvent():
                raise self._refused("NoAliases", "uses an alias (*)", "write the content out", line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._put(self._open.pop().value)
            case yaml.ScalarEvent():
                self._scalar(event, line)

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        self._check_tag(event.tag, line)
        if len(self._open) >= DEPTH_LIMIT:
            raise self._refused("DepthLimit", f"is nested deeper than {DEPTH_LIMIT} levels", "flatten it", line)
        self._check_key_position(line)
        path = self._open[-1].next_path if self._open else ()
        self.lines.setdefault(path, line)
        self._open.append(_Open(path, line, {} if isinstance(event, yaml.MappingStartEvent) else None))

    def _check_key_position(self, line: int) -> None:
        if self._open and self._open[-1].mapping is not None and self._open[-1].key is None:
            raise self._refused("TextKeys", "has a key that is not text", "quote it", line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._check_tag(event.tag, line)
        value = self._value(event, line)
        top = self._open[-1] if self._open else None
        if top is None or top.mapping is None or top.key is not None:
            self.lines.setdefault(top.next_path if top else (), line)
            self._put(value)
            return
        if not isinstance(value, str):
            raise self._refused("TextKeys", f"has the key {event.value[:_QUOTE_LIMIT]!r}, not text", "quote it", line)
        if value == "<<":
            raise self._refused("NoMergeKeys", "uses a merge key (<<)", "write the content out", line)
        if value in top.mapping:
            raise self._refused(
                "NoDuplicateKeys", f"has the key {value[:_QUOTE_LIMIT]!r} twice", "keep one of them", line
            )
        top.key = value
        self.lines[top.next_path] = line

    def _put(self, value: object) -> None:
        if self._open:
            self._open[-1].add(value)
        else:
            self.root = value

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag is not None and tag != "!" and tag not in _CORE_TAGS:
            raise self._refused("NoTags", f"uses the tag {tag[:_QUOTE_LIMIT]!r}", "remove it", line)

    def _value(self, event: yaml.ScalarEvent, line: int) -> bool | float | str | None:
        tag = event.tag if event.tag not in (None, "!") else None
        if tag is None:
            tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]  # types-pyyaml leaves it untyped
        text = event.value
        try:
            match str(tag).removeprefix("tag:yaml.org,2002:"):
                case "null":
                    return None
                case "bool":
                    return bool(yaml.SafeLoader.bool_values[text.lower()])
                case "int":
                    return self._integer(text)
                case "float":
                    return self._float(text)
                case _:
                    return text
        except (KeyError, ValueError, OverflowError) as error:
            raise self._refused(
                "PlainNumbers",
                f"has the value {text[:_QUOTE_LIMIT]!r}, which readers of YAML understand differently or not at all",
                "write a plain decimal number, true or false, or quote it",
                line,
            ) from error

    @staticmethod
    def _integer(text: str) -> int:
        # Octal, sexagesimal and underscored integers mean different things in YAML 1.1 and 1.2.
        if _INTEGER.fullmatch(text) is None or abs(int(text)) >= NUMBER_LIMIT:
            raise ValueError(text)
        return int(text)

    @staticmethod
    def _float(text: str) -> float:
        number = float(text.replace("_", "?"))
        if not math.isfinite(number):
            raise ValueError(text)
        return number

    def _refused(self, rule: str, message: str, remedy: str, line: int) -> ManifestError:
        return _refused(self._source, rule, message, remedy, line)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _documents(text: str, source: str) -> Iterator[Document]:
    count = 0
    builder = _Builder(source)
    for parts, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if parts > PART_LIMIT:
            raise _refused(source, "PartLimit", f"holds over {PART_LIMIT} parts", "split the file", _line(event))
        match event:
            case yaml.DocumentStartEvent():
                count += 1
                builder = _Builder(source)
                if count > DOCUMENT_LIMIT:
                    found = f"holds over {DOCUMENT_LIMIT} documents"
                    raise _refused(source, "DocumentLimit", found, "split the file", _line(event))
            case yaml.DocumentEndEvent():
                if builder.root is None:
                    continue
                if not isinstance(builder.root, dict):
                    found = "holds a document that is no mapping"
                    raise _refused(source, "Mapping", found, "write an object", builder.lines[()])
                yield Document(builder.root, builder.lines)
            case _:
                builder.take(event)
