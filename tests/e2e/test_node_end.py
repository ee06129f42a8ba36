"""However a node of our own ends, nothing of it is left on the machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testenv.binaries import node_binaries
from tests.testenv.node import one_program
from tests.testenv.node.cgroups import paths

CHECKOUT = Path(__file__).parents[2]
STARTED_WITHIN = 90.0
ENDED_WITHIN = 60.0
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: visitor, namespace: default}}
spec:
  containers:
    - {{name: visitor, image: "{image}", imagePullPolicy: Never, args: [serve, ":8080"]}}
"""
# What the kubelet would set for the whole machine, and what Services and routes between pods need.
SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")


def until(condition: Callable[[], bool], within: float, what: str) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.1)


def stat(pid: int) -> list[str]:
    """State, parent and so on of a process (proc(5), /proc/pid/stat), from the third field."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> set[tuple[int, str]]:
    """A process and all below it, each by its number and the time that it was started at."""
    everybody = {int(path.name): stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found, added = set[int](), {pid}
    while added:
        found |= added
        added = {child for child, fields in everybody.items() if fields and int(fields[1]) in found} - found
    return {(child, everybody[child][19]) for child in found if everybody.get(child)}


def is_left(process: tuple[int, str]) -> bool:
    fields = stat(process[0])
    return bool(fields) and fields[0] != "Z" and fields[19] == process[1]


@dataclass(frozen=True)
class Machine:
    """What a node may have changed about the machine."""

    cgroups: frozenset[Path]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    settings: tuple[str, ...]

    @classmethod
    def seen(cls) -> "Machine":
        groups = [group for hierarchy in paths("byok") for group in hierarchy.parent.glob("byok-node-*")]
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        named = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)  # noqa: S607 - as its user does
        return cls(
            frozenset(groups),
            # Others of this machine build images meanwhile.
            frozenset(mount for mount in mounts if "/images/storage/" not in mount),
            frozenset(named.stdout.splitlines()),
            tuple(Path("/proc/sys", name).read_text() for name in SETTINGS),
        )


@dataclass(frozen=True)
class Started:
    """A running `python -m tests.testenv.node`, with a pod."""

    process: subprocess.Popen[bytes]
    folder: Path
    printed: Path
    machine: Machine
    """The machine as it was before."""

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a shell into which the printed exports were pasted."""
        exports = [line for line in self.printed.read_text().splitlines() if line.startswith("export ")]
        script = "\n".join(["set -eu", *exports, command])
        environ = {"PATH": os.defpath, "HOME": str(self.folder.parent)}
        return subprocess.run(["/bin/sh", "-c", script], check=False, capture_output=True, text=True, env=environ)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; it fails at once if the node has ended."""
        until(lambda: self.process.poll() is not None or condition(), STARTED_WITHIN, self.printed.read_text())
        assert self.process.poll() is None, self.printed.read_text()

    def end(self) -> None:
        """Leave nothing to other tests, whatever became of this one."""
        self.process.kill()
        self.process.wait()


def start(folder: Path, *arguments: str) -> Started:
    machine = Machine.seen()
    printed = folder / "printed"
    command = [sys.executable, "-m", "tests.testenv.node", "--folder", str(folder / "node"), *arguments]
    with printed.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=CHECKOUT)
    return Started(process, folder / "node", printed, machine)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    archive = tmp_path / "visitor.tar"
    one_program.write(one_program.VISITOR, node_binaries(os.environ, pytest.fail).visitor, archive)
    return archive


@pytest.fixture
def started(tmp_path: Path, image: Path) -> Iterator[Started]:
    running = start(tmp_path, "--image", str(image))
    try:
        running.wait_until(lambda: "Ctrl-C ends" in running.printed.read_text())
        (tmp_path / "pod.yaml").write_text(POD.format(image=one_program.VISITOR))
        ready = running.shell(
            f"kubectl apply -f {tmp_path}/pod.yaml; kubectl wait --for=condition=Ready pod/visitor --timeout=60s"
        )
        assert ready.returncode == 0, ready.stderr + running.printed.read_text()
        yield running
    finally:
        running.end()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_node_with_pods(started: Started, number: signal.Signals) -> None:
    processes = descendants(started.process.pid)
    assert len(processes) > 12
    assert Machine.seen().cgroups > started.machine.cgroups
    assert Machine.seen().settings == started.machine.settings
    started.process.send_signal(number)
    started.process.wait(ENDED_WITHIN)
    until(lambda: not any(map(is_left, processes)), ENDED_WITHIN, f"{processes} have ended")
    until(lambda: Machine.seen() == started.machine, ENDED_WITHIN, f"{Machine.seen()} is {started.machine}")
    until(lambda: names(started.folder) == ["configuration", "logs"], ENDED_WITHIN, "its state is removed")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.timeout(200)
def test_nothing_is_left_of_a_node_that_could_not_be_started(tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_text("no image")
    failed = start(tmp_path, "--image", str(tmp_path / "broken.tar"))
    try:
        assert failed.process.wait(STARTED_WITHIN) == 1
    finally:
        failed.end()
    printed = failed.printed.read_text()
    assert "tests.testenv.node: " in printed
    assert "broken.tar could not be loaded" in printed
    assert "Traceback" not in printed
    assert Machine.seen() == failed.machine
    assert names(failed.folder) == ["configuration", "logs"]
