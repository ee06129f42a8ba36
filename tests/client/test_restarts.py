"""The real signer stopped, killed, and started again with all rotated that can be, while `byokctl sign` runs."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from byok_client import Verdict
from byok_client.verification import verify_asset
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.processes import Child
from byok_sandbox.system import Sandbox, running_sandbox
from tests.support.command_line import BYOKCTL
from tests.support.media import MEDIA
from tests.testenv.ports import LOOPBACK, free_ports

FILES = 90
JOBS = 8
PATIENCE = 110
PHOTO = MEDIA["landscape.jpg"].path.read_bytes()

pytestmark = pytest.mark.timeout(300)  # a sandbox, and its signer thrice more


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), print) as running:
        yield running


class Restartable:
    """The sandbox's signer, which can be ended and started again on the same address.

    That is not the sandbox's, which the kernel chose: while nobody listens there it could give the port to others.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._child = next(child for child in sandbox.children if child.name == "signer")
        process = Path("/proc", str(self._child.pid))
        _python, _m, *arguments = process.joinpath("cmdline").read_text().rstrip("\0").split("\0")
        self.address = f"{LOOPBACK}:{free_ports(1)[0]}"
        listen = f"--listen={self.address}"
        self._arguments = [listen if word.startswith("--listen=") else word for word in arguments]
        environment = (line.partition("=") for line in process.joinpath("environ").read_text().split("\0"))
        self._environment = {name: value for name, _, value in environment if name.startswith("AWS_")}
        self._starts = 0
        self.end(signal.SIGTERM)
        self.start()

    def end(self, number: int) -> None:
        os.kill(self._child.pid, number)
        deadline = time.monotonic() + PATIENCE
        while self._child.is_running():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def start(self) -> None:
        self._starts += 1
        logs = self._sandbox.folder / "logs"
        self._child = Child(f"signer-{self._starts}", logs, self._arguments, self._environment)

    def stop(self) -> None:
        self._child.stop()


@pytest.fixture
def signer(sandbox: Sandbox) -> Iterator[Restartable]:
    restartable = Restartable(sandbox)
    yield restartable
    restartable.stop()


def rotate(sandbox: Sandbox) -> None:
    """Change the job's token, and the signer's TLS certificate with its CA."""
    sandbox.renew_tokens()
    tls = TlsAuthority.create(now=datetime.now(UTC))
    certificate = tls.issue(now=datetime.now(UTC))
    (sandbox.folder / "client" / "ca.pem").write_text(tls.trust_anchor_pem)
    (sandbox.folder / "signer" / "tls.crt").write_text(certificate.certificate_pem)
    (sandbox.folder / "signer" / "tls.key").write_text(certificate.key_pem)


def edit_recipe(sandbox: Sandbox) -> None:
    manifest = sandbox.folder / "manifests" / "3-photo.yaml"
    manifest.write_text(manifest.read_text().replace("creator: ", "creator: Another "))


def outputs_reach(count: int, folder: Path, run: "subprocess.Popen[str]") -> None:
    """Wait until so many files are signed."""
    deadline = time.monotonic() + PATIENCE
    while not folder.exists() or len(list(folder.iterdir())) < count:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_all_files_are_signed_although_the_signer_is_stopped_and_killed_and_all_is_rotated_midway(
    sandbox: Sandbox, signer: Restartable, tmp_path: Path
) -> None:
    shoot, signed = tmp_path / "shoot", tmp_path / "signed"
    shoot.mkdir()
    for number in range(FILES):
        (shoot / f"{number:02}.jpg").write_bytes(PHOTO)
    command = (*BYOKCTL, "sign", str(shoot), "-r", "photo-v1", "--output", str(signed), "--jobs", str(JOBS))
    options = ("-m", "digital_source_type=digitalCreation", "-o", "json", "--timeout", str(PATIENCE))
    environment = {**os.environ, **sandbox.exports, "BYOK_SIGNER_ADDRESS": signer.address}
    done = 0
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, env=environment) as run:
        for number in (signal.SIGTERM, signal.SIGKILL):
            # More than what the one before may have signed with its last breath.
            outputs_reach(done + JOBS + 1, signed, run)
            signer.end(number)
            done = len(list(signed.iterdir()))
            assert done < FILES, "too fast to be disturbed"
            rotate(sandbox)
            if number is signal.SIGTERM:  # twice, and a slow file could meet both: then it is refused, as it should be
                edit_recipe(sandbox)
            signer.start()
        out, _ = run.communicate(timeout=PATIENCE)
    document = json.loads(out)
    assert (run.returncode, document["summary"]["signed"]) == (0, FILES)
    assert len({file["recipeHash"] for file in document["files"]}) == 2
    assert {verify_asset(path, sandbox.trust_anchors).state for path in signed.iterdir()} == {Verdict.TRUSTED}
    # The trail knows every one of them.
    audited = {json.loads(line).get("manifest") for line in sandbox.audit.read_text().splitlines()}
    assert {file["manifestId"] for file in document["files"]} <= audited
