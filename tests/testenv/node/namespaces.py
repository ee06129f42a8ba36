"""A network, a mount and a process namespace of a node's own: what runs there cannot outlive their first process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testenv.modules import TestenvError
from tests.testenv.processes import Daemon, Processes

HIDDEN = (Path("/run"), Path("/var/lib"), Path("/var/log"))
"""Folders of the machine that are not seen from within."""
_FIRST = Path(__file__).with_name("namespaces.sh")
_READY_LIMIT = 30.0


@dataclass(frozen=True)
class Namespaces:
    """The namespaces, by the process that waits for their first one."""

    daemon: Daemon
    state: Path

    @classmethod
    def create(cls, state: Path, log: Path, processes: Processes, *, addresses: Sequence[str]) -> "Namespaces":
        """Begin to make them, with `addresses` on the loopback interface; what is written into HIDDEN is in `state`."""
        # The kernel ends the first process with its parent, whom the reaper of a killed run ends.
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        return cls(processes.start("namespaces", [*unshare, str(_FIRST), str(state), *addresses], log), state)

    def wait_until_ready(self) -> None:
        """Wait until programs can be started there; TestenvError says what this machine does not allow."""
        self.daemon.wait_until((self.state / "ready").exists, _READY_LIMIT)

    def networked(self, command: Sequence[str]) -> list[str]:
        """Have a command run in the network namespace only; the process that is started becomes it."""
        return ["nsenter", f"--net={self._of('net')}", "--", *command]

    def inside(self, command: Sequence[str]) -> list[str]:
        """Have a command run in all of them, as a child of the process that is started."""
        return [
            "nsenter",
            f"--net={self._of('net')}",
            f"--mount={self._of('mnt')}",
            f"--pid={self._of('pid_for_children')}",
            "--",
            *command,
        ]

    def end(self, processes: Processes) -> None:
        """End everything that runs in the process namespace, which takes the others along."""
        # It waits for its child and heeds nothing else.
        self.daemon.kill()
        processes.forget(self.daemon)

    def _of(self, kind: str) -> str:
        return f"/proc/{self.daemon.pid}/ns/{kind}"


def refuse_hidden(paths: Sequence[Path]) -> None:
    """TestenvError for a path that is not seen from within."""
    for path in paths:
        for hidden in HIDDEN:
            if path.resolve().is_relative_to(hidden.resolve()):
                raise TestenvError(
                    f"{path} is in {hidden}, which a node hides from its programs: name another folder, by --folder or "
                    "TMPDIR (the node's own) or XDG_CACHE_HOME (its programs)"
                )
