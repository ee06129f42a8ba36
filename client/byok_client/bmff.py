"""The boxes of MP4, MOV, HEIF and AVIF (ISO/IEC 14496-12), as far as signing depends on them."""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from sys import byteorder
from typing import BinaryIO

_HEADER = 8
_LARGE_HEADER = 16
_CHUNK_OFFSETS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco")
_FULL_BOX = 4  # version and flags
_ENTRY = 4
_ENTRIES_AT_ONCE = 65_536


@dataclass(frozen=True)
class _Box:
    kind: bytes
    body: int
    """Where its content begins."""
    end: int


def is_complete(stream: BinaryIO, size: int) -> bool:
    """Say whether the top-level boxes fill the stream, and one of them says what is in it."""
    end, kinds = 0, set()
    for box in _boxes(stream, 0, size):
        end = box.end
        kinds.add(box.kind)
    return end == size and bool(kinds & {b"moov", b"meta", b"moof"})


def last_short_chunk_offset(stream: BinaryIO) -> int:
    """Find the highest place in the file that a 32-bit chunk offset (8.7.5, stco) points to; 0 if there are none."""
    size = stream.seek(0, os.SEEK_END)
    highest = 0
    for table in _within(stream, _Box(b"", 0, size), _CHUNK_OFFSETS):
        first = table.body + _FULL_BOX + _ENTRY
        stream.seek(first - _ENTRY)
        count = min(int.from_bytes(stream.read(_ENTRY), "big"), (table.end - first) // _ENTRY)
        for begun in range(0, count, _ENTRIES_AT_ONCE):
            entries = array("I")
            entries.frombytes(stream.read(_ENTRY * min(count - begun, _ENTRIES_AT_ONCE)))
            if byteorder == "little":
                entries.byteswap()
            highest = max(highest, *entries)
    return highest


def _within(stream: BinaryIO, outer: _Box, path: Sequence[bytes]) -> Iterator[_Box]:
    if not path:
        yield outer
        return
    for box in _boxes(stream, outer.body, outer.end):
        if box.kind == path[0]:
            yield from _within(stream, box, path[1:])


def _boxes(stream: BinaryIO, position: int, end: int) -> Iterator[_Box]:
    # Size, type, and a 64-bit size if size is 1; size 0 reaches to the end (4.2). Ends at what is no box.
    while position < end:
        stream.seek(position)
        header = stream.read(_LARGE_HEADER)
        length, body = int.from_bytes(header[:4], "big"), position + _HEADER
        if length == 1:
            length, body = int.from_bytes(header[8:16], "big"), position + _LARGE_HEADER
        if length == 0:
            length = end - position
        if length < _HEADER:
            return
        yield _Box(header[4:8], body, position + length)
        position += length
