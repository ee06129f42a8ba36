"""What a command prints: text for people, or one JSON document for programs, both on standard output."""

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from byok_client.cli.exits import Exit
from byok_client.cli.interruption import interrupt_on_ctrl_c

_T = TypeVar("_T")


class Format(StrEnum):
    """How results and errors are printed."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("-o", "--format", help="Print text, or one JSON document (errors too) on standard output.")
]


def printable(text: str) -> str:
    r"""Write control and invisible characters as \x1b: what an asset or manifest says must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class Line:
    """A line of text, made printable; `style` is rich's, such as `green` or `bold red`."""

    text: str
    style: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))


@dataclass(frozen=True)
class Table:
    """Rows under a heading."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """What a command has to say, in both forms, and how it ends."""

    document: Mapping[str, Any]
    text: Sequence[Line | Table]
    exit: Exit = Exit.OK


def remedy_lines(message: str, remedy: str | None, *, indent: str = "  ") -> list[Line]:
    """Tell what to do, unless the message has said it already."""
    return [Line(f"{indent}{remedy}")] if remedy and remedy not in message else []


def answer(work: Callable[[], Report], output_format: Format) -> NoReturn:
    """Do a command's work, print its report or why it was refused, and end the command with its status."""
    show(unless_refused(work, output_format), output_format)


def unless_refused(work: Callable[[], _T], output_format: Format) -> _T:
    """Do something; a refusal is printed and ends the command with its status."""
    from byok_client.cli.refusals import Refusal, exit_of, explain  # noqa: PLC0415 - grpc, which help does without

    interrupt_on_ctrl_c()
    try:
        return work()
    except Refusal as refusal:
        print_error(explain(refusal), output_format)
        raise typer.Exit(exit_of(refusal)) from None


def show(report: Report, output_format: Format) -> NoReturn:
    """Print a report and end the command with its status."""
    try:
        if output_format is Format.JSON:
            print_json(report.document)
        else:
            _print_text(report.text)
        # Here a reader that has gone (| head) is still typer's to handle; at the interpreter's end it is a traceback.
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        _give_up_stdout(error)
        raise typer.Exit(Exit.FAILED) from None
    if report.exit is Exit.TERMINATED:
        sys.stderr.write("byokctl: terminated\n")
    raise typer.Exit(report.exit)


def _give_up_stdout(error: OSError) -> None:
    sys.stderr.write(
        f"byokctl: what was done is done, but standard output does not take the report: {error.strerror}\n"
    )
    # What is left in the buffer would fail once more when the interpreter ends.
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path of ours
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on standard output, in ASCII: no file name or manifest can make it unprintable."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def print_error(error: Mapping[str, Any], output_format: Format) -> None:
    """Print an error: `{"error": ...}` on standard output, or reason, message and remedy on standard error."""
    if output_format is Format.JSON:
        print_json({"error": error})
        return
    sys.stderr.write(f"byokctl: {printable(error['reason'])}: {printable(error['message'])}\n")
    for line in remedy_lines(error["message"], error.get("remedy")):
        sys.stderr.write(f"{line.text}\n")


def _print_text(parts: Sequence[Line | Table]) -> None:
    from rich.console import Console  # noqa: PLC0415 - loaded when there is something to print
    from rich.text import Text  # noqa: PLC0415 - same

    console = Console(highlight=False, markup=False, emoji=False)
    for part in parts:
        lines = [part] if isinstance(part, Line) else _aligned(part)
        for line in lines:
            # Unfolded, so that what is printed can be pasted and searched.
            console.print(Text(line.text, style=line.style), soft_wrap=True)


def _aligned(table: Table) -> list[Line]:
    if not table.rows:
        return []
    rows = [[printable(cell) for cell in row] for row in (table.heading, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [Line(text, "" if index else "bold") for index, text in enumerate(texts)]
