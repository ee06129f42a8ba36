"""`byokctl sign` where there is no room: what was there is as it was, and the message says where and what to do."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from byok_client import Verdict
from byok_client.verification import verify_asset
from tests.support.command_line import BYOKCTL
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA
from tests.support.small_disk import SmallDisk

AI = ("-m", "ai_generated=true")
KIB = 1024
PHOTO = MEDIA["landscape.jpg"].path
CONTENT = PHOTO.read_bytes()
TOO_LITTLE = len(CONTENT) // KIB + 4
"""KiB that the photo fits into, and its signed form does not."""

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def disk(tmp_path: Path) -> SmallDisk:
    (tmp_path / "disk").mkdir()
    return SmallDisk(tmp_path / "disk", tmp_path / "left")


def test_no_room_for_the_output_leaves_nothing_and_names_the_folder(disk: SmallDisk) -> None:
    ended = disk.byokctl(
        TOO_LITTLE, "sign", PHOTO, "-r", "photo", "--output", disk.folder / "out.jpg", *AI, "-o", "json"
    )
    error = ended.document["files"][0]["error"]
    assert (ended.status, error["reason"]) == (1, "OutputUnwritable")
    assert f"No space left on device in {disk.folder}: free some there, or use another folder" in error["message"]
    assert disk.files() == {}


def test_no_room_in_place_leaves_the_original(disk: SmallDisk) -> None:
    photo = disk.folder / "photo.jpg"
    ended = disk.byokctl(TOO_LITTLE, "sign", photo, "-r", "photo", "--in-place", *AI, before=f"cp {PHOTO} {photo}")
    assert (ended.status, "No space left on device" in ended.out) == (1, True)
    assert disk.files() == {"photo.jpg": CONTENT}


def test_no_room_for_a_replacement_leaves_the_file_that_was_there(disk: SmallDisk) -> None:
    output = disk.folder / "out.jpg"
    ended = disk.byokctl(
        TOO_LITTLE, "sign", PHOTO, "-r", "photo", "--output", output, "--overwrite", *AI, before=f"echo kept > {output}"
    )
    assert ended.status == 1
    assert disk.files() == {"out.jpg": b"kept\n"}


def test_wherever_the_room_ends_a_file_is_whole_or_not_there(disk: SmallDisk) -> None:
    output = disk.folder / "out.jpg"
    states = set()
    for kib in (8, TOO_LITTLE + 9, TOO_LITTLE + 40):
        ended = disk.byokctl(kib, "sign", PHOTO, "-r", "photo", "--output", output, *AI)
        states.add(ended.status)
        assert list(disk.files()) == ([] if ended.status else ["out.jpg"])
        assert ended.status or verify_asset(disk.left / "out.jpg", None).state is Verdict.VALID
    assert states == {0, 1}


def test_a_disk_that_fills_up_midway_keeps_what_was_signed(disk: SmallDisk, tmp_path: Path) -> None:
    (tmp_path / "shoot").mkdir()
    for number in range(8):
        (tmp_path / "shoot" / f"{number}.jpg").write_bytes(CONTENT)
    room = 4 * len(CONTENT) // KIB
    ended = disk.byokctl(room, "sign", tmp_path / "shoot", "-r", "photo", "--output", disk.folder, *AI, "-o", "json")
    signed = {Path(file["output"]).name for file in ended.document["files"] if file["state"] == "signed"}
    assert (ended.status, ended.document["summary"]["interrupted"]) == (1, 0)
    assert signed
    assert set(disk.files()) == signed
    assert {verify_asset(disk.left / name, None).state for name in signed} == {Verdict.VALID}


def test_no_room_for_the_librarys_own_copy_names_tmpdir(
    disk: SmallDisk, environment: FakeSigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.recipe.media_type = "video"
    video, size = tmp_path / "long.mp4", 80 * KIB * KIB
    video.write_bytes(MEDIA["sunset.mp4"].path.read_bytes() + struct.pack(">I4sQ", 1, b"mdat", size))
    os.truncate(video, video.stat().st_size - 16 + size)
    monkeypatch.setenv("TMPDIR", str(disk.folder))
    ended = disk.byokctl(4 * KIB, "sign", video, "-r", "photo", "--output", tmp_path / "out.mp4", *AI, "-o", "json")
    error = ended.document["files"][0]["error"]
    assert error["reason"] == "OutputUnwritable"
    assert f"a temporary copy cannot be written to {disk.folder}: No space left on device" in error["message"]
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_report_that_cannot_be_written_is_said_so(output_format: str, photo: Path, environment: FakeSigner) -> None:
    # /dev/full is a disk without room for anyone (full(4)).
    command = [*BYOKCTL, "sign", str(photo), "-r", "photo", "--in-place", *AI, "-o", output_format]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr == (
        "byokctl: what was done is done, but standard output does not take the report: No space left on device\n"
    )
    assert len(environment.claims) == 1
    assert verify_asset(photo, None).state is Verdict.VALID
