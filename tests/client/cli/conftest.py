"""The command line run in process, as its console script runs it, against a fake signer over a real socket."""

from pathlib import Path

import pytest

from byok_client.cli.app import run
from tests.support.command_line import Cli, Ended
from tests.support.fake_signer import FakeSigner


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run one command line."""

    def run_and_capture(*arguments: object) -> Ended:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ended(status, printed.out, printed.err)

    return run_and_capture


@pytest.fixture
def environment(signer: FakeSigner, token_file: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSigner:
    """The variables that lead to the fake signer."""
    monkeypatch.setenv("BYOK_SIGNER_ADDRESS", signer.address)
    monkeypatch.setenv("BYOK_SIGNER_TOKEN_FILE", str(token_file))
    monkeypatch.delenv("BYOK_SIGNER_CA_FILE", raising=False)
    return signer


@pytest.fixture
def shoot(tmp_path: Path, photo: Path) -> Path:
    """A folder with two photos, one of them below, and a file that is no media."""
    folder = tmp_path / "shoot"
    (folder / "day2").mkdir(parents=True)
    for name in ("a.jpg", "day2/b.jpg"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "notes.txt").write_text("not media")
    return folder
