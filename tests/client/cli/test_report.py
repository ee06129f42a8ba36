"""`byokctl audit report`: who had what signed, as text, CSV and JSON, from a trail that is verified on the way."""

import csv
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from byok_api.audit import AuditEvent, Kind
from byok_api.audit.activity import By
from byok_client.cli import sheets
from byok_client.cli.commands import auditor
from byok_client.cli.sheets import safe_cell
from tests.support.command_line import Cli
from tests.support.trail_files import write_trail
from tests.support.trails import INTENT, REFUSED, REPEATED, SETTLED, SIGNED

DATA = Path(__file__).parent.parent.parent / "data" / "reports"
BARE = replace(SIGNED, guarded=False, manifest=None, claim_sha256=None)
CERTIFY = replace(SETTLED, kind=Kind.CERTIFY, intent=7, recipe=None, recipe_hash=None, manifest=None)
EVENTS: Sequence[AuditEvent] = [
    INTENT,
    SETTLED,
    REPEATED,
    BARE,
    REFUSED,
    replace(SIGNED, caller="system:serviceaccount:sports:clips"),
    INTENT,
    CERTIFY,
    INTENT,
]


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return write_trail(tmp_path / "audit.jsonl", EVENTS)


@pytest.mark.parametrize("form", ["text", "csv", "json"])
@pytest.mark.parametrize("each", [False, True])
def test_a_report_is_as_on_file(cli: Cli, trail: Path, form: str, *, each: bool) -> None:
    ended = cli("audit", "report", trail, "-o", form, *["--each"] * each)
    assert ended.status == 0
    assert ended.out == (DATA / f"{'each' if each else 'summary'}.{form}").read_text()


def test_csv_leaves_the_sentences_to_standard_error(cli: Cli, trail: Path) -> None:
    ended = cli("audit", "report", trail, "-o", "csv")
    assert "4 signatures: 1 bare digest, 1 certificate request, 2 claims\n" in ended.err
    assert "given out again to a retry, and not counted: 1 signature\n" in ended.err


def test_a_period_limits_rows_and_totals(cli: Cli, trail: Path) -> None:
    found = cli(
        "audit", "report", trail, "--from", "2026-03-04T05:06:09Z", "--to", "2026-03-04T05:06:10Z", "-o", "json"
    )
    assert [row["signed"] for row in found.document["rows"]] == [1]
    assert (found.document["totals"]["signed"], found.document["totals"]["refused"]) == (1, 0)


@pytest.mark.parametrize("arguments", [(), ("--each",), ("-o", "csv")])
def test_a_trail_that_is_not_intact_is_told_on_standard_error(
    cli: Cli, trail: Path, arguments: tuple[str, ...]
) -> None:
    trail.write_bytes(trail.read_bytes().replace(b"clips", b"klips"))
    ended = cli("audit", "report", trail, *arguments)
    assert (ended.status, "not intact (1 finding)" in ended.err, "klips" in ended.out) == (1, True, False)
    assert f"{trail}, line 7: Altered" in ended.err


def test_a_record_that_is_there_twice_is_counted_once(cli: Cli, trail: Path) -> None:
    ended = cli("audit", "report", trail, trail, "-o", "json")
    assert (ended.status, ended.document["totals"]["signed"], ended.document["trail"]["leftOut"]) == (1, 4, 10)


def test_standard_input_is_read(cli: Cli, trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(trail.read_bytes()[:-9])))
    ended = cli("audit", "report", "-")
    assert (ended.status, ended.out.splitlines()[-1]) == (0, "  KeyNotAllowed: 1 record")
    assert ended.err == "standard input: the last line is incomplete: a crash, or it is being written\n"


@pytest.mark.parametrize("arguments", [(), ("--each",)])
def test_a_missing_file_is_refused_in_one_document(cli: Cli, trail: Path, arguments: tuple[str, ...]) -> None:
    ended = cli("audit", "report", trail, trail.parent / "none", "-o", "json", *arguments)
    assert (ended.status, ended.document["error"]["reason"]) == (1, "InvalidRequest")
    assert f"audit file {trail.parent}/none: cannot be read" in ended.err


def test_too_many_rows_are_refused_with_what_helps(cli: Cli, trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_api.audit.activity.ROWS_LIMIT", 2)
    ended = cli("audit", "report", trail)
    assert (ended.status, "over 2 rows: ask for a part of the time" in ended.err) == (1, True)


CELLS = [
    ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
    ("+1", "'+1"),
    ("-1", "'-1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    (" =1", "' =1"),
    ("\uff1d1", "'\uff1d1"),
    ("\t=1", "\\t=1"),
    ("\r\n=1", "\\r\\n=1"),
    ("\x1b[2J", "\\x1b[2J"),
    ("media/photo-v1@1", "media/photo-v1@1"),
    (7, 7),
]


@pytest.mark.parametrize(("cell", "safe"), CELLS)
def test_no_cell_begins_a_formula_or_steers_a_terminal(cell: str | int, safe: str | int) -> None:
    assert safe_cell(cell) == safe


def test_csv_with_hostile_names_reads_back_as_text(cli: Cli, tmp_path: Path) -> None:
    hostile = replace(SIGNED, caller='=HYPERLINK("http://x","y"),\n"1"')
    ended = cli("audit", "report", write_trail(tmp_path / "audit.jsonl", [hostile]), "-o", "csv")
    _, row = csv.reader(io.StringIO(ended.out))
    assert row[1] == '\'=HYPERLINK("http://x","y"),\\n"1"'


def test_text_of_many_rows_is_written_as_it_comes(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "_SAMPLE", 2)
    ended = cli("audit", "report", write_trail(tmp_path / "audit.jsonl", [SIGNED] * 5), "--each")
    assert len({line.index("newsroom/photo") for line in ended.out.splitlines()[1:6]}) == 1


def test_a_full_disk_is_told_and_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    trail = write_trail(tmp_path / "audit.jsonl", [SIGNED] * 2000)
    command = f"{sys.executable} -m byok_client.cli audit report {trail} --each"
    full = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)  # noqa: S607 - a redirection
    gone = subprocess.run(["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, check=False)  # noqa: S607 - a pipe
    told = "byokctl: standard output does not take the report: No space left on device\n"
    assert (full.returncode, full.stderr) == (1, told)
    assert (gone.stdout[:4], gone.stderr) == ("TIME", "")


def test_the_periods_are_those_of_the_model() -> None:
    assert [by.value for by in auditor._By] == [by.value for by in By]  # noqa: SLF001 - kept apart for a quick start


@pytest.mark.parametrize("arguments", [("--by", "year"), ("-o", "xml"), ("--from", "x")])
def test_wrong_usage_ends_with_2(cli: Cli, trail: Path, arguments: tuple[str, ...]) -> None:
    assert cli("audit", "report", trail, *arguments).status == 2
