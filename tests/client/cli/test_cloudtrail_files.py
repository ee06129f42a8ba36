"""CloudTrail's log files as `byokctl audit reconcile` finds them: what cannot be read is named; the rest goes on."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from byok_api.audit import Attempt, Outcome
from tests.support.cloudtrail import KEY, log_file, sign
from tests.support.command_line import Cli
from tests.support.trail_files import write_trail
from tests.support.trails import SIGNED, TIME

START = TIME.timestamp()
OUTCOME = replace(SIGNED, key_arn=KEY, attempts=(Attempt("r1", Outcome.SIGNED),))


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


_RECORD = json.dumps(sign("r1", START + 1))
BAD_FILES = [
    ("cut.json.gz", _packed('{"Records":[' + ",".join([_RECORD] * 50))[:-12], "cut off while packed"),
    ("junk.json.gz", b"\x1f\x8b junk and more junk", "cannot be unpacked"),
    ("broken.json", b'{"Records":[' + _RECORD.encode() + b",{x}]}" + b" " * 50, "no valid JSON"),
    ("empty.json.gz", b"", "the file is empty"),
    ("more.json", b'{"Records":[]}{"Records":[{}]}{"other":1}', "none of CloudTrail's log files"),
    ("odd.json", json.dumps({"Records": [sign("r1", START, eventTime="noon")]}).encode(), "eventTime is not a time"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[bad[0] for bad in BAD_FILES])
def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(
    cli: Cli, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    trail = write_trail(tmp_path / "audit.jsonl", [OUTCOME])
    log_file(tmp_path / "ct" / "zz.json", [sign("r1", START + 1)])
    (tmp_path / "ct" / name).write_bytes(content)
    ended = cli("audit", "reconcile", trail, "--cloudtrail", tmp_path / "ct", "-o", "json")
    found = ended.document
    assert (ended.status, found["agrees"], found["complete"], found["matched"]) == (1, True, False, 1)
    damage = found["cloudTrail"]["damages"][0]
    assert (damage["file"], message in damage["message"]) == (str(tmp_path / "ct" / name), True)


def test_files_of_other_kinds_are_passed_over_in_folders_only(cli: Cli, tmp_path: Path) -> None:
    trail = write_trail(tmp_path / "audit.jsonl", [])
    log_file(tmp_path / "ct" / "log.json", [sign("x", START, eventName="ListKeys")])
    digest = tmp_path / "ct" / "CloudTrail-Digest" / "digest.json"
    digest.parent.mkdir()
    digest.write_text("{")
    config = tmp_path / "ct" / "config.json"
    config.write_text('{"configurationItems":[]}')
    ended = cli("audit", "reconcile", trail, "--cloudtrail", tmp_path / "ct", "-o", "json")
    assert (ended.status, ended.document["cloudTrail"]["skippedFiles"]) == (0, 1)
    ended = cli("audit", "reconcile", trail, "--cloudtrail", config)
    assert (ended.status, "none of CloudTrail's log files" in ended.out) == (1, True)
