"""Every command of docs/auditors.md runs as it stands there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from byok_api.audit import AuditEvent, Head, read_record
from tests.support.cloudtrail import log_file, sign
from tests.support.command_line import Cli
from tests.support.trail_files import write_trail
from tests.support.trails import CHECKPOINT_INTENT, CHECKPOINT_KEY, INTENT, SETTLED, TIME, checkpointed

REPOSITORY = Path(__file__).parent.parent.parent.parent
BLOCKS = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "docs" / "auditors.md").read_text(), re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line]


def _events(recorded: AuditEvent) -> list[dict[str, Any]]:
    changes = {"resources": [{"ARN": recorded.key_arn}], "awsRegion": "eu-central-1"}
    request_ids = (attempt.kms_request_id for attempt in recorded.attempts)
    return [sign(request_id, TIME.timestamp() + 2, **changes) for request_id in request_ids if request_id]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the page speaks of: a trail with a checkpoint, two more, CloudTrail's, a public key."""
    monkeypatch.chdir(tmp_path)
    announced = write_trail(tmp_path / "audit.jsonl", [INTENT, SETTLED, CHECKPOINT_INTENT]).read_bytes().splitlines()
    record = read_record(announced[-1])
    head = Head(record.writer, record.sequence, record.hash)
    write_trail(tmp_path / "audit.jsonl", [INTENT, SETTLED, CHECKPOINT_INTENT, checkpointed(head)])
    log = tmp_path / "AWSLogs" / "CloudTrail" / "log.json.gz"
    log_file(log, [*_events(SETTLED), *_events(checkpointed(head))])
    for name in ("signer-0", "signer-1"):
        write_trail(tmp_path / f"{name}.jsonl", [], name)
    public_key = CHECKPOINT_KEY.public_key()
    (tmp_path / "checkpoints.pem").write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_the_page_shows_each_command() -> None:
    assert {" ".join(command.split()[:3]) for command in COMMANDS} == {
        "byokctl audit verify",
        "byokctl audit reconcile",
        "byokctl audit report",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_it_runs(cli: Cli, command: str) -> None:
    program, *arguments = shlex.split(command)
    ended = cli(*arguments)
    assert (program, ended.status, bool(ended.out)) == ("byokctl", 0, True)
