"""The control group of a node, in every hierarchy of the machine: everything that the kubelet makes goes below it.

Controllers that had to be enabled for the root's groups stay so, as others may count on them by the time a node ends.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.testenv.modules import TestenvError

_MOUNTS = Path("/proc/self/mounts")
_ROOT = Path("/sys/fs/cgroup")
_WANTED = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")


def hierarchies(mounts: str) -> list[Path]:
    """Find where cgroups are mounted, version 1 and 2, in the text of /proc/self/mounts (proc(5))."""
    lines = [line.split(" ") for line in mounts.splitlines()]
    return [Path(fields[1]) for fields in lines if fields[2] in ("cgroup", "cgroup2")]


def paths(name: str) -> list[Path]:
    """Where the group of that name is, or will be; TestenvError if this machine has no cgroups."""
    found = [hierarchy / name for hierarchy in hierarchies(_MOUNTS.read_text())]
    if not found:
        raise TestenvError(f"no control groups are mounted on this machine (see {_MOUNTS}): a node needs them")
    return found


def create(groups: Sequence[Path]) -> None:
    """Make the groups; TestenvError if that is not allowed here."""
    try:
        if (_ROOT / "cgroup.controllers").exists():
            _delegate(_ROOT)
        for group in groups:
            group.mkdir()
            _fill_cpuset(group)
    except OSError as error:
        raise TestenvError(
            f"{error.filename}: {error.strerror}: a node needs a control group of its own, for which this run must be "
            "root of the machine or of a privileged container with a cgroup namespace of its own"
        ) from None


def _delegate(root: Path) -> None:
    # The kubelet refuses a group that lacks a controller which the root has (cgroup v2).
    available = (root / "cgroup.controllers").read_text().split()
    enabled = (root / "cgroup.subtree_control").read_text().split()
    for controller in _WANTED:
        if controller in available and controller not in enabled:
            (root / "cgroup.subtree_control").write_text(f"+{controller}")


def _fill_cpuset(group: Path) -> None:
    # Version 1 lets no process into a group without CPUs, and a new one has none (cpuset(7)).
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and not (group / "cgroup.controllers").exists():
            (group / name).write_text((group.parent / name).read_text())
