"""A folder that nobody may look into, for tests that may be root's, whom no permission stops."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def closed_folder() -> Iterator[Path]:
    """Make a folder, and be somebody who cannot search or list it until the block ends.

    What the block calls must be imported before: a nobody may not be able to read the interpreter's modules.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "file").touch()
        folder.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.setresuid(_NOBODY, _NOBODY, 0)
        try:
            yield folder
        finally:
            if is_root:
                os.setresuid(0, 0, 0)
            folder.chmod(0o700)
