"""Audit trails to verify, made by the code that the signer uses."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from byok_api.audit import (
    Attempt,
    AuditEvent,
    ChainReport,
    Head,
    Kind,
    Outcome,
    TornLine,
    seal,
    start_chain,
    verify_chain,
)

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
REPEATED = replace(SIGNED, repeats=2, attempts=())
CHECKPOINT = AuditEvent(
    kind=Kind.CHECKPOINT,
    intent=5,
    key_arn="arn:aws:kms:eu-central-1:111122223333:key/0000abcd-12ab-34cd-56ef-1234567890ab",
    algorithm="ES256",
    outcome=Outcome.SIGNED,
    attempts=(Attempt("0000dead-2492-4d23-8b1f-3c59dcbbc1de", Outcome.SIGNED),),
    head="signer-a/5",
    head_hash="9c" * 32,
    public_key="MFkw",
    signature="c2ln",
)
REFUSED = AuditEvent(kind=Kind.REFUSAL, caller="system:serviceaccount:sports:job", reason="KeyNotAllowed", suppressed=3)


def trail(
    events: int = 3,
    writer: str = "signer-a",
    *,
    predecessor: Head | None = None,
    torn: tuple[TornLine, ...] = (),
) -> tuple[list[bytes], Head]:
    """Make a chain start and that many events, one second apart."""
    line, head = start_chain(writer, time=TIME, predecessor=predecessor, torn=torn)
    lines = [line]
    for number in range(events):
        line, head = seal(REFUSED if number % 3 == 2 else SIGNED, head, time=TIME + timedelta(seconds=number + 1))
        lines.append(line)
    return lines, head


def rehashed(body: str) -> bytes:
    """Give any body the hash that it should have: what a forger who knows the format would write, without newline."""
    return f'{body},"hash":"{hashlib.sha256(body.encode()).hexdigest()}"}}'.encode()


def found(report: ChainReport) -> list[tuple[str, int]]:
    """List a report's findings as (kind, line)."""
    return [(finding.kind.value, finding.line) for finding in report.findings]


def verdict(lines: list[bytes]) -> list[tuple[str, int]]:
    """Verify a trail and list its findings as (kind, line)."""
    return found(verify_chain(lines))
