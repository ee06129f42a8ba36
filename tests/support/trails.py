"""Audit trails to verify, made by the code that the signer uses."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import (
    Attempt,
    AuditEvent,
    ChainReport,
    Head,
    Kind,
    Outcome,
    TornLine,
    checkpoint,
    checkpoint_intent,
    seal,
    start_chain,
    statement,
    verify_chain,
)
from byok_api.signatures import spki_of

TIME = datetime(2026, 3, 4, 5, 6, 7, 890123, UTC)

SIGNED = AuditEvent(
    kind=Kind.OUTCOME,
    request_id="req-1",
    caller="system:serviceaccount:newsroom:photo-desk",
    recipe="newsroom/photo-v1@1",
    recipe_hash="3a" * 32,
    key="security/newsroom-2026",
    key_arn="arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    algorithm="ES256",
    manifest="urn:c2pa:9a6f1c1e-21f6-4bd5-8a0e-5f0c9bd28a53",
    claim_sha256="7f" * 32,
    outcome=Outcome.SIGNED,
    guarded=True,
    attempts=(Attempt(None, Outcome.UNKNOWN), Attempt("b1946ac9-2492-4d23-8b1f-3c59dcbbc1de", Outcome.SIGNED)),
)
INTENT = replace(SIGNED, kind=Kind.INTENT, outcome=None, attempts=())
SETTLED = replace(SIGNED, intent=1)
RENEWED = replace(INTENT, intent=1, attempts=(Attempt(None, Outcome.UNKNOWN),))
"""An intent that settles another, whose answer got lost."""
REPEATED = replace(SIGNED, repeats=2, attempts=())
CHECKPOINT_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
CHECKPOINT_INTENT = checkpoint_intent(
    "arn:aws:kms:eu-central-1:111122223333:key/0000abcd-12ab-34cd-56ef-1234567890ab", SigningAlgorithm.ED25519
)
DECIDED = replace(SIGNED, decision="0b5c8f5e-9f0e-4a0e-8f6c-3d1f6f6f2a10")
REFUSED = AuditEvent(kind=Kind.REFUSAL, caller="system:serviceaccount:sports:job", reason="KeyNotAllowed", suppressed=3)


def trail(
    events: int = 3,
    writer: str = "signer-a",
    *,
    predecessor: Head | None = None,
    torn: tuple[TornLine, ...] = (),
) -> tuple[list[bytes], Head]:
    """Make a chain start and that many events, one second apart: each kind in turn, each intent settled by the next."""
    line, head = start_chain(writer, time=TIME, predecessor=predecessor, torn=torn)
    lines = [line]
    for number in range(events):
        line, head = seal(_event(number % 6, head), head, time=TIME + timedelta(seconds=number + 1))
        lines.append(line)
    return lines, head


def _event(number: int, head: Head) -> AuditEvent:
    match number:
        case 0:
            return INTENT
        case 1:
            return replace(SIGNED, intent=head.sequence)
        case 2:
            return REFUSED
        case 3:
            return replace(REPEATED, repeats=head.sequence - 1)
        case 4:
            return CHECKPOINT_INTENT
        case _:
            return checkpointed(head)


def checkpointed(head: Head, key: Ed25519PrivateKey = CHECKPOINT_KEY) -> AuditEvent:
    """Make the checkpoint that settles the intent at `head`."""
    return checkpoint(
        CHECKPOINT_INTENT,
        head,
        spki=spki_of(key.public_key()),
        signature=key.sign(statement(head)),
        attempts=(Attempt("0000dead-2492-4d23-8b1f-3c59dcbbc1de", Outcome.SIGNED),),
    )


def sealed(*events: AuditEvent, writer: str = "signer-a", predecessor: Head | None = None) -> list[bytes]:
    """Make a chain start and these events."""
    line, head = start_chain(writer, time=TIME, predecessor=predecessor)
    lines = [line]
    for event in events:
        line, head = seal(event, head, time=TIME)
        lines.append(line)
    return lines


def rehashed(body: str) -> bytes:
    """Give any body the hash that it should have: what a forger who knows the format would write, without newline."""
    return f'{body},"hash":"{hashlib.sha256(body.encode()).hexdigest()}"}}'.encode()


def found(report: ChainReport) -> list[tuple[str, int]]:
    """List a report's findings as (kind, line)."""
    return [(finding.kind.value, finding.line) for finding in report.findings]


def verdict(lines: list[bytes], *, checkpoint_key: PublicKeyTypes | None = None) -> list[tuple[str, int]]:
    """Verify a trail and list its findings as (kind, line)."""
    return found(verify_chain(lines, checkpoint_key=checkpoint_key))
