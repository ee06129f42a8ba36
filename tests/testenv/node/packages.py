"""Programs of Debian packages that a node needs: found, or named with what installs them, or installed (root in CI)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testenv.go_toolchain import Say
from tests.testenv.modules import TestenvError

PLUGINS = Path("/usr/lib/cni")
"""Where Debian puts the CNI plugins."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs of packages are; a user's own PATH often lacks the sbin folders."""
_APT = Path(__file__).parents[3] / "hack/apt"


@dataclass(frozen=True)
class Package:
    """A package of Debian and Ubuntu, by a program in it."""

    name: str
    program: str


NODE = (
    Package("containernetworking-plugins", str(PLUGINS / "ptp")),
    Package("iproute2", "ip"),
    Package("iptables", "iptables"),
    Package("mount", "mount"),
    Package("runc", "runc"),
    Package("util-linux", "nsenter"),
)


def require(packages: Sequence[Package], environ: Mapping[str, str], say: Say) -> None:
    """Make sure that the programs are there; TestenvError says which packages to install.

    With CI=true, and root, they are installed, as `.ci/run` installs what it lacks.
    """
    missing = _missing(packages)
    if missing and environ.get("CI") == "true" and os.geteuid() == 0 and shutil.which("apt-get", path=PATH):
        say(f"installing {' '.join(missing)}")
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *missing)
        missing = _missing(packages)
    if missing:
        raise TestenvError(
            f"not installed: {', '.join(missing)}; on Debian or Ubuntu: "
            f"apt-get install -y --no-install-recommends {' '.join(missing)}"
        )


def _missing(packages: Sequence[Package]) -> list[str]:
    return [package.name for package in packages if shutil.which(package.program, path=PATH) is None]


def _apt(*arguments: str) -> None:
    command = [str(_APT), *arguments]
    ended = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, "PATH": PATH},
    )
    if ended.returncode != 0:
        raise TestenvError(f"{' '.join(command)} failed; what it said is above")
