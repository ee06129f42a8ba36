"""`make cluster` as its user meets it: what it prints works when it is pasted, and Ctrl-C ends every process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster_requests import until

CHECKOUT = Path(__file__).parents[3]
STARTED_WITHIN = 90.0
ENDED_WITHIN = 60.0
PASTE = "Paste this into another shell:"


@dataclass(frozen=True)
class Started:
    """A running `make cluster`, and the folder that it was given."""

    process: subprocess.Popen[bytes]
    folder: Path
    printed: Path

    def pasted(self, command: str) -> str:
        """Run a command in a shell into which the printed exports were pasted."""
        exports = [line for line in self.printed.read_text().splitlines() if line.startswith("export ")]
        script = "\n".join(["set -eu", *exports, command])
        # Nothing but what is pasted leads to the cluster.
        environ = {"PATH": os.defpath, "HOME": str(self.folder)}
        ended = subprocess.run(
            ["/bin/sh", "-c", script], check=False, capture_output=True, text=True, env=environ, cwd=self.folder
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def suggested(self, start: str) -> str:
        """Find a command that is printed to be tried."""
        return next(line for line in self.printed.read_text().splitlines() if line.startswith(start))


def children(folder: Path) -> list[int]:
    """The processes that have something in the folder on their command line, but for `make cluster` itself."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command and "tests.testenv.cluster" not in command:
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("make-cluster")
    printed = folder / "printed"
    with printed.open("wb") as output:
        command = [sys.executable, "-m", "tests.testenv.cluster", "--folder", str(folder / "cluster")]
        # As a shell starts it in the background, where it inherits that SIGINT is ignored (POSIX, "Async. Lists").
        command = ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=CHECKOUT)
    try:
        until(lambda: PASTE in printed.read_text() or process.poll() is not None, "it runs", within=STARTED_WITHIN)
        until(lambda: "Ctrl-C" in printed.read_text(), "it has printed everything")
        yield Started(process, folder / "cluster", printed)
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(200)
def test_what_is_printed_gives_a_trusted_photo_when_it_is_pasted(started: Started) -> None:
    started.pasted(started.suggested("kubectl apply"))
    wait = "kubectl wait --for=condition=Ready --timeout=60s --all --namespace"
    started.pasted(f"{wait} brand-keys byokkeys && {wait} media signingrecipes")
    assert "Verified" in started.pasted(started.suggested("kubectl get"))
    assert "ES256" in started.pasted(started.suggested("byokctl sign"))
    assert "Trusted" in started.pasted(started.suggested("byokctl verify"))
    assert "Events:" in started.pasted(started.suggested("kubectl describe"))
    assert "may no longer use" in started.pasted(in_checkout(started.suggested("python -m tests.testenv.grant remove")))
    refused = started.suggested("byokctl sign").replace("signed.jpg", "refused.jpg")
    assert "KeyAccessDenied" in started.pasted(f"{refused} 2>&1 || true")
    assert "again" in started.pasted(in_checkout(started.suggested("python -m tests.testenv.grant give")))
    assert "brand" in started.pasted(started.suggested("BYOK_SIGNER_TOKEN_FILE="))


def in_checkout(command: str) -> str:
    return f"cd {CHECKOUT}\n{command}"


@pytest.mark.timeout(200)
def test_sigint_ends_every_process_of_one_in_the_background(started: Started) -> None:
    assert len(children(started.folder)) >= 6
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(ENDED_WITHIN) == 0
    assert children(started.folder) == []
    assert "every process that was started has ended" in started.printed.read_text()
