"""Claims that are like one that has passed: under one recipe most are, and those need no second look.

Of a claim that has passed every check, all is kept but four kinds of content: the hashes of its assertions, the UUID of
its manifest, its instanceID and its title. A later claim for the same policy that equals it in all that is kept, and
has in these places what the checks demand of them, would pass every check too, with the same findings:

* a hash: as many bytes. No check looks at more of it, except that an icon's is compared with another;
* the UUID: any. No check looks at more of it, except where a reference repeats it;
* instanceID: as many printable characters of ASCII;
* title: the one encoding of a text that is neither empty nor too long.

So claims with an icon, or with references that repeat the manifest's name, are not kept; nor are very long ones, for
the sake of memory.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self, cast

import cbor2

from byok_signer.guard.claim import (
    REFERENCE_LISTS,
    TEXT_LIMIT,
    TITLE,
    URN_PREFIX,
    UUID,
    CheckedClaim,
    Claim,
    ReferenceFields,
)

SHAPES_KEPT = 8
"""For each policy: of fresh and of edited content, of more than one client."""

_SIZE_KEPT = 4096
"""Bytes; some 35 assertions."""

_UUID = re.compile(UUID.encode())
_UUID_SIZE = 36
_RELATIVE = "self#jumbf=c2pa.assertions/"
_SIGNATURE_PREFIX = f"self#jumbf=/c2pa/{URN_PREFIX}"


@dataclass(frozen=True)
class Shape:
    """A claim that has passed, without the four kinds of content; places are in bytes of a claim without its title."""

    layout: struct.Struct
    """Leaves the other three kinds out."""
    kept: tuple[bytes, ...]
    title: int | None
    """Where the title is missing; None if there was none."""
    instance_id: slice
    uuid: slice
    vendor: str
    """What follows the UUID in the manifest's URN."""
    labels: tuple[str, ...]
    generator: str

    @classmethod
    def of(cls, data: bytes, fields: Mapping[str, object], claim: Claim) -> Self | None:
        """Keep a claim that has passed, `data` being its encoding; None if it is of a kind that is not kept."""
        if (
            len(data) > _SIZE_KEPT
            or claim.icon is not None
            or not all(url.startswith(_RELATIVE) for url in _urls(fields))
        ):
            return None
        if not cast("str", fields["instanceID"]).isascii():
            return None
        places = _Places(fields)
        title, layout = places.title, places.layout()
        whole = data if title is None else data[:title] + data[title + len(data) - layout.size :]
        return cls(
            layout=layout,
            kept=layout.unpack(whole),
            title=title,
            instance_id=places.instance_id,
            uuid=places.uuid,
            vendor=claim.manifest_id[len(URN_PREFIX) + _UUID_SIZE :],
            labels=claim.labels,
            generator=claim.generator,
        )

    def manifest_id(self, data: bytes) -> str | None:
        """Name the manifest of a claim of this shape; None for any other claim."""
        size, title, text = self.layout.size, self.title, None
        if title is not None:
            end = title + len(data) - size
            if end <= title:
                return None
            data, text = data[:title] + data[end:], data[title:end]
        if len(data) != size or self.layout.unpack(data) != self.kept:
            return None
        instance_id, uuid = data[self.instance_id], data[self.uuid]
        if not _is_printable(instance_id) or not _UUID.fullmatch(uuid) or not (text is None or _is_title(text)):
            return None
        return f"{URN_PREFIX}{uuid.decode()}{self.vendor}"


class Familiar:
    """The shapes of claims that have passed one policy, the latest first."""

    def __init__(self) -> None:
        self._shapes: tuple[Shape, ...] = ()

    def find(self, data: bytes) -> CheckedClaim | None:
        """Read an encoded claim that would pass as one before it has; None for any that is to be checked."""
        for shape in self._shapes:
            manifest_id = shape.manifest_id(data)
            if manifest_id is not None:
                return CheckedClaim.of(data, manifest_id, shape.labels, shape.generator)
        return None

    def keep(self, data: bytes, fields: Mapping[str, object], claim: Claim) -> None:
        """Learn a claim that has passed every check; `data` is its encoding, `fields` what that decodes to."""
        shape = Shape.of(data, fields, claim)
        if shape is not None:
            self._shapes = (shape, *self._shapes[: SHAPES_KEPT - 1])


class _Places:
    """Where the four kinds of content stand, by the sizes of what stands before them."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.title: int | None = None
        self.hashes: list[slice] = []
        at = _head_size(len(fields))
        for key, value in fields.items():
            at += _size(key)
            if key == TITLE:
                self.title = at
                continue
            if key in REFERENCE_LISTS:
                at = self._after_references(cast("list[ReferenceFields]", value), at)
                continue
            at += _size(value)
            if key == "instanceID":
                self.instance_id = slice(at - len(cast("str", value)), at)
            if key == "signature":
                uuid = at - len(cast("str", value)) + len(_SIGNATURE_PREFIX)
                self.uuid = slice(uuid, uuid + _UUID_SIZE)
        self._size = at

    def _after_references(self, references: list[ReferenceFields], at: int) -> int:
        at += _head_size(len(references))
        for reference in references:
            at += _head_size(len(reference))
            for key, value in reference.items():
                at += _size(key) + _size(value)
                if isinstance(value, bytes):
                    self.hashes.append(slice(at - len(value), at))
        return at

    def layout(self) -> struct.Struct:
        """Take what is between these places, and skip them; the title is not there."""
        left_out = sorted([self.instance_id, self.uuid, *self.hashes], key=lambda place: place.start)
        formats, at = [], 0
        for place in left_out:
            formats.append(f"{place.start - at}s{place.stop - place.start}x")
            at = place.stop
        return struct.Struct(f"{''.join(formats)}{self._size - at}s")


def _urls(fields: Mapping[str, object]) -> Iterator[str]:
    for name in REFERENCE_LISTS:
        for reference in cast("list[ReferenceFields]", fields.get(name, [])):
            yield reference["url"]


def _size(item: object) -> int:
    """Count the bytes that an item takes, encoded."""
    if isinstance(item, str):
        item = item.encode()
    return _head_size(len(item)) + len(item) if isinstance(item, bytes) else len(cbor2.dumps(item))


def _head_size(argument: int) -> int:
    # RFC 8949, section 3; a claim holds nothing of more than 64 KiB.
    return 1 if argument < 24 else 2 if argument < 256 else 3  # noqa: PLR2004 - as it says there


def _is_title(item: bytes) -> bool:
    # Less two and not less the head: that gives the head's size for every length that an item can have, 25 and 258
    # being none, and those fail below.
    try:
        text = item[_head_size(len(item) - 2) :].decode()
    except UnicodeDecodeError:
        return False
    return 0 < len(text) <= TEXT_LIMIT and cbor2.dumps(text) == item


def _is_printable(text: bytes) -> bool:
    return text.isascii() and text.decode().isprintable()
