"""Findings as a report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from byok_client.cli.exits import Exit
from byok_client.cli.manifest_files import Problem, Severity
from byok_client.cli.output import Line, Report

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: ""}


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def report_of(problems: Sequence[Problem], facts: Mapping[str, Any], summary: str) -> Report:
    """Make a report of findings, with further `facts` for programs; errors make it fail."""
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    warnings = sum(problem.severity is Severity.WARNING for problem in problems)
    verdict = f"{summary}: {counted(errors, 'error')}, {counted(warnings, 'warning')}"
    return Report(
        {"ok": not errors, **facts, "findings": [asdict(problem) for problem in problems]},
        [
            *(Line(str(problem), _STYLES[problem.severity]) for problem in problems),
            Line(verdict, "bold red" if errors else "bold green"),
        ],
        Exit.FAILED if errors else Exit.OK,
    )
