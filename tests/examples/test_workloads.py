"""What the pods of examples/kubernetes run, run here: the same arguments and script, on folders in place of volumes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import ClientSettings, SignerClient, Verdict
from byok_sandbox.system import Sandbox
from tests.examples.workloads import FOLDER, PODS, container_of, variables
from tests.support.command_line import BYOKCTL
from tests.support.fake_signer import TOKEN, FakeSigner, serving

PHOTO = FOLDER.parent / "media" / "landscape.jpg"
DEADLINE = 30.0
CLUSTERS_OWN = ("BYOK_SIGNER_ADDRESS", "BYOK_SIGNER_CA_FILE", "BYOK_SIGNER_TOKEN_FILE")


def environment(settings: ClientSettings, kind: str, volume: Path) -> dict[str, str]:
    """Give the container's variables, with this machine's signer."""
    values = variables(container_of(PODS[kind])).items()
    own = {name: value.replace("/media", str(volume)) for name, value in values if name not in CLUSTERS_OWN}
    signer = dict(
        zip(CLUSTERS_OWN, (settings.address, str(settings.ca_file or ""), str(settings.token_file)), strict=True)
    )
    return {**os.environ, **own, **signer}


def run_job(settings: ClientSettings, kind: str, volume: Path) -> "subprocess.CompletedProcess[str]":
    arguments = [each.replace("/media", str(volume), 1) for each in container_of(PODS[kind])["args"]]
    return subprocess.run(
        [*BYOKCTL, *arguments],
        env=environment(settings, kind, volume),
        check=False,
        capture_output=True,
        text=True,
    )


def verdict(sandbox: Sandbox, path: Path) -> Verdict:
    with SignerClient(sandbox.client) as client:
        return client.verify(path, trust_anchors=sandbox.trust_anchors).state


def test_the_job_signs_a_folder_into_another_and_may_be_run_again(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "incoming" / "day-1").mkdir(parents=True)
    shutil.copy(PHOTO, tmp_path / "incoming" / "day-1" / "photo.jpg")

    for _ in range(2):
        ended = run_job(sandbox.client, "Job", tmp_path)
        assert ended.returncode == 0, ended.stderr

    assert verdict(sandbox, tmp_path / "signed" / "day-1" / "photo.jpg") is Verdict.TRUSTED
    assert (tmp_path / "incoming" / "day-1" / "photo.jpg").read_bytes() == PHOTO.read_bytes()


def test_the_cron_job_signs_each_file_of_a_volume_once(sandbox: Sandbox, tmp_path: Path) -> None:
    shutil.copy(PHOTO, tmp_path / "old.jpg")
    assert run_job(sandbox.client, "CronJob", tmp_path).returncode == 0
    signed = (tmp_path / "old.jpg").read_bytes()
    shutil.copy(PHOTO, tmp_path / "new.jpg")
    shutil.copy(PHOTO, tmp_path / ".half-written.jpg")

    assert run_job(sandbox.client, "CronJob", tmp_path).returncode == 0

    assert verdict(sandbox, tmp_path / "new.jpg") is verdict(sandbox, tmp_path / "old.jpg") is Verdict.TRUSTED
    assert (tmp_path / "old.jpg").read_bytes() == signed
    assert (tmp_path / ".half-written.jpg").read_bytes() == PHOTO.read_bytes()


class Desk:
    """The folder that the Deployment's script works on, and how the script is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.put = self.folder / "inbox"
        self.put.mkdir()

    @contextmanager
    def working(self, settings: ClientSettings) -> Iterator["subprocess.Popen[bytes]"]:
        """Run the script; it must end well on SIGTERM, if it has not been ended before."""
        script = FOLDER / "scripts" / "sign_inbox.py"
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, script], env=environment(settings, "Deployment", self.folder), stderr=log
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(DEADLINE)
        assert status in {0, -signal.SIGKILL}, self.log.read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to come about."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def names(self, folder: str) -> set[str]:
        """List a folder."""
        return {path.name for path in (self.folder / folder).iterdir()} if (self.folder / folder).exists() else set()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk")


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[FakeSigner]:
    with serving(tmp_path) as fake:
        yield fake


@pytest.fixture
def settings(signer: FakeSigner, tmp_path: Path) -> ClientSettings:
    (tmp_path / "token").write_text(TOKEN)
    # The fake's recipe demands it, and the script's metadata say what the picture is.
    signer.recipe.assertions = ("digital_source_type",)
    return ClientSettings(address=signer.address, token_file=tmp_path / "token")


def release(signer: FakeSigner) -> None:
    held, signer.held = signer.held, None
    assert held is not None
    held.set()


