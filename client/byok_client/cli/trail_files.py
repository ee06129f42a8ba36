"""Trails as `byokctl audit` reads them: several files, one after the other, verified as one."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from byok_api.audit import AuditRecord, ChainReport, bounded_lines, looks_torn
from byok_api.audit.reading import read_trail
from byok_api.errors import Reason, Refusal
from byok_client.cli.findings import counted
from byok_client.cli.output import Line

_SHOWN = 5


@dataclass(frozen=True)
class TrailVerdict:
    """How the trail that was read stands."""

    report: ChainReport
    left_out: int
    """Records that repeat earlier ones or stand in the wrong place, and were not counted."""
    torn: Sequence[Path]
    """Files that end in an incomplete line."""
    places: Callable[[int], str]
    """Where a line of the whole is: file and line."""

    @property
    def intact(self) -> bool:
        """Whether nothing was altered, removed, repeated, reordered or replaced."""
        return self.report.intact

    def document(self) -> dict[str, Any]:
        """Make the JSON form."""
        return {
            "intact": self.intact,
            "records": self.report.records,
            "leftOut": self.left_out,
            "tornFiles": [str(path) for path in self.torn],
            "findingCount": self.report.finding_count,
            "findings": [
                {"place": self.places(finding.line), "kind": finding.kind.value, "message": finding.message}
                for finding in self.report.findings
            ],
        }

    def warnings(self) -> list[Line]:
        """Say loudly what is wrong, and quietly what a crash did."""
        lines = [
            Line(f"{_name(path)}: the last line is incomplete: a crash, or it is being written") for path in self.torn
        ]
        if self.intact:
            return lines
        report = self.report
        message = f"the trail is not intact ({counted(report.finding_count, 'finding')}): do not rely on what follows"
        lines.append(Line(message, "bold red"))
        lines += [
            Line(f"  {self.places(finding.line)}: {finding.kind.value}: {finding.message}", "red")
            for finding in report.findings[:_SHOWN]
        ]
        if report.finding_count > _SHOWN:
            lines.append(Line(f"  and {report.finding_count - _SHOWN} more; byokctl audit verify lists them", "red"))
        if self.left_out:
            lines.append(Line(f"  repeated or out of place, and left out: {counted(self.left_out, 'record')}", "red"))
        return lines


def read_trails(files: Sequence[Path], take: Callable[[AuditRecord], None]) -> TrailVerdict:
    """Verify trails, `-` being standard input, and hand over their records; Refusal if a file cannot be read.

    They are read in the order given as if they stood in one file, so that a chain may go on in the next one.
    """
    reader = _Reader(files)
    report, left_out = read_trail(reader.lines(), take)
    return TrailVerdict(report, left_out, reader.torn, reader.place)


class _Reader:
    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._starts: list[tuple[int, Path]] = []
        self.torn: list[Path] = []

    def lines(self) -> Iterator[bytes]:
        number, fragment = 1, b""
        for path in self._files:
            begun = False
            for line in _lines(path):
                if fragment:
                    # Where a collector cut the trail into files, the next one may begin with what accounts for this.
                    if b'"torn":[' in line:
                        yield fragment + b"\n"
                        number += 1
                    else:
                        self.torn.append(self._starts[-1][1])
                    fragment = b""
                if not begun:
                    self._starts.append((number, path))
                    begun = True
                if line.endswith(b"\n") or not looks_torn(line):
                    yield line
                    number += 1
                else:
                    fragment = line
        if fragment:
            self.torn.append(self._starts[-1][1])
            yield fragment

    def place(self, line: int) -> str:
        index = bisect_right(self._starts, line, key=itemgetter(0)) - 1
        if index < 0:
            return "nothing"
        start, path = self._starts[index]
        return f"{_name(path)}, line {line - start + 1}"


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        if str(path) == "-":
            yield from bounded_lines(sys.stdin.buffer)
        else:
            with path.open("rb") as stream:
                yield from bounded_lines(stream)
    except OSError as error:
        raise Refusal(Reason.InvalidRequest, f"audit file {path}: cannot be read: {error.strerror}") from error
