"""The work of `byokctl audit verify`."""

import sys
from pathlib import Path
from typing import Any

from byok_api.audit import ChainReport, ChainSummary, Finding, bounded_lines, verify_chain
from byok_api.errors import Reason, Refusal
from byok_client.cli.exits import Exit
from byok_client.cli.findings import counted
from byok_client.cli.output import Line, Report, Table


def verify(file: Path) -> Report:
    """Verify a trail; Refusal InvalidRequest if the file cannot be read."""
    try:
        if str(file) == "-":
            found = verify_chain(bounded_lines(sys.stdin.buffer))
        else:
            with file.open("rb") as stream:
                found = verify_chain(bounded_lines(stream))
    except OSError as error:
        raise Refusal(Reason.InvalidRequest, f"audit file {file}: cannot be read: {error.strerror}") from error
    return Report(_document(found), _text(found), Exit.OK if found.intact else Exit.FAILED)


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
        "chains": [_chain(chain) for chain in found.chains],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {"line": finding.line, "kind": finding.kind.value, "message": finding.message}


def _chain(chain: ChainSummary) -> dict[str, Any]:
    return {
        "writer": chain.head.writer,
        "firstLine": chain.first_line,
        "lastLine": chain.last_line,
        "predecessor": str(chain.predecessor) if chain.predecessor else None,
        "head": str(chain.head.id),
        "headHash": chain.head.hash,
    }


def _text(found: ChainReport) -> list[Line | Table]:
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
    rows = [
        (str(c.head.id), f"{c.first_line}-{c.last_line}", str(c.predecessor or "-"), c.head.hash) for c in found.chains
    ]
    text.append(Table(("HEAD", "LINES", "CONTINUES", "HASH"), rows))
    return text
