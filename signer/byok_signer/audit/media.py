"""What audit records are written to: a file, locked, its end read back and checked; or a stream.

A renamed file (log rotation) is written on until the signer restarts. One that was deleted, or that somebody else wrote
to or truncated, is an error at the next commit.
"""

import errno
import fcntl
import os
import select
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from byok_api.audit import LINE_LIMIT, SEALED_LIMIT, Head, RecordError, TornLine, looks_torn, read_record
from byok_api.errors import Reason, Refusal

_WINDOW = (SEALED_LIMIT + 1) * LINE_LIMIT + 1
"""Bytes that hold the last record and all the torn lines that may follow it."""
_LOCKED_RETRY_AFTER = 0.25
"""Seconds; a signer that is about to end lets go of its file."""


class Medium(Protocol):
    """Where lines end up."""

    def commit(self, data: bytes) -> None:
        """Write all of `data` and make it durable; OSError if that fails."""

    def close(self) -> None:
        """Give the medium back."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How a file ends."""

    head: Head | None
    """The last record; None if there is none yet."""
    torn: tuple[TornLine, ...]
    """Lines below it that a crash cut off."""
    terminated: bool
    """Whether the next line can begin right away."""


def read_head(path: Path) -> Tail:
    """Read a file's end and check its last record alone; Refusal(AuditUnavailable) if the end is damaged.

    Costs the same whatever the file's size; that the chain above is intact is for `verify_chain` to say.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from error
    try:
        return _read_tail(descriptor, path)
    finally:
        os.close(descriptor)


def _refusal(path: Path, message: str, *, retry_after: float | None = None) -> Refusal:
    return Refusal(Reason.AuditUnavailable, f"the audit file {path} {message}", retry_after=retry_after)


def _damaged(path: Path, finding: str) -> Refusal:
    remedy = "keep it as evidence, look at it with 'byokctl audit verify', move it away and start again"
    return _refusal(path, f"is damaged at its end ({finding}): {remedy}")


def _read_tail(descriptor: int, path: Path) -> Tail:
    size = os.fstat(descriptor).st_size
    start = max(0, size - _WINDOW)
    end = os.pread(descriptor, _WINDOW, start)
    if len(end) != size - start:  # half an end would pass for a torn one
        raise _refusal(path, "is being written by another process, or its disk answers only in part")
    lines = end.split(b"\n")
    last = lines.pop()
    if last:
        lines.append(last)
    if start:
        del lines[0]  # it may have begun before the window
    torn: list[TornLine] = []
    for content in reversed(lines):
        try:
            return Tail(read_record(content).head, tuple(reversed(torn)), terminated=not last)
        except RecordError as error:
            if len(torn) == SEALED_LIMIT or not looks_torn(content):
                raise _damaged(path, f"{error.fault}: {error}") from error
            torn.append(TornLine.of(content))
    if start:
        raise _damaged(path, f"no record in its last {_WINDOW} bytes")
    return Tail(None, tuple(reversed(torn)), terminated=not last)


class AuditFile:
    """An audit file held by this process alone."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, with mode 0600; Refusal(AuditUnavailable) says which of its rules is broken.

        Only one for a file that another process holds says when to try again.
        """
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refusal(path, f"cannot be opened for writing: {error.strerror}") from error
        try:
            self._lock(path)
            self.tail = _read_tail(self._descriptor, path)
            self._size = os.fstat(self._descriptor).st_size
            _sync_folder(path.parent)
        except OSError as error:
            self.close()
            raise _refusal(path, f"cannot be used: {error.strerror}") from error
        except Refusal:
            self.close()
            raise

    def _lock(self, path: Path) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise _refusal(path, "is not a regular file: name a file, or 'stdout'")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "is locked by another signer: give each signer a file of its own"
            raise _refusal(path, message, retry_after=_LOCKED_RETRY_AFTER) from error

    def commit(self, data: bytes) -> None:
        """Append all of `data` and sync it; OSError if that fails or the file is no longer as it was left."""
        state = os.fstat(self._descriptor)
        if state.st_nlink == 0:
            raise OSError(errno.ENOENT, "it was deleted while in use")
        if state.st_size != self._size:
            raise OSError(errno.EBUSY, "another process has changed it")
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fdatasync(self._descriptor)
        self._size += len(data)

    def close(self) -> None:
        """Close the file, which gives the lock back."""
        os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    # A new file's name is durable only once its folder is (fsync(2)).
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AuditStream:
    """A stream that others own, such as standard output."""

    def __init__(self, stream: BinaryIO) -> None:
        stream.flush()
        # Below the buffer, so that what was written has left this process.
        self._raw: BinaryIO = getattr(stream, "raw", stream)

    def commit(self, data: bytes) -> None:
        """Write all of `data`, waiting where the reader is slow; OSError if that fails."""
        rest = memoryview(data)
        while rest:
            try:
                # None from a stream that does not block and is full (io.RawIOBase.write).
                written: int | None = self._raw.write(rest)
            except ValueError as error:
                raise OSError(errno.EBADF, "it is closed") from error
            if written is None:
                self._wait()
            else:
                rest = rest[written:]

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._raw.fileno(), select.POLLOUT)
        poll.poll()

    def close(self) -> None:
        """Leave the stream open: it is not the sink's."""
