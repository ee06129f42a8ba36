"""The work of `byokctl audit verify`."""

import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from byok_api.audit import ChainReport, ChainSummary, Finding, OpenIntent, bounded_lines, verify_chain
from byok_api.errors import Reason, Refusal
from byok_client.cli.exits import Exit
from byok_client.cli.findings import counted
from byok_client.cli.output import Line, Report, Table

_KEY_LIMIT = 64 * 1024


def verify(file: Path, checkpoint_key: Path | None = None) -> Report:
    """Verify a trail, its checkpoints with a public key in PEM; Refusal InvalidRequest if a file cannot be read."""
    key = _public_key(checkpoint_key) if checkpoint_key else None
    try:
        if str(file) == "-":
            found = verify_chain(bounded_lines(sys.stdin.buffer), checkpoint_key=key)
        else:
            with file.open("rb") as stream:
                found = verify_chain(bounded_lines(stream), checkpoint_key=key)
    except OSError as error:
        raise Refusal(Reason.InvalidRequest, f"audit file {file}: cannot be read: {error.strerror}") from error
    return Report(_document(found), _text(found, known=key is not None), Exit.OK if found.intact else Exit.FAILED)


def _public_key(path: Path) -> PublicKeyTypes:
    try:
        with path.open("rb") as stream:
            pem = stream.read(_KEY_LIMIT + 1)
    except OSError as error:
        raise Refusal(Reason.InvalidRequest, f"checkpoint key {path}: cannot be read: {error.strerror}") from error
    try:
        if len(pem) <= _KEY_LIMIT:
            return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        pass  # refused below
    message = f"checkpoint key {path}: expected one public key in PEM (-----BEGIN PUBLIC KEY-----)"
    raise Refusal(Reason.InvalidRequest, message)


def _document(found: ChainReport) -> dict[str, Any]:
    return {
        "intact": found.intact,
        "lines": found.lines,
        "records": found.records,
        "kinds": dict(found.kinds),
        "sealedLines": found.sealed,
        "tornLine": found.torn,
        "findingCount": found.finding_count,
        "findings": [_finding(finding) for finding in found.findings],
        "intentsWithoutOutcomeCount": found.intent_count,
        "intentsWithoutOutcome": [_intent(intent) for intent in found.intents],
        "unknownAttempts": found.unknown,
        "checkpointKeys": [{"spkiSha256": key, "checkpoints": count} for key, count in found.checkpoint_keys.items()],
        "chains": [_chain(chain) for chain in found.chains],
    }


def _intent(intent: OpenIntent) -> dict[str, Any]:
    return {
        "line": intent.line,
        "id": str(intent.id),
        "time": intent.time.isoformat(),
        "caller": intent.caller,
        "recipe": intent.recipe,
        "key": intent.key,
        "keyArn": intent.key_arn,
        "manifest": intent.manifest,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {"line": finding.line, "kind": finding.kind.value, "message": finding.message}


def _chain(chain: ChainSummary) -> dict[str, Any]:
    return {
        "writer": chain.head.writer,
        "pod": chain.pod,
        "firstLine": chain.first_line,
        "lastLine": chain.last_line,
        "predecessor": str(chain.predecessor) if chain.predecessor else None,
        "head": str(chain.head.id),
        "headHash": chain.head.hash,
        "signedUpTo": str(chain.signed.id) if chain.signed else None,
    }


def _text(found: ChainReport, *, known: bool) -> list[Line | Table]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.kinds.items()))
    text: list[Line | Table] = [
        Line("intact", "bold green")
        if found.intact
        else Line(f"not intact: {counted(found.finding_count, 'finding')}", "bold red"),
        Line(f"{counted(found.records, 'record')} on {counted(found.lines, 'line')}: {kinds or 'none'}"),
    ]
    if found.torn is not None:
        text.append(Line(f"line {found.torn} is incomplete: a crash, or a record that is being written", "yellow"))
    if found.sealed:
        text.append(Line(f"cut off by a crash, and accounted for: {counted(found.sealed, 'line')}"))
    text += [Line(f"line {item.line}: {item.kind.value}: {item.message}", "red") for item in found.findings]
    if found.finding_count > len(found.findings):
        text.append(Line(f"and {found.finding_count - len(found.findings)} more findings", "red"))
    text += [*_unsettled(found), *_checkpoints(found, known=known)]
    rows = [
        (
            str(c.head.id),
            c.pod or "-",
            f"{c.first_line}-{c.last_line}",
            str(c.predecessor or "-"),
            str(c.signed.id) if c.signed else "-",
            c.head.hash,
        )
        for c in found.chains
    ]
    text.append(Table(("HEAD", "POD", "LINES", "CONTINUES", "SIGNED UP TO", "HASH"), rows))
    return text


def _unsettled(found: ChainReport) -> list[Line | Table]:
    """Tell of what KMS may have signed although no record says so: a crash or an outage, no tampering."""
    text: list[Line | Table] = []
    if found.unknown:
        text.append(Line(f"KMS may have signed, and did not answer: {counted(found.unknown, 'attempt')}", "yellow"))
    if found.intent_count:
        heading = f"intents without outcome: {found.intent_count} (a crash, or under way; KMS may have signed)"
        rows = [
            (
                str(intent.line),
                str(intent.id),
                f"{intent.time:%Y-%m-%d %H:%M:%S}Z",
                intent.caller or "(checkpoint)",
                intent.recipe or "-",
                intent.key or intent.key_arn or "-",
                intent.manifest or "-",
            )
            for intent in found.intents
        ]
        text += [
            Line(heading, "yellow"),
            Table(("LINE", "INTENT", "TIME", "CALLER", "RECIPE", "KEY", "MANIFEST"), rows),
        ]
        if found.intent_count > len(found.intents):
            text.append(Line(f"and {found.intent_count - len(found.intents)} more intents", "yellow"))
    return text


def _checkpoints(found: ChainReport, *, known: bool) -> list[Line]:
    compare = "" if known else "; compare it with the key that you know, or give that with --checkpoint-key"
    return [
        Line(f"{counted(count, 'checkpoint')} signed by the key whose SPKI has the SHA-256 {key}{compare}")
        for key, count in found.checkpoint_keys.items()
    ]
