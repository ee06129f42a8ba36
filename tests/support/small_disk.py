"""A disk that is too small: a tmpfs in a mount namespace of its own, gone with the process that runs in it."""

import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.support.command_line import BYOKCTL, Ended


@cache
def _namespace() -> tuple[str, ...] | None:
    # Root may mount in a namespace of its own; others where user namespaces are allowed.
    for command in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        try:
            tried = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True)
        except FileNotFoundError:
            return None
        if tried.returncode == 0:
            return command
    return None


class SmallDisk:
    """Runs byokctl with a tmpfs mounted on `folder`; what was on it afterwards is in `left`."""

    def __init__(self, folder: Path, left: Path) -> None:
        self.folder = folder
        self.left = left

    def byokctl(self, kib: int, *arguments: object, before: str = "true") -> Ended:
        """Mount `kib` KiB, run the shell command `before`, then byokctl."""
        namespace = _namespace()
        if namespace is None:
            pytest.skip("this user may not mount a tmpfs in a namespace")
        folder, left = shlex.quote(str(self.folder)), shlex.quote(str(self.left))
        script = (
            f"mount -t tmpfs -o size={kib}k none {folder} && {before}; "
            f"{shlex.join([*BYOKCTL, *map(str, arguments)])}; "
            f"status=$?; rm -rf {left}; cp -a {folder} {left}; exit $status"
        )
        ended = subprocess.run([*namespace, "sh", "-c", script], check=False, capture_output=True, text=True)
        assert "Traceback" not in ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def files(self) -> dict[str, bytes]:
        """Read what was on the disk afterwards."""
        return {str(path.relative_to(self.left)): path.read_bytes() for path in self.left.rglob("*") if path.is_file()}
