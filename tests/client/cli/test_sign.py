"""`byokctl sign`: what is signed is read by c2pa's own Reader."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import Verdict, VerificationResult
from byok_client.cli.signing_plan import Task, plan
from byok_client.verification import verify_asset
from tests.support.command_line import BYOKCTL, Cli, names_below
from tests.support.fake_signer import FakeSigner
from tests.support.permissions import closed_folder
from tests.support.pki import trust_anchor

AI = ("-m", "ai_generated=true")

pytestmark = pytest.mark.usefixtures("environment")


def _verified(path: Path) -> VerificationResult:
    return verify_asset(path, trust_anchor())


def test_a_signed_file_is_trusted_and_the_line_names_key_and_audit_record(cli: Cli, photo: Path) -> None:
    target = photo.with_name("signed.jpg")
    ended = cli("sign", photo, "-r", "photo", "--output", target, *AI)
    assert ended.status == 0
    assert ended.out == f"signed {photo} -> {target}: ES256 security/brand media/photo@1 audit fake/1\n"
    assert _verified(target).state is Verdict.TRUSTED


def test_json_carries_the_whole_result(cli: Cli, photo: Path) -> None:
    ended = cli("sign", photo, "-r", "photo", "--in-place", *AI, "-o", "json")
    (file,) = ended.document["files"]
    assert ended.document["summary"] == {"signed": 1, "skipped": 0, "failed": 0, "interrupted": 0}
    assert (file["state"], file["output"], file["auditId"]) == ("signed", str(photo), "fake/1")
    assert file["manifestId"] == _verified(photo).manifest_id


def test_a_folder_is_signed_into_a_folder_of_the_same_shape(cli: Cli, shoot: Path, tmp_path: Path) -> None:
    target = tmp_path / "signed"
    ended = cli("sign", shoot, "-r", "photo", "--output", target, "--jobs", 2, *AI)
    assert ended.status == 0
    assert ended.out.splitlines()[-1] == "2 signed"
    assert names_below(target) == ["a.jpg", "day2/b.jpg"]
    assert {_verified(target / name).state for name in names_below(target)} == {Verdict.TRUSTED}


def test_one_bad_file_fails_the_command_and_not_the_others(cli: Cli, shoot: Path, tmp_path: Path) -> None:
    (shoot / "b.jpg").write_bytes(b"no jpeg")
    target = tmp_path / "signed"
    ended = cli("sign", shoot, "-r", "photo", "--output", target, *AI)
    assert ended.status == 1
    assert f"failed {shoot / 'b.jpg'}: AssetUnreadable:" in ended.out
    assert names_below(target) == ["a.jpg", "day2/b.jpg"]


def test_signed_files_are_skipped_on_request(cli: Cli, shoot: Path) -> None:
    arguments = ("sign", shoot, "-r", "photo", "--in-place", "--skip-signed", *AI)
    assert cli(*arguments).out.splitlines()[-1] == "2 signed"
    before = (shoot / "a.jpg").read_bytes()
    again = cli(*arguments)
    assert (again.status, again.out.splitlines()[-1]) == (0, "2 skipped")
    assert (shoot / "a.jpg").read_bytes() == before


def test_a_file_that_goes_by_several_names_is_signed_once(cli: Cli, shoot: Path, environment: FakeSigner) -> None:
    (shoot / "link.jpg").symlink_to(shoot / "a.jpg")
    cli("sign", shoot, shoot / "a.jpg", "-r", "photo", "--in-place", *AI)
    assert len(environment.claims) == 2


def test_a_slash_makes_the_output_of_one_file_a_folder(cli: Cli, photo: Path, tmp_path: Path) -> None:
    cli("sign", photo, "-r", "photo", "--output", f"{tmp_path}/signed/", *AI)
    assert names_below(tmp_path / "signed") == ["photo.jpg"]


def test_progress_is_shown_on_a_terminal_only(cli: Cli, shoot: Path) -> None:
    arguments = ["sign", str(shoot), "-r", "photo", "--in-place", *AI]
    assert cli(*arguments).err == ""
    terminal, stderr = os.openpty()
    subprocess.run([*BYOKCTL, *arguments], stderr=stderr, check=True)
    os.close(stderr)
    with open(terminal, "rb", buffering=0) as shown:  # noqa: PTH123 - a descriptor
        assert b"signing" in shown.read(4096)


def test_metadata_options_win_over_the_file_and_lists_are_json(
    cli: Cli, photo: Path, tmp_path: Path, environment: FakeSigner
) -> None:
    environment.recipe.optional_assertions = ("creator", "editor", "deepfake_disclosure")
    file = tmp_path / "metadata.yaml"
    file.write_text("ai_generated: true\ncreator: From the file\neditor: Grace\n")
    options = ("-m", 'creator=["Ada","Lin"]', "-m", "deepfake_disclosure=false")
    assert cli("sign", photo, "-r", "photo", "--in-place", "--metadata-file", file, *options).status == 0
    said = _verified(photo).assertions or {}
    assert (said["creator"], said["editor"], said["deepfake_disclosure"]) == (["Ada", "Lin"], ["Grace"], False)


@pytest.mark.parametrize(
    ("option", "expected"),
    [("creator", "is not name=value"), ("=x", "is not name=value")],
)
def test_malformed_metadata_is_wrong_usage(cli: Cli, photo: Path, option: str, expected: str) -> None:
    ended = cli("sign", photo, "-r", "photo", "--in-place", "-m", option)
    assert ended.status == 2
    assert expected in ended.err


def test_metadata_given_twice_is_wrong_usage(cli: Cli, photo: Path) -> None:
    ended = cli("sign", photo, "-r", "photo", "--in-place", "-m", "creator=A", "-m", "creator=B")
    assert (ended.status, "creator is given twice" in ended.err) == (2, True)


@pytest.mark.parametrize(("content", "reason"), [("a: [", "InvalidRequest"), ("a: 1\n---\nb: 2\n", "Usage")])
def test_a_bad_metadata_file_is_refused_by_name(
    cli: Cli, photo: Path, tmp_path: Path, content: str, reason: str
) -> None:
    file = tmp_path / "metadata.yaml"
    file.write_text(content)
    ended = cli("sign", photo, "-r", "photo", "--in-place", "--metadata-file", file, "-o", "json")
    assert ended.document["error"]["reason"] == reason
    assert str(file) in ended.document["error"]["message"]


def test_unknown_metadata_is_refused_by_name(cli: Cli, photo: Path) -> None:
    ended = cli("sign", photo, "-r", "photo", "--in-place", *AI, "-m", "creater=Ada", "-o", "json")
    assert ended.status == 1
    assert ended.document["files"][0]["error"]["reason"] == "MetadataInvalid"
    assert "creator" in ended.document["files"][0]["error"]["message"]


def test_exactly_one_of_output_and_in_place_is_needed(cli: Cli, photo: Path) -> None:
    neither = cli("sign", photo, "-r", "photo")
    both = cli("sign", photo, "-r", "photo", "--in-place", "--output", photo.with_name("x.jpg"))
    assert (neither.status, both.status) == (2, 2)
    assert "exactly one of the two is needed" in neither.err


def test_two_inputs_for_one_output_are_refused_before_anything_is_signed(
    cli: Cli, shoot: Path, photo: Path, environment: FakeSigner
) -> None:
    twin = photo.with_name("a.jpg")
    twin.write_bytes(photo.read_bytes())
    ended = cli("sign", shoot / "a.jpg", twin, "-r", "photo", "--output", shoot.parent / "signed", *AI)
    assert ended.status == 2
    assert "would both become" in ended.err
    assert environment.calls == []


def test_an_output_inside_the_folder_that_is_signed_is_refused(cli: Cli, shoot: Path) -> None:
    ended = cli("sign", shoot, "-r", "photo", "--output", shoot / "signed", *AI)
    assert (ended.status, "which is to be signed" in ended.err) == (2, True)


def test_in_a_folder_without_media_there_is_nothing_to_sign_which_is_no_failure(
    cli: Cli, environment: FakeSigner, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    (folder / "lost+found").mkdir(parents=True)
    (folder / "lost+found" / "a.jpg").touch()
    (folder / "notes.txt").touch()
    ended = cli("sign", folder, "-r", "photo", "--in-place")
    assert (ended.status, ended.out) == (0, f"nothing to sign: no file of a type that can be signed is in {folder}\n")
    told = cli("sign", folder, "-r", "photo", "--in-place", "-o", "json")
    assert (told.status, told.document["files"], told.document["summary"]["signed"]) == (0, [], 0)
    assert environment.calls == []


def test_a_folder_that_is_not_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    ended = cli("sign", tmp_path / "none", "-r", "photo", "--in-place")
    assert (ended.status, "AssetUnreadable" in ended.out) == (1, True)


def test_a_folder_that_cannot_be_read_is_not_an_empty_one() -> None:
    with closed_folder() as folder:
        with pytest.raises(Refusal, match=f"{folder}: cannot be read: Permission denied") as caught:
            plan([folder], None)
        assert plan([folder / "file"], None) == [Task(folder / "file", None)]
    assert caught.value.reason is Reason.AssetUnreadable


def test_an_existing_output_is_kept_unless_overwritten(cli: Cli, photo: Path) -> None:
    target = photo.with_name("signed.jpg")
    target.write_bytes(b"mine")
    refused = cli("sign", photo, "-r", "photo", "--output", target, *AI)
    assert (refused.status, "OutputUnwritable" in refused.out, target.read_bytes()) == (1, True, b"mine")
    assert cli("sign", photo, "-r", "photo", "--output", target, "--overwrite", *AI).status == 0


def test_what_stands_in_the_way_of_every_file_is_one_error(cli: Cli, shoot: Path, environment: FakeSigner) -> None:
    environment.recipe_failures.append(Refusal(Reason.RecipeNotAllowed, "recipe photo is unknown or not allowed"))
    ended = cli("sign", shoot, "-r", "photo", "--in-place", "-o", "json")
    assert ended.status == 1
    assert ended.document["error"]["reason"] == "RecipeNotAllowed"
    assert ended.document["error"]["remedy"] == Reason.RecipeNotAllowed.facts.remedy
    assert environment.calls == ["GetRecipe photo"]


def test_a_refusal_of_the_key_names_reason_message_and_remedy(cli: Cli, photo: Path, environment: FakeSigner) -> None:
    environment.failures.append(Refusal(Reason.KeyAccessDenied, "KMS denies kms:Sign"))
    before = photo.read_bytes()
    ended = cli("sign", photo, "-r", "photo", "--in-place", *AI)
    assert ended.status == 1
    assert ended.out == (
        f"failed {photo}: KeyAccessDenied: KMS denies kms:Sign\n  {Reason.KeyAccessDenied.facts.remedy}\n"
    )
    assert photo.read_bytes() == before


def test_what_may_pass_by_itself_has_a_status_of_its_own(cli: Cli, photo: Path, environment: FakeSigner) -> None:
    environment.failures.append(Refusal(Reason.KmsThrottled, "quota used up", retry_after=60))
    ended = cli("sign", photo, "-r", "photo", "--in-place", "--timeout", 20, *AI)
    assert (ended.status, "KmsThrottled" in ended.out) == (3, True)


def test_no_signer_is_unavailable(cli: Cli, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOK_SIGNER_ADDRESS", f"unix:{tmp_path}/nobody.sock")
    ended = cli("sign", photo, "-r", "photo", "--in-place", "--timeout", 0.5)
    assert (ended.status, "SignerUnreachable" in ended.err) == (3, True)


def test_a_missing_address_is_wrong_usage(cli: Cli, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BYOK_SIGNER_ADDRESS")
    ended = cli("sign", photo, "-r", "photo", "--in-place")
    assert (ended.status, "BYOK_SIGNER_ADDRESS is not set" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [(signal.SIGINT, 130, "byokctl: interrupted\n"), (signal.SIGTERM, 143, "byokctl: terminated\n")],
)
def test_ctrl_c_and_sigterm_leave_every_file_as_it_was_and_have_a_status_each(
    number: signal.Signals, status: int, words: str, shoot: Path, environment: FakeSigner
) -> None:
    environment.held = threading.Event()
    before = {name: (shoot / name).read_bytes() for name in names_below(shoot)}
    command = [*BYOKCTL, "sign", str(shoot), "-r", "photo", "--in-place", *AI]
    process = subprocess.Popen(
        [*command, "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert environment.asked.wait(30)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (status, words)
    assert json.loads(out)["summary"]["interrupted"] == 2
    assert {name: (shoot / name).read_bytes() for name in names_below(shoot)} == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_wait_for_a_signer_that_is_not_there(
    number: signal.Signals, status: int, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOK_SIGNER_ADDRESS", f"unix:{tmp_path}/nobody.sock")
    command = [*BYOKCTL, "sign", str(photo), "-r", "photo", "--in-place", "--timeout", "600", *AI]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    while not _heeds_sigterm(process):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (status, f"interrupted {photo}\n")


def _heeds_sigterm(process: subprocess.Popen[str]) -> bool:
    caught = re.findall(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{process.pid}/status").read_text())[0]
    return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))


def test_what_failed_is_told_last(cli: Cli, shoot: Path) -> None:
    (shoot / "a.jpg").write_bytes(b"no jpeg")
    lines = cli("sign", shoot, "-r", "photo", "--in-place", *AI).out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["signed", "failed", "1"]
