"""The clients of examples/nodejs and examples/go as programs, and a whole system for them to call.

Node's packages come from its registry and Go's modules from their proxy, each pinned by a hash; both keep a cache.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from byok_sandbox.system import Sandbox, running_sandbox
from tests.examples.programs import Program

EXAMPLES = Path(__file__).parents[2] / "examples"
LANGUAGES = ("nodejs", "go")


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), print) as running:
        yield running


@pytest.fixture(scope="session", params=LANGUAGES)
def byok_sign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Build `byok-sign` in one of the languages."""
    build = {"nodejs": in_nodejs, "go": in_go}[request.param]
    return build(tmp_path_factory.mktemp(request.param))


def in_nodejs(folder: Path) -> Program:
    node, npm = needed("node"), needed("npm")
    home = folder / "byok-sign"
    shutil.copytree(EXAMPLES / "nodejs", home, ignore=shutil.ignore_patterns("node_modules"))
    run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"], home)
    return Program((node, str(home / "src" / "byok-sign.mjs")))


def in_go(folder: Path) -> Program:
    program = folder / "byok-sign"
    run([needed("go"), "build", "-buildvcs=false", "-mod=readonly", "-o", str(program), "./cmd/byok-sign"], GO_MODULE)
    return Program((str(program),))


GO_MODULE = EXAMPLES / "go"


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not on the PATH, so that the example written for it cannot be run")
    return found


def run(command: list[str], folder: Path) -> None:
    ended = subprocess.run(
        command, cwd=folder, env=dict(os.environ), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert ended.returncode == 0, ended.stdout.decode()
