"""A thousand files in one run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from byok_client import Verdict
from byok_client.verification import verify_asset
from tests.support.command_line import BYOKCTL
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA

FILES = 1000
BAD = 617

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def shoot(tmp_path: Path) -> Path:
    """A thousand photos, one of which is none."""
    folder = tmp_path / "shoot"
    folder.mkdir()
    content = MEDIA["landscape.jpg"].path.read_bytes()
    for number in range(FILES):
        (folder / f"{number:04}.jpg").write_bytes(b"no photo" if number == BAD else content)
    return folder


def test_one_bad_file_among_a_thousand_is_reported_and_the_others_are_signed(
    shoot: Path, tmp_path: Path, environment: FakeSigner
) -> None:
    output = tmp_path / "signed"
    command = (*BYOKCTL, "sign", str(shoot), "-r", "photo", "--output", str(output), "--jobs", "8", "-o", "json")
    ended = subprocess.run([*command, "-m", "ai_generated=true"], check=False, capture_output=True, text=True)
    document = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert document["summary"] == {"signed": FILES - 1, "skipped": 0, "failed": 1, "interrupted": 0}
    (failed,) = (file for file in document["files"] if file["state"] == "failed")
    assert (Path(failed["source"]).name, failed["error"]["reason"]) == (f"{BAD:04}.jpg", "AssetUnreadable")
    assert sorted(os.listdir(output)) == sorted(set(os.listdir(shoot)) - {f"{BAD:04}.jpg"})  # noqa: PTH208 - names
    assert len(environment.claims) == len({file.get("manifestId") for file in document["files"]} - {None}) == FILES - 1
    assert {verify_asset(output / f"{number:04}.jpg", None).state for number in range(0, FILES, 50)} == {Verdict.VALID}
