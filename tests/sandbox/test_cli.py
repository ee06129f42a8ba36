"""`byokctl sandbox` as its users start it: a process that says how to reach it, and that ends all that it started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import boto3
import pytest

from byok_client.cli.app import run
from byok_sandbox import shipped

COMMAND = [sys.executable, "-m", "byok_client.cli", "sandbox"]
PHOTO = shipped.examples() / "media" / "landscape.jpg"


@contextmanager
def started(folder: Path, log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "--folder", str(folder), "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def document(stream: IO[str]) -> dict[str, Any]:
    lines = []
    for line in stream:
        lines.append(line)
        if line == "}\n":
            break
    return dict(json.loads("".join(lines)))


def export(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "BYOK_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_its_exports_are_enough_for_boto3_and_byokctl_and_ctrl_c_ends_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("wb") as log, started(tmp_path / "sandbox", log) as process:
        assert process.stdout is not None
        told = document(process.stdout)
        export(told["exports"], monkeypatch)

        kms: Any = boto3.session.Session().client("kms")
        assert {key["KeyArn"] for key in kms.list_keys()["Keys"]} == set(told["keys"].values())
        kms.close()

        signed = str(tmp_path / "signed.jpg")
        metadata = ["-m", "digital_source_type=digitalCreation"]
        assert run(["sign", str(PHOTO), "-r", "photo-v1", *metadata, "--output", signed]) == 0
        assert run(["verify", signed, "--trust-anchors", told["trustAnchors"]]) == 0

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""
    assert b"every process that was started has ended" in (tmp_path / "log").read_bytes()
    assert set(told["processes"]) == {"kms", "signer", "tsa"}
    for pid in told["processes"].values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_folder_that_cannot_be_made_is_told_and_fails() -> None:
    done = subprocess.run([*COMMAND, "--folder", "/proc/none"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (1, 0)
    assert done.stderr.startswith("byokctl: SandboxFailed: ")
    assert "/proc/none" in done.stderr


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_folder_with_something_in_it_is_wrong_usage(
    output_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert run(["sandbox", "--demo", "--folder", str(tmp_path), "-o", output_format]) == 2
    printed = capsys.readouterr()
    assert f"{tmp_path} is not an empty folder" in (printed.err if output_format == "text" else printed.out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
