"""Reading an asset, and writing the signed one so that the target is either the old file or the whole new one."""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from byok_api.errors import Reason, Refusal
from byok_client.media import Media, detect
from byok_client.switch import Switch

SIZE_LIMIT = 16 * 1024**3
"""Bytes of the largest asset that is taken."""

PathOrStream = str | os.PathLike[str] | BinaryIO

_CHUNK = 1024 * 1024
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


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
    def title(self) -> str | None:
        """Its file name as text that UTF-8 can carry; None for a stream."""
        return self.path.name.encode("utf-8", "replace").decode() if self.path else None


@contextmanager
def opened(source: PathOrStream, *, complete: bool = True) -> Iterator[Asset]:
    """Open a path, or copy a binary stream from where it stands; Refusal AssetUnreadable says what is wrong with it.

    `complete` refuses truncated assets as well.
    """
    if isinstance(source, (str, os.PathLike)):
        path = _resolved(source, Reason.AssetUnreadable)
        with _open_file(path) as stream:
            yield Asset(str(source), path, stream, detect(stream, str(source), complete=complete))
        return
    with tempfile.TemporaryFile(prefix="byok-") as copy:
        _copy_stream(source, copy)
        yield Asset("the stream", None, copy, detect(copy, _name_of(source), complete=complete))


def _resolved(path: str | os.PathLike[str], reason: Reason) -> Path:
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
        _unreadable(path, f"cannot be read: {error.strerror}")


def _unreadable(name: object, what: str) -> NoReturn:
    raise Refusal(Reason.AssetUnreadable, f"{name} {what}")


def _copy_stream(source: BinaryIO, copy: BinaryIO) -> None:
    copied = 0
    try:
        while chunk := source.read(_CHUNK):
            copied += len(chunk)
            if copied > SIZE_LIMIT:
                _unreadable("the stream", f"is longer than {SIZE_LIMIT} bytes")
            copy.write(chunk)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # closed, write-only, text, or no stream at all
        _unreadable("the stream", f"cannot be read as bytes: {error}")


@dataclass(frozen=True)
class Target:
    """Where the signed asset goes: a temporary file until it is put in its place."""

    name: str
    file: BinaryIO
    place: Callable[[], Path | None]
    """Put the finished file in its place and say where that is; Refusal OutputUnwritable if that fails."""


def _unwritable(name: object, what: str) -> NoReturn:
    raise Refusal(Reason.OutputUnwritable, f"{name} {what}")


@contextmanager
def target_for(asset: Asset, output: PathOrStream | None, *, overwrite: bool) -> Iterator[Target]:
    """Make ready to write: to a path, to a stream, or (None) in place of the asset.

    Refusal OutputUnwritable for a target that exists and is not the asset itself unless `overwrite`, one that is
    read-only, and a folder that takes no file.
    """
    if output is None:
        if asset.path is None:
            _unwritable("a stream", "cannot be signed in place: pass output")
        path = asset.path
    elif isinstance(output, (str, os.PathLike)):
        path = _resolved(output, Reason.OutputUnwritable)
    else:
        with tempfile.TemporaryFile(prefix="byok-") as file:
            yield Target("the output stream", file, partial(_copy_out, file, output))
        return
    existing = _examined(path, may_exist=overwrite or path == asset.path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.byok-tmp")
    try:
        with _created(temporary, path) as file:
            _take_after(file, existing, asset)
            yield Target(str(path), file, partial(_replace, file, temporary, path))
    finally:
        temporary.unlink(missing_ok=True)


def _created(temporary: Path, path: Path) -> BinaryIO:
    try:
        return temporary.open("x+b")
    except OSError as error:
        _unwritable(path, f"cannot be written: {error.strerror}")


def _take_after(file: BinaryIO, existing: os.stat_result | None, asset: Asset) -> None:
    # At once, so that what is signed from a private file is never readable by others, not even meanwhile.
    descriptor = file.fileno()
    if existing is not None:
        with suppress(PermissionError):  # only root may give files away
            os.fchown(descriptor, existing.st_uid, existing.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(existing.st_mode))
    elif asset.path is not None:
        os.fchmod(descriptor, stat.S_IMODE(os.fstat(asset.stream.fileno()).st_mode))


def _replace(file: BinaryIO, temporary: Path, path: Path) -> Path:
    try:
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        _unwritable(path, f"cannot be written: {error.strerror}")
    return path


def _copy_out(file: BinaryIO, stream: BinaryIO) -> None:
    try:
        file.seek(0)
        shutil.copyfileobj(file, stream, _CHUNK)
        stream.flush()
    except (OSError, ValueError, TypeError, AttributeError) as error:  # closed, read-only, text, or no stream at all
        _unwritable("the output stream", f"does not take bytes: {error}")


def _examined(path: Path, *, may_exist: bool) -> os.stat_result | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        _unwritable(path, f"cannot be written: {error.strerror}")
    if not stat.S_ISREG(facts.st_mode):
        _unwritable(path, "is there and is not a regular file")
    if not may_exist:
        _unwritable(path, "is there already: pass overwrite to replace it")
    # Replacing a file only takes a writable folder, but whoever made it read-only meant it to stay.
    if not facts.st_mode & _WRITABLE or not os.access(path, os.W_OK):
        _unwritable(path, "is read-only")
    return facts


class Watched:
    """A file as c2pa's streams want it; keeps what went wrong, which the native library does not, and ends early."""

    def __init__(self, file: BinaryIO, switch: Switch) -> None:
        self._file = file
        self._switch = switch
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        self._switch.check()
        return self._file.read(size)

    def write(self, data: bytes) -> int:
        """Write as the file does; keeps the error if that fails."""
        self._switch.check()
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek as the file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Tell as the file does."""
        return self._file.tell()

    def flush(self) -> None:
        """Flush as the file does; keeps the error if that fails."""
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise
