"""Opening what is to be signed or verified: a file, or a stream of which a copy is made."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from byok_api.errors import Reason, Refusal
from byok_client.media import Media, detect
from byok_client.storage import copy_file, no_room_for_copy, words

SIZE_LIMIT = 16 * 1024**3
"""Bytes of the largest asset that is taken."""

PathOrStream = str | os.PathLike[str] | BinaryIO

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Asset:
    """An asset opened for reading."""

    name: str
    """What messages call it."""
    path: Path | None
    """Where it is, symbolic links resolved; None for a stream."""
    stream: BinaryIO
    media: Media

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self.stream.fileno()).st_size

    @property
    def title(self) -> str | None:
        """Its file name as text that UTF-8 can carry; None for a stream."""
        return self.path.name.encode("utf-8", "replace").decode() if self.path else None


@contextmanager
def opened(source: PathOrStream, *, complete: bool = True) -> Iterator[Asset]:
    """Open a path, or copy a binary stream from where it stands; Refusal AssetUnreadable says what is wrong with it.

    `complete` refuses truncated assets as well.
    """
    if isinstance(source, (str, os.PathLike)):
        path = resolved(source, Reason.AssetUnreadable)
        with _open_file(path) as stream:
            yield Asset(str(source), path, stream, _media(stream, str(source), complete=complete))
        return
    with copy_file("the stream") as copy:
        _copy_stream(source, copy)
        yield Asset("the stream", None, copy, _media(copy, _name_of(source), complete=complete))


def _media(stream: BinaryIO, name: str, *, complete: bool) -> Media:
    try:
        return detect(stream, name, complete=complete)
    except OSError as error:
        _unreadable(name, f"cannot be read: {error.strerror}")


def resolved(path: str | os.PathLike[str], reason: Reason) -> Path:
    """Follow symbolic links; Refusal with `reason` for what is no path."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL in it
        raise Refusal(reason, f"{path!r} is not a path: {error}") from error


def _name_of(stream: BinaryIO) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else "the stream"


def _open_file(path: Path) -> BinaryIO:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            _unreadable(path, "is not a regular file")
        if facts.st_size > SIZE_LIMIT:
            _unreadable(path, f"is {facts.st_size} bytes long, the limit is {SIZE_LIMIT}")
        return path.open("rb")
    except OSError as error:
        _unreadable(path, f"cannot be read: {words(error, path.parent)}")


def _unreadable(name: object, what: str) -> NoReturn:
    raise Refusal(Reason.AssetUnreadable, f"{name} {what}")


def _copy_stream(source: BinaryIO, copy: BinaryIO) -> None:
    copied = 0
    while chunk := _next_of(source):
        copied += len(chunk)
        if copied > SIZE_LIMIT:
            _unreadable("the stream", f"is longer than {SIZE_LIMIT} bytes")
        try:
            copy.write(chunk)
            copy.flush()
        except OSError as error:
            raise no_room_for_copy("the stream", error) from error


def _next_of(source: BinaryIO) -> bytes:
    try:
        return memoryview(source.read(_CHUNK)).tobytes()
    except (OSError, ValueError, TypeError, AttributeError) as error:  # closed, write-only, text, or no stream at all
        _unreadable("the stream", f"cannot be read as bytes: {error}")
