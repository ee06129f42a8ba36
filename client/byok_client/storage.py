"""What the operating system says when a file cannot be written, with what to do; and files for copies."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from byok_api.errors import Reason, Refusal

_ADVICE = {
    errno.ENOSPC: "free some there, or use another folder",
    errno.EDQUOT: "free some there, or use another folder",
    errno.EFBIG: "neither its file system nor the process's limit (ulimit -f) may be below the asset's size",
    errno.EROFS: "use another folder",
    errno.EACCES: "make it accessible to this user, or use another folder",
}
# What may befall the files that the native library makes for itself; Rust words it "... (os error 28)".
_OF_STORAGE = frozenset({*_ADVICE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOENT})
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def words(error: OSError, folder: Path) -> str:
    """Say what is wrong, where, and what to do."""
    said = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0)
    return f"{said} in {folder}: {advice}" if advice else said


def unwritable(name: object, error: OSError, folder: Path) -> Refusal:
    """Make the refusal of a file that cannot be written."""
    return Refusal(Reason.OutputUnwritable, f"{name} cannot be written: {words(error, folder)}")


def native_error(message: str) -> OSError | None:
    """Read what befell a file of the native library's own out of its message."""
    found = _OS_ERROR.search(message)
    code = int(found[1]) if found else 0
    return OSError(code, os.strerror(code)) if code in _OF_STORAGE else None


def no_room_for_copy(name: object, error: OSError) -> Refusal:
    """Make the refusal for want of a temporary file."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - where Python's and Rust's temporary files are
    said = words(error, folder)
    return Refusal(
        Reason.OutputUnwritable,
        f"{name}: a temporary copy cannot be written to {folder}: {said} (TMPDIR names the folder)",
    )


@contextmanager
def copy_file(name: object) -> Iterator[BinaryIO]:
    """Make a temporary file without a name; Refusal OutputUnwritable."""
    try:
        file = tempfile.TemporaryFile(prefix="byok-")  # noqa: SIM115 - closed below, whatever that says
    except OSError as error:
        raise no_room_for_copy(name, error) from error
    try:
        yield file
    finally:
        close_quietly(file)


def close_quietly(file: BinaryIO) -> None:
    """Close a file whose content is safe elsewhere or not wanted: closing tries once more to write what is left."""
    with suppress(OSError):
        file.close()
