"""A small file that a command writes: whole or not at all, and known to be writable before anything is asked for."""

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from byok_api.errors import Reason, Refusal
from byok_client.assets import resolved
from byok_client.storage import unwritable

# File systems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True)
class NewFile:
    """A file that is to appear under a path, where nothing speaks against it yet."""

    path: Path
    overwrite: bool

    @classmethod
    def at(cls, path: Path, *, overwrite: bool) -> Self:
        """Look whether it can be written; Refusal OutputUnwritable if the folder takes no file, or one is there."""
        path = resolved(path, Reason.OutputUnwritable)
        try:
            if path.exists() and not path.is_file():
                raise Refusal(Reason.OutputUnwritable, f"{path} is there and is not a regular file")
            if path.exists() and not overwrite:
                raise _is_there(path)
            # At once gone again, so that whatever ends the command meanwhile leaves nothing behind.
            draft = _draft_beside(path)
            draft.touch(exist_ok=False)
            draft.unlink()
        except OSError as error:
            raise unwritable(path, error, path.parent) from None
        return cls(path, overwrite)

    def write(self, text: str) -> None:
        """Write it and put it in its place; Refusal OutputUnwritable, and then what was there is as it was."""
        draft = _draft_beside(self.path)
        try:
            with draft.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self._put(draft)
        except FileExistsError:
            raise _is_there(self.path) from None
        except OSError as error:
            raise unwritable(self.path, error, self.path.parent) from None
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _put(self, draft: Path) -> None:
        if not self.overwrite:
            try:
                # Unlike renaming, this replaces nothing that has come meanwhile.
                os.link(draft, self.path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return
        draft.replace(self.path)


def _draft_beside(path: Path) -> Path:
    # In the same folder, so that it can be put into its place in one step.
    return path.with_name(f".{secrets.token_hex(8)}.byok-tmp")


def _is_there(path: Path) -> Refusal:
    return Refusal(Reason.OutputUnwritable, f"{path} is there already: pass --overwrite to replace it")