def test_the_deployment_signs_what_comes_into_its_inbox(sandbox: Sandbox, desk: Desk) -> None:
    shutil.copy(PHOTO, desk.put / "first.jpg")
    with desk.working(sandbox.client):
        desk.until(lambda: "first.jpg" in desk.names("outbox"))
        shutil.copy(PHOTO, desk.put / ".second.jpg")
        (desk.put / ".second.jpg").rename(desk.put / "second.jpg")
        desk.until(lambda: "second.jpg" in desk.names("outbox") and not desk.names("work"))

    assert {verdict(sandbox, path) for path in (desk.folder / "outbox").iterdir()} == {Verdict.TRUSTED}
    assert not desk.names("inbox") | desk.names("refused")


def test_an_asset_that_cannot_be_signed_is_put_aside_with_the_reason(
    signer: FakeSigner, settings: ClientSettings, desk: Desk
) -> None:
    (desk.put / "broken.jpg").write_bytes(b"no picture")
    shutil.copy(PHOTO, desk.put / "photo.jpg")
    with desk.working(settings):
        desk.until(lambda: desk.names("outbox") == {"photo.jpg"} and desk.names("refused") > {"broken.jpg"})

    assert "AssetUnreadable" in (desk.folder / "refused" / "broken.jpg.txt").read_text()
    assert len(signer.claims) == 1


def test_what_others_can_mend_is_waited_for_and_nothing_is_lost(
    signer: FakeSigner, settings: ClientSettings, desk: Desk
) -> None:
    signer.failures.append(Refusal(Reason.KeyAccessDenied, "the key's owner has taken the grant back"))
    shutil.copy(PHOTO, desk.put / "photo.jpg")
    with desk.working(settings):
        desk.until(lambda: desk.names("outbox") == {"photo.jpg"})

    assert "photo.jpg waits: KeyAccessDenied" in desk.log.read_text()
    assert len(signer.claims) == 2


def test_a_name_that_is_taken_waits_and_replaces_nothing(settings: ClientSettings, desk: Desk) -> None:
    (desk.folder / "outbox").mkdir()
    (desk.folder / "outbox" / "photo.jpg").write_bytes(b"yesterday's")
    shutil.copy(PHOTO, desk.put / "photo.jpg")
    with desk.working(settings):
        desk.until(lambda: "photo.jpg waits" in desk.log.read_text())
        assert (desk.folder / "outbox" / "photo.jpg").read_bytes() == b"yesterday's"
        (desk.folder / "outbox" / "photo.jpg").unlink()
        desk.until(lambda: desk.names("outbox") == {"photo.jpg"} and not desk.names("work"))

    assert not desk.names("inbox")


def test_the_next_pod_signs_what_a_killed_one_had_in_work(
    signer: FakeSigner, settings: ClientSettings, desk: Desk
) -> None:
    signer.held = threading.Event()
    shutil.copy(PHOTO, desk.put / "photo.jpg")
    with desk.working(settings) as killed:
        desk.until(signer.asked.is_set)
        killed.kill()
    assert desk.names("work") == {"photo.jpg"}
    assert not desk.names("outbox")
    release(signer)

    with desk.working(settings):
        desk.until(lambda: desk.names("outbox") == {"photo.jpg"} and not desk.names("work"))


def test_what_was_signed_before_a_pod_was_killed_is_not_signed_again(
    signer: FakeSigner, settings: ClientSettings, desk: Desk
) -> None:
    for name in ("work", "outbox"):
        (desk.folder / name).mkdir()
        (desk.folder / name / "photo.jpg").write_bytes(PHOTO.read_bytes())
    with desk.working(settings):
        desk.until(lambda: not desk.names("work"))

    assert desk.names("outbox") == {"photo.jpg"}
    assert not signer.claims


def test_sigterm_lets_the_file_in_work_be_finished(signer: FakeSigner, settings: ClientSettings, desk: Desk) -> None:
    signer.held = threading.Event()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(PHOTO, desk.put / name)
    with desk.working(settings) as process:
        desk.until(signer.asked.is_set)
        process.send_signal(signal.SIGTERM)
        release(signer)
        assert process.wait(DEADLINE) == 0

    assert (desk.names("outbox"), desk.names("work")) == ({"a.jpg"}, {"b.jpg"})


WRONG_SETTINGS = {
    "BYOK_DESK": ("", "BYOK_DESK is not set"),
    "BYOK_RECIPE": ("", "BYOK_RECIPE is not set"),
    "BYOK_METADATA": ("digitalCapture", "BYOK_METADATA is no JSON object"),
    "BYOK_SIGNER_ADDRESS": ("nowhere", "ConfigurationInvalid: the signer's address 'nowhere'"),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_a_setting_that_is_wrong_is_named(settings: ClientSettings, tmp_path: Path, name: str) -> None:
    value, said = WRONG_SETTINGS[name]
    ended = subprocess.run(
        [sys.executable, FOLDER / "scripts" / "sign_inbox.py"],
        env={**environment(settings, "Deployment", tmp_path), name: value},
        check=False,
        capture_output=True,
        text=True,
    )

    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(f"sign_inbox.py: {said}")
