"""The clients of examples/nodejs and examples/go, built as their READMEs say.

Node's packages come from its registry and Go's modules from their proxy, each pinned by a hash; both keep a cache.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testenv.binaries import cache_folder, say_on_stderr
from tests.testenv.go_toolchain import find_go
from tests.testenv.nodejs_toolchain import find_nodejs

EXAMPLES = Path(__file__).parents[2] / "examples"
_GO = (1, 26, 0)
"""What go.mod of examples/go asks for."""


@dataclass(frozen=True)
class Built:
    """A program and what it needs."""

    command: tuple[str, ...]
    home: Path
    """Where it was built: all of it that is not the machine's own is in there."""


def build_nodejs(folder: Path) -> Built:
    """Fetch what byok-sign needs, into a copy of it; TestenvError if there is no Node.js to be had."""
    nodejs = find_nodejs(cache_folder(os.environ), os.environ, say_on_stderr)
    home = folder / "byok-sign"
    shutil.copytree(EXAMPLES / "nodejs", home, ignore=shutil.ignore_patterns("node_modules"))
    _run([*nodejs.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"], home)
    return Built((str(nodejs.node), str(home / "src" / "byok-sign.mjs")), home)


def build_go(folder: Path) -> Built:
    """Build byok-sign as one static file; TestenvError if there is no Go to be had."""
    go = find_go(_GO, cache_folder(os.environ), os.environ, say_on_stderr)
    program = folder / "byok-sign"
    command = [str(go), "build", "-buildvcs=false", "-mod=readonly", "-o", str(program), "./cmd/byok-sign"]
    _run(command, EXAMPLES / "go", {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
    return Built((str(program),), folder)


def needed(program: str) -> str:
    """Find a program; skips the test where it is not."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not on the PATH, so that the example written for it cannot be run")
    return found


def _run(command: list[str], folder: Path, environ: dict[str, str] | None = None) -> None:
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ended.returncode == 0, ended.stdout.decode()
