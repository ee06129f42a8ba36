"""The shapes of metadata values: each brings what was written into a canonical JSON form, or says what it expected."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

Json = bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A metadata value in canonical form; None is not one: a value that is not given is absent."""

SOURCE_TYPE_BASE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# IPTC NewsCodes, digitalsourcetype, as far as c2pa-rs 0.91 knows them (sdk/src/assertions/actions.rs), without the
# retired minorHumanEdits, softwareImage and digitalArt; and the two that C2PA 2.1 adds.
_IPTC_SOURCE_TYPES = (
    "algorithmicMedia",
    "algorithmicallyEnhanced",
    "composite",
    "compositeCapture",
    "compositeSynthetic",
    "compositeWithTrainedAlgorithmicMedia",
    "computationalCapture",
    "dataDrivenMedia",
    "digitalCapture",
    "digitalCreation",
    "humanEdits",
    "negativeFilm",
    "positiveFilm",
    "print",
    "screenCapture",
    "trainedAlgorithmicMedia",
    "virtualRecording",
)
_C2PA_SOURCE_TYPES = ("empty", "trainedAlgorithmicData")
SOURCE_TYPES: Mapping[str, str] = {
    **{name: SOURCE_TYPE_BASE + name for name in _IPTC_SOURCE_TYPES},
    **{name: f"http://c2pa.org/digitalsourcetype/{name}" for name in _C2PA_SOURCE_TYPES},
}
"""URI of each digital source type by its short name."""

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
)
_EXIF_TAG = re.compile(r"(?:(?:exif|exifEX|tiff):)?[A-Za-z][A-Za-z0-9]{0,63}")
_SOFTWARE = re.compile(r"(?P<name>.+)/(?P<version>v?[0-9][^/ ]*)")
_EXIF_TAGS_LIMIT = 64
_EXIF_LIST_LIMIT = 16
_EXIF_TEXT_LIMIT = 256
_NAMES_LIMIT = 32
_NUMBER_LIMIT = 2**53 - 1  # beyond it JSON readers lose digits (RFC 8259, section 6)


@dataclass(frozen=True)
class Shape:
    """What a value must look like."""

    expected: str
    """Completes the sentence "expected ..."."""
    schema: Mapping[str, object]
    """The same as JSON Schema, as far as that can say it."""
    read: Callable[[object], Json | None]
    """The canonical form, or None for a value of another shape."""

    def parse(self, value: object) -> Json:
        """Bring a value into its canonical form; ValueError names what was expected and the type that was found."""
        parsed = self.read(value)
        if parsed is None:
            raise ValueError(f"is {_described(value)}, expected {self.expected}")
        return parsed


def text(limit: int) -> Shape:
    """Text of up to `limit` characters, not blank, without control characters."""
    return Shape(
        f"text of 1 to {limit} characters without control characters",
        {"type": "string", "minLength": 1, "maxLength": limit},
        lambda value: _text(value, limit),
    )


def names(limit: int) -> Shape:
    """One or several names of up to `limit` characters; the canonical form is a list."""
    one = {"type": "string", "minLength": 1, "maxLength": limit}
    return Shape(
        f"a name of 1 to {limit} characters, or a list of up to {_NAMES_LIMIT} of them",
        {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": _NAMES_LIMIT}]},
        lambda value: _names(value, limit),
    )


def software(value: str) -> tuple[str, str | None]:
    """Split `name/version` as user agents write it (RFC 9110, section 10.1.5); the version is None if there is none."""
    match = _SOFTWARE.fullmatch(value)
    return (match["name"], match["version"]) if match else (value, None)


def _described(value: object) -> str:
    # Never the value itself: metadata may be confidential, and messages end in logs.
    return f"text of {len(value)} characters" if isinstance(value, str) else f"a value of type {type(value).__name__}"


def _text(value: object, limit: int) -> str | None:
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not value.strip():
        return None
    # Cc: a NUL ends the string in the native library; Cs: a lone surrogate has no UTF-8 form.
    return None if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value) else value


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _disclosure(value: object) -> bool | str | None:
    return value if isinstance(value, bool) else _text(value, 1024)


def _names(value: object, limit: int) -> list[Json] | None:
    candidates = value if isinstance(value, (list, tuple)) else [value]
    read = [name for name in (_text(candidate, limit) for candidate in candidates) if name is not None]
    return [*read] if len(read) == len(candidates) and 1 <= len(read) <= _NAMES_LIMIT else None


def _timestamp(value: object) -> str | None:
    if isinstance(value, str):
        if _RFC3339.fullmatch(value) is None:
            return None
        try:
            # Python reads at most six digits of a second's fraction.
            value = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value.upper()))
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return None
    try:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return None


def _sha256_hex(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _SHA256_HEX.fullmatch(value.lower()) else None


def _source_type(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    uri = value.replace("https://", "http://", 1)
    return SOURCE_TYPES.get(value) or (uri if uri in SOURCE_TYPES.values() else None)


def _exif_scalar(value: object) -> str | int | float | None:
    match value:
        case bool():
            return None
        case int() | float() if abs(value) <= _NUMBER_LIMIT:  # which NaN is not either
            return value
        case _:
            return _text(value, _EXIF_TEXT_LIMIT)


def _exif_value(value: object) -> Json | None:
    if not isinstance(value, (list, tuple)):
        return _exif_scalar(value)
    read = [item for item in map(_exif_scalar, value) if item is not None]
    return [*read] if len(read) == len(value) and 1 <= len(read) <= _EXIF_LIST_LIMIT else None


def _exif_tags(value: object) -> dict[str, Json] | None:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= _EXIF_TAGS_LIMIT:
        return None
    tags: dict[str, Json] = {}
    for tag, content in value.items():
        if not isinstance(tag, str) or _EXIF_TAG.fullmatch(tag) is None:
            return None
        read = _exif_value(content)
        if read is None:
            return None
        tags[tag if ":" in tag else f"exif:{tag}"] = read
    return dict(sorted(tags.items())) if len(tags) == len(value) else None


FLAG = Shape("true or false", {"type": "boolean"}, _flag)
DISCLOSURE = Shape(
    "true, false, or the words of the disclosure in 1 to 1024 characters",
    {"oneOf": [{"type": "boolean"}, {"type": "string", "minLength": 1, "maxLength": 1024}]},
    _disclosure,
)
TIMESTAMP = Shape(
    "a time with offset as in RFC 3339, such as 2026-01-31T12:00:00Z",
    {"type": "string", "format": "date-time"},
    _timestamp,
)
SHA256_HEX = Shape(
    "a SHA-256 of 64 hexadecimal digits",
    {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"},
    _sha256_hex,
)
SOURCE_TYPE = Shape(
    "an IPTC digital source type, by its URI or its short name: " + ", ".join(SOURCE_TYPES),
    {"type": "string", "enum": [*SOURCE_TYPES, *SOURCE_TYPES.values()]},
    _source_type,
)
EXIF_TAGS = Shape(
    f"a mapping of up to {_EXIF_TAGS_LIMIT} Exif tags (FNumber, exifEX:LensModel, tiff:Make) to text, numbers or lists",
    {"type": "object", "minProperties": 1, "maxProperties": _EXIF_TAGS_LIMIT},
    _exif_tags,
)
