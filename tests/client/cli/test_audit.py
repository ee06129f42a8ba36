"""`byokctl audit verify`: damage is found and told."""

import io
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from byok_api.audit import start_chain
from byok_api.signatures import spki_sha256
from tests.support.command_line import Cli
from tests.support.trails import CHECKPOINT_INTENT, CHECKPOINT_KEY, INTENT, REFUSED, TIME, sealed, trail


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


def test_each_chain_is_told_with_its_pod(cli: Cli, tmp_path: Path) -> None:
    line, head = start_chain("signer-a", time=TIME, pod="byok-signer-0")
    after, _ = start_chain("signer-b", time=TIME, pod="byok-signer-0", predecessor=head)
    path = _file(tmp_path, [line, after])
    assert "signer-b/0  byok-signer-0  2-2    signer-a/0" in cli("audit", "verify", path).out
    chains = cli("audit", "verify", path, "-o", "json").document["chains"]
    assert [(chain["pod"], chain["predecessor"]) for chain in chains] == [
        ("byok-signer-0", None),
        ("byok-signer-0", "signer-a/0"),
    ]


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


def test_intents_without_outcome_are_listed_and_no_failure(cli: Cli, tmp_path: Path) -> None:
    ended = cli("audit", "verify", _file(tmp_path, sealed(INTENT, CHECKPOINT_INTENT, REFUSED)))
    assert (ended.status, ended.out.splitlines()[0]) == (0, "intact")
    assert "intents without outcome: 2 (a crash, or under way; KMS may have signed)\n" in ended.out
    rows = [line.split() for line in ended.out.splitlines() if line.startswith(("2 ", "3 "))]
    assert rows[0][:2] == ["2", "signer-a/1"]
    assert rows[0][4:] == [INTENT.caller, INTENT.recipe, INTENT.key, INTENT.manifest]
    assert rows[1][4:] == ["(checkpoint)", "-", CHECKPOINT_INTENT.key_arn, "-"]


def test_intents_and_unknown_attempts_are_in_the_document(cli: Cli, tmp_path: Path) -> None:
    document = cli("audit", "verify", _file(tmp_path, trail(7)[0]), "-o", "json").document
    assert (document["intentsWithoutOutcomeCount"], document["unknownAttempts"]) == (1, 1)
    assert document["intentsWithoutOutcome"] == [
        {
            "line": 8,
            "id": "signer-a/7",
            "time": "2026-03-04T05:06:14.890123+00:00",
            "caller": INTENT.caller,
            "recipe": INTENT.recipe,
            "key": INTENT.key,
            "keyArn": INTENT.key_arn,
            "manifest": INTENT.manifest,
        }
    ]


def test_more_intents_than_are_listed_are_counted(cli: Cli, tmp_path: Path) -> None:
    ended = cli("audit", "verify", _file(tmp_path, sealed(*[INTENT] * 1005)))
    assert "intents without outcome: 1005 " in ended.out
    assert "\nand 5 more intents\n" in ended.out


def _pem(path: Path, key: Ed25519PrivateKey) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def test_checkpoints_are_told_with_their_key(cli: Cli, tmp_path: Path) -> None:
    path, fingerprint = _file(tmp_path, trail(7)[0]), spki_sha256(CHECKPOINT_KEY.public_key())
    ended = cli("audit", "verify", path)
    assert f"1 checkpoint signed by the key whose SPKI has the SHA-256 {fingerprint}; compare it" in ended.out
    document = cli("audit", "verify", path, "-o", "json").document
    assert document["checkpointKeys"] == [{"spkiSha256": fingerprint, "checkpoints": 1}]
    assert document["chains"][0]["signedUpTo"] == "signer-a/5"


def test_checkpoints_are_checked_with_the_key_that_is_given(cli: Cli, tmp_path: Path) -> None:
    path = _file(tmp_path, trail(7)[0])
    good = cli("audit", "verify", path, "--checkpoint-key", _pem(tmp_path / "good.pem", CHECKPOINT_KEY))
    assert (good.status, "compare it" in good.out) == (0, False)
    other = Ed25519PrivateKey.generate()
    bad = cli("audit", "verify", path, "--checkpoint-key", _pem(tmp_path / "other.pem", other))
    assert bad.status == 1
    assert "line 7: CheckpointInvalid: " in bad.out
    assert "line 8: CheckpointMissing: " in bad.out


@pytest.mark.parametrize(
    "content", [None, b"", b"junk", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_checkpoint_key_that_is_none_is_refused_by_name(cli: Cli, tmp_path: Path, content: bytes | None) -> None:
    key = tmp_path / "key.pem"
    if content is not None:
        key.write_bytes(content)
    ended = cli("audit", "verify", _file(tmp_path, trail(1)[0]), "--checkpoint-key", key)
    assert (ended.status, ended.out) == (1, "")
    assert f"checkpoint key {key}: " in ended.err
