"""A checkpoint proves that the records above it were there when it was made: nobody makes it anew without the key."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import (
    AuditEvent,
    CheckpointError,
    Head,
    check_checkpoint,
    checkpoint,
    checkpoint_intent,
    read_record,
    seal,
    statement,
    verify_chain,
)
from byok_api.signatures import spki_of, spki_sha256
from tests.support.pki import identity
from tests.support.trails import CHECKPOINT_KEY, SIGNED, TIME, checkpointed, trail, verdict

LINES, HEAD = trail(8)
KEY = CHECKPOINT_KEY.public_key()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
INTENDED = read_record(LINES[5][:-1]).head


def test_what_is_signed_is_text_that_names_the_head() -> None:
    assert statement(Head("signer-a", 5, "ab" * 32)) == b"byok audit checkpoint v1\nsigner-a/5\n" + b"ab" * 32 + b"\n"


def test_what_is_signed_is_no_claim_and_no_certificate_request() -> None:
    # A Sig_structure begins with a CBOR array of four (RFC 9052, 4.4), a request with a DER SEQUENCE (RFC 2986).
    assert statement(HEAD)[0] not in {0x84, 0x9F, 0x30}


def test_a_valid_checkpoint_is_counted_with_its_key_and_what_it_covers() -> None:
    report = verify_chain(LINES, checkpoint_key=KEY)
    assert (report.intact, report.checkpoint_keys) == (True, {spki_sha256(KEY): 1})
    assert report.chains[0].signed == INTENDED


def test_without_the_key_checkpoints_are_checked_with_the_key_they_name() -> None:
    report = verify_chain(LINES)
    assert (report.intact, report.checkpoint_keys) == (True, {spki_sha256(KEY): 1})


def test_a_checkpoint_by_another_key_is_found() -> None:
    assert verdict(LINES, checkpoint_key=OTHER.public_key()) == [
        ("CheckpointInvalid", 7),
        ("CheckpointMissing", 9),
    ]


def test_a_trail_without_checkpoints_does_not_pass_for_one_with() -> None:
    assert verdict(trail(3)[0], checkpoint_key=KEY) == [("CheckpointMissing", 4)]
    assert verdict(trail(3)[0]) == []


def remade(place: int, event: AuditEvent, checkpoint_line: int = 6) -> list[bytes]:
    """Make a trail anew from `place` on, as someone would who can write the file and not sign."""
    lines = LINES[:place]
    head = read_record(lines[-1][:-1]).head
    for number in range(place, len(LINES)):
        old = read_record(LINES[number][:-1]).event
        assert isinstance(old, AuditEvent)
        line, head = seal(event if number == place else old, head, time=TIME)
        lines.append(line)
    assert read_record(lines[checkpoint_line][:-1]).kind == "checkpoint"
    return lines


@pytest.mark.parametrize("place", range(1, 6))
def test_a_trail_made_anew_before_a_checkpoint_is_found_at_the_checkpoint(place: int) -> None:
    old = read_record(LINES[place][:-1]).event
    assert isinstance(old, AuditEvent)
    assert verdict(remade(place, replace(old, request_id="another"))) == [("CheckpointInvalid", 7)]


def test_whoever_makes_a_checkpoint_anew_needs_the_key() -> None:
    head = read_record(remade(2, replace(SIGNED, intent=1, caller="nobody"))[5][:-1]).head
    lines = remade(2, replace(SIGNED, intent=1, caller="nobody"))[:6]
    line, _ = seal(checkpointed(head, OTHER), head, time=TIME)
    assert verdict([*lines, line]) == []
    assert ("CheckpointInvalid", 7) in verdict([*lines, line], checkpoint_key=KEY)


def test_a_checkpoint_whose_intent_is_missing_covers_nothing() -> None:
    report = verify_chain(LINES[6:])
    assert [finding.kind for finding in report.findings] == ["ChainStartMissing"]
    assert (report.chains[0].signed, report.checkpoint_keys) == (None, {spki_sha256(KEY): 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": base64.b64encode(bytes(64)).decode()},
        {"signature": "not base64"},
        {"signature": ""},
        {"public_key": "AAAA"},
        {"public_key": base64.b64encode(spki_of(OTHER.public_key())).decode()},
        {"algorithm": "ES256"},
        {"algorithm": "none"},
        {"algorithm": None},
        {"head": "signer-a/4"},
        {"head": "signer-a/5\n"},
        {"head_hash": "cd" * 32},
        {"head": "signer-a/5\n" + "ab" * 32},
    ],
)
def test_a_checkpoint_of_which_anything_is_wrong_is_refused(changes: dict[str, Any]) -> None:
    event = replace(checkpointed(INTENDED), **changes)
    for head in (INTENDED, None):
        with pytest.raises(CheckpointError):
            check_checkpoint(event, head=head, key=None)


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_every_kind_of_key_makes_checkpoints(algorithm: SigningAlgorithm) -> None:
    key = identity(algorithm)
    event = checkpoint(
        checkpoint_intent("arn:aws:kms:eu-central-1:111122223333:key/1", algorithm),
        INTENDED,
        spki=spki_of(key.public_key),
        signature=key.sign(statement(INTENDED)),
        attempts=SIGNED.attempts,
    )
    assert check_checkpoint(event, head=INTENDED, key=key.public_key) == spki_sha256(key.public_key)
