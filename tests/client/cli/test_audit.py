"""`byokctl audit verify`: damage is found and told."""

import io
import sys
from pathlib import Path

import pytest

from tests.support.command_line import Cli
from tests.support.trails import trail


@pytest.fixture
def lines() -> list[bytes]:
    return trail(events=4)[0]


def _file(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_an_intact_trail_is_told_with_its_head(cli: Cli, tmp_path: Path, lines: list[bytes]) -> None:
    ended = cli("audit", "verify", _file(tmp_path, lines))
    assert ended.status == 0
    assert ended.out.startswith("intact\n5 records on 5 lines: 1 chain-start, 1 intent, 2 outcome, 1 refusal\n")
    assert "signer-a/" in ended.out


def test_an_altered_record_fails_with_its_line(cli: Cli, tmp_path: Path, lines: list[bytes]) -> None:
    lines[2] = lines[2].replace(b"photo-v1", b"photo-v2")
    ended = cli("audit", "verify", _file(tmp_path, lines), "-o", "json")
    assert (ended.status, ended.document["intact"]) == (1, False)
    assert [(finding["line"], finding["kind"]) for finding in ended.document["findings"]] == [(3, "Altered")]


def test_a_removed_record_is_told_in_text(cli: Cli, tmp_path: Path, lines: list[bytes]) -> None:
    del lines[2]
    ended = cli("audit", "verify", _file(tmp_path, lines))
    assert (ended.status, ended.out.splitlines()[0]) == (1, "not intact: 1 finding")
    assert "line 3: Missing: " in ended.out


def test_standard_input_is_read(cli: Cli, lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(lines))))
    assert cli("audit", "verify", "-", "-o", "json").document["records"] == 5


def test_a_missing_file_is_refused_by_name(cli: Cli, tmp_path: Path) -> None:
    ended = cli("audit", "verify", tmp_path / "nothing")
    assert (ended.status, ended.out) == (1, "")
    assert f"audit file {tmp_path}/nothing: cannot be read: No such file or directory" in ended.err
