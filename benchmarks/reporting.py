"""What a part of the benchmarks tells: tables, aims beside their results, plots; on the terminal, and as a page.

The page's layout depends on nothing but the results.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.measuring import Run

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
NOTES = Path(__file__).with_name("notes.md")

COST_COLUMNS = ("signer us", "KMS us", "load us", "signer cores", "KMS cores", "load cores")
_PROCESSES = ("signer", "kms", "load")


@dataclass(frozen=True)
class Table:
    """A table; the first column is text, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Aim:
    """An aim, in the issue's words, and what became of it."""

    text: str
    measured: str
    met: bool
    missed_by: str = ""
    estimate: str = ""
    """What the calibration makes of it on the machine of the project's facts."""


@dataclass(frozen=True)
class Plot:
    """A drawing, made by a function that is given the file's path."""

    name: str
    caption: str
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Section:
    """All that a part tells."""

    title: str
    text: str
    tables: Sequence[Table]
    aims: Sequence[Aim] = ()
    plots: Sequence[Plot] = ()


def milliseconds(seconds: float) -> str:
    """Write a duration."""
    return f"{seconds * 1e3:,.1f}" if seconds < 1 else f"{seconds * 1e3:,.0f}"


def costs(run: Run) -> list[str]:
    """Write CPU microseconds for each signature, and cores kept busy, of each process; for COST_COLUMNS."""
    spent = [f"{run.cost(name):,.0f}" if name in run.cpu else "-" for name in _PROCESSES]
    return [*spent, *(f"{run.cores(name):.2f}" if name in run.cpu else "-" for name in _PROCESSES)]


def at_least(text: str, value: float, bound: float, *, unit: str = "/s", scale: float | None = None) -> Aim:
    """Judge what should be large; `scale` is how much faster the machine of the facts is."""
    met = value >= bound
    return Aim(
        text,
        f"{value:,.0f}{unit}",
        met,
        "" if met else f"{bound - value:,.0f}{unit} ({1 - value / bound:.0%})",
        f"{value * scale:,.0f}{unit}" if scale else "",
    )


def at_most(text: str, value: float, bound: float, *, unit: str, scale: float | None = None) -> Aim:
    """Judge what should be small."""
    met = value <= bound
    return Aim(
        text,
        f"{_rounded(value)}{unit}",
        met,
        "" if met else f"{_rounded(value - bound)}{unit} ({value / bound - 1:.0%})",
        f"{_rounded(value / scale)}{unit}" if scale else "",
    )


def none(text: str, count: int) -> Aim:
    """Judge what should not happen."""
    return Aim(text, f"{count:,}", count == 0, "" if count == 0 else f"{count:,}")


def _rounded(value: float) -> str:
    """Write three digits or more."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004 - by powers of ten
    return f"{value:,.{digits}f}"


def show(section: Section, console: Console) -> None:
    """Print a section."""
    console.rule(section.title)
    for table in (*section.tables, *_aims(section.aims)):
        printed = RichTable(*table.columns, title=table.title or None)
        for row in table.rows:
            printed.add_row(*row)
        console.print(printed)


def notes() -> Mapping[str, str]:
    """Read what was written by hand about parts, by their names, which are the headings."""
    parts = re.split(r"^## (.+)$", NOTES.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))


def page(head: Iterable[str], sections: Mapping[str, Section]) -> str:
    """Write the page; `sections` by the names of their parts."""
    written = notes()
    aims = [aim for section in sections.values() for aim in section.aims]
    lines = ["# Benchmarks", "", *head, "", "## The aims and what became of them", "", *_table(*_aims(aims)), ""]
    lines += [written["aims"], ""]
    for name, section in sections.items():
        lines += _written(section)
        for plot in section.plots:
            lines += [f"![{plot.caption}](benchmarks/{plot.name}.svg)", ""]
        if name in written:
            lines += [written[name], ""]
    return "\n".join(lines).rstrip() + "\n"


def page_of_one(head: Iterable[str], section: Section) -> str:
    """Write a page with nothing but a section and its aims."""
    lines = ["# Benchmarks of the operator", "", *head, "", *_written(section)]
    for table in _aims(section.aims):
        lines += ["## The aims and what became of them", "", *_table(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _written(section: Section) -> list[str]:
    lines = [f"## {section.title}", "", section.text, ""]
    for table in section.tables:
        lines += [*([f"**{table.title}**", ""] if table.title else []), *_table(table), ""]
    return lines


def _aims(aims: Sequence[Aim]) -> list[Table]:
    if not aims:
        return []
    rows = [
        [aim.text, aim.measured, "met" if aim.met else f"missed by {aim.missed_by}", aim.estimate or "-"]
        for aim in aims
    ]
    return [Table("", ("aim", "measured", "result", "estimate, scaled"), rows)]


def _table(table: Table) -> list[str]:
    marks = ["---", *["---:"] * (len(table.columns) - 1)]
    return [_line(table.columns), _line(marks), *map(_line, table.rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
