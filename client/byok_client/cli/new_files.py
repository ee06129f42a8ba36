"""A small file that a command writes: whole or not at all, and known to be writable before anything is asked for."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from byok_api.errors import Reason, Refusal
from byok_client.assets import resolved
from byok_client.storage import unwritable

# File systems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True)
class NewFile:
    """A file that is to appear under a path."""

    path: Path
    draft: Path
    """Beside it, so that it can be put into its place in one step."""
    overwrite: bool

    def write(self, text: str) -> None:
        """Write it and put it in its place; Refusal OutputUnwritable, and then what was there is as it was."""
        try:
            with self.draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self._put()
        except FileExistsError:
            raise _is_there(self.path) from None
        except OSError as error:
            raise unwritable(self.path, error, self.path.parent) from None

    def _put(self) -> None:
        if not self.overwrite:
            try:
                # Unlike renaming, this replaces nothing that has come meanwhile.
                os.link(self.draft, self.path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return
        self.draft.replace(self.path)


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[NewFile]:
    """Make ready to write; Refusal OutputUnwritable if the folder takes no file, or one is there already."""
    path = resolved(path, Reason.OutputUnwritable)
    if path.exists() and not path.is_file():
        raise Refusal(Reason.OutputUnwritable, f"{path} is there and is not a regular file")
    if path.exists() and not overwrite:
        raise _is_there(path)
    draft = path.with_name(f".{secrets.token_hex(8)}.byok-tmp")
    try:
        draft.touch(exist_ok=False)
    except OSError as error:
        raise unwritable(path, error, path.parent) from None
    try:
        yield NewFile(path, draft, overwrite)
    finally:
        draft.unlink(missing_ok=True)


def _is_there(path: Path) -> Refusal:
    return Refusal(Reason.OutputUnwritable, f"{path} is there already: pass --overwrite to replace it")
