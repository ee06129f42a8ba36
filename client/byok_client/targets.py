"""Writing the signed asset so that the target is either as it was or the whole new file, whatever ends the process."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from byok_api.errors import Reason, Refusal
from byok_client.assets import Asset, PathOrStream, resolved
from byok_client.storage import close_quietly, copy_file, no_room_for_copy, unwritable

_CHUNK = 1024 * 1024
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OPEN_FILES = Path("/proc/self/fd")
# EISDIR: a kernel that does not know O_TMPFILE; the others: a file system that does not.
_NO_NAMELESS_FILES = frozenset({errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True)
class Target:
    """Where the signed asset goes: a file of its own until it is put in its place."""

    name: str
    folder: Path | None
    """Where the file is; None for a temporary copy."""
    file: BinaryIO
    place: Callable[[], Path | None]
    """Put the finished file in its place and say where that is; Refusal OutputUnwritable if that fails."""

    def unwritable(self, error: OSError) -> Refusal:
        """Make the refusal for an error in writing to `file`."""
        return no_room_for_copy(self.name, error) if self.folder is None else unwritable(self.name, error, self.folder)

    def restart(self) -> None:
        """Begin with an empty file again; Refusal OutputUnwritable."""
        try:
            self.file.seek(0)
            self.file.truncate()
        except OSError as error:
            raise self.unwritable(error) from error


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
        path = resolved(output, Reason.OutputUnwritable)
    else:
        with copy_file("the output stream") as file:
            yield Target("the output stream", None, file, partial(_copy_out, file, output))
        return
    may_exist = overwrite or path == asset.path
    existing = _examined(path, may_exist=may_exist)
    with _draft_beside(path) as draft:
        _take_after(draft.file, path, existing, asset)
        yield Target(str(path), path.parent, draft.file, partial(_put, draft, path, may_exist=may_exist))


@dataclass(frozen=True)
class _Draft:
    """A file in the target's folder, where it can be put into its place in one step."""

    file: BinaryIO
    name: Path
    has_name: bool
    """Whether it is there under its name from the beginning; not all file systems can do without.

    SIGKILL leaves behind what has a name: all others have one only for the moment in which they replace another file.
    """


@contextmanager
def _draft_beside(path: Path) -> Iterator[_Draft]:
    name = path.with_name(f".{secrets.token_hex(8)}.byok-tmp")
    try:
        nameless = _nameless(path.parent)
        file = nameless or name.open("x+b")
    except OSError as error:
        raise unwritable(path, error, path.parent) from error
    try:
        yield _Draft(file, name, has_name=nameless is None)
    finally:
        close_quietly(file)
        name.unlink(missing_ok=True)


def _nameless(folder: Path) -> BinaryIO | None:
    if not _OPEN_FILES.exists():
        return None
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_NAMELESS_FILES:
            return None
        raise
    return open(descriptor, "w+b")  # noqa: PTH123 - a descriptor


def _take_after(file: BinaryIO, path: Path, existing: os.stat_result | None, asset: Asset) -> None:
    # At once, so that what is signed from a private file is never readable by others, not even meanwhile.
    descriptor = file.fileno()
    try:
        if existing is not None:
            with suppress(PermissionError):  # only root may give files away
                os.fchown(descriptor, existing.st_uid, existing.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(existing.st_mode))
        elif asset.path is not None:
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(asset.stream.fileno()).st_mode))
    except OSError as error:  # a quota of the owner's, or a file system without modes
        raise unwritable(path, error, path.parent) from error


def _put(draft: _Draft, path: Path, *, may_exist: bool) -> Path:
    try:
        draft.file.flush()
        os.fsync(draft.file.fileno())
        if may_exist:
            _name(draft, draft.name)
            draft.name.replace(path)
        else:
            _name(draft, path)
    except FileExistsError:
        _unwritable(path, "is there already: pass overwrite to replace it")
    except OSError as error:
        raise unwritable(path, error, path.parent) from error
    return path


def _name(draft: _Draft, path: Path) -> None:
    """Give the draft a name; FileExistsError, for unlike renaming this never replaces a file of another's."""
    if not draft.has_name:
        # open(2), O_TMPFILE. Python calls linkat only if given a folder's descriptor, of which an absolute path makes
        # no use.
        os.link(f"{_OPEN_FILES}/{draft.file.fileno()}", path, src_dir_fd=draft.file.fileno(), follow_symlinks=True)
    elif path != draft.name:
        try:
            os.link(draft.name, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            draft.name.replace(path)


def _copy_out(file: BinaryIO, stream: BinaryIO) -> None:
    try:
        file.seek(0)  # which writes what is left
    except OSError as error:
        raise no_room_for_copy("the output stream", error) from error
    try:
        while chunk := file.read(_CHUNK):
            stream.write(chunk)
        stream.flush()
    except (OSError, ValueError, TypeError, AttributeError) as error:  # closed, read-only, text, or no stream at all
        _unwritable("the output stream", f"does not take bytes: {error}")


def _examined(path: Path, *, may_exist: bool) -> os.stat_result | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error, path.parent) from error
    if not stat.S_ISREG(facts.st_mode):
        _unwritable(path, "is there and is not a regular file")
    if not may_exist:
        _unwritable(path, "is there already: pass overwrite to replace it")
    # Replacing a file only takes a writable folder, but whoever made it read-only meant it to stay.
    if not facts.st_mode & _WRITABLE or not os.access(path, os.W_OK):
        _unwritable(path, "is read-only")
    return facts
