"""A file as the native library's streams want it."""

import os
from collections.abc import Callable
from typing import BinaryIO, ParamSpec, TypeVar

from byok_client.switch import Switch

_PART = 1024 * 1024
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Watched:
    """Keeps what went wrong with a file, which the native library does not, and ends early when called off."""

    def __init__(self, file: BinaryIO, switch: Switch) -> None:
        self._file = file
        self._switch = switch
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        self._switch.check()
        return self._do(self._file.read, size)

    def readinto(self, buffer: memoryview) -> int:
        """Read a part of what is asked for: the library asks for 256 MiB at a time, and must hear of a Ctrl-C."""
        self._switch.check()
        readinto: Callable[[memoryview], int] = self._file.readinto  # type: ignore[attr-defined] # every buffered file's
        return self._do(readinto, memoryview(buffer)[:_PART])

    def write(self, data: bytes) -> int:
        """Write as the file does."""
        self._switch.check()
        return self._do(self._file.write, data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek as the file does, which may write."""
        return self._do(self._file.seek, offset, whence)

    def tell(self) -> int:
        """Tell as the file does."""
        return self._do(self._file.tell)

    def flush(self) -> None:
        """Flush as the file does."""
        self._do(self._file.flush)

    def _do(self, operation: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return operation(*args, **kwargs)
        except OSError as error:
            self.error = error
            raise
