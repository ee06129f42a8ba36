"""Rows of any number as text, CSV or JSON, written as they come."""

import csv
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, TextIO

from byok_client.cli.output import printable

_SAMPLE = 1000
"""Rows by which the columns of a text are laid out; longer cells further down stick out."""
# OWASP, "CSV Injection": what a spreadsheet takes for the beginning of a formula, the full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class SheetFormat(StrEnum):
    """How rows are printed."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"


class Sheet(Protocol):
    """A table that is written row by row."""

    def add(self, row: Sequence[str | int]) -> None:
        """Write a row."""

    def end(self, rest: Mapping[str, Any]) -> None:
        """Write what is left; `rest` goes into the JSON document, beside the rows."""


def sheet(form: SheetFormat, out: TextIO, name: str, columns: Sequence[str]) -> Sheet:
    """Begin a table; `name` and `columns` are JSON's names of the rows and of their fields."""
    match form:
        case SheetFormat.TEXT:
            return _Text(out, columns)
        case SheetFormat.CSV:
            return _Csv(out, columns)
        case SheetFormat.JSON:
            return _Json(out, name, columns)


def safe_cell(cell: str | int) -> str | int:
    """Make a cell that no spreadsheet takes for a formula and no terminal for a command."""
    if isinstance(cell, int):
        return cell
    text = printable(cell)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


class _Text:
    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._out = out
        self._heading = [_heading(column) for column in columns]
        self._sample: list[list[str]] = []
        self._widths: list[int] = []

    def add(self, row: Sequence[str | int]) -> None:
        cells = [printable(str(cell)) or "-" for cell in row]
        if self._widths:
            self._write(cells)
            return
        self._sample.append(cells)
        if len(self._sample) >= _SAMPLE:
            self._lay_out()

    def end(self, rest: Mapping[str, Any]) -> None:  # noqa: ARG002 - told in sentences
        if self._sample:
            self._lay_out()

    def _lay_out(self) -> None:
        columns = zip(self._heading, *self._sample, strict=True)
        self._widths = [max(map(len, column)) for column in columns]
        for cells in (self._heading, *self._sample):
            self._write(cells)
        self._sample = []

    def _write(self, cells: Sequence[str]) -> None:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        self._out.write("  ".join(padded).rstrip() + "\n")


def _heading(column: str) -> str:
    """Write JSON's camelCase as the heading of a column."""
    return "".join(f" {c}" if c.isupper() else c for c in column).upper()


class _Csv:
    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._writer.writerow(columns)

    def add(self, row: Sequence[str | int]) -> None:
        self._writer.writerow([safe_cell(cell) for cell in row])

    def end(self, rest: Mapping[str, Any]) -> None:
        """Write nothing: a table is all that CSV has."""


class _Json:
    def __init__(self, out: TextIO, name: str, columns: Sequence[str]) -> None:
        self._out = out
        self._columns = columns
        self._separator = "\n"
        out.write(f'{{\n  "{name}": [')

    def add(self, row: Sequence[str | int]) -> None:
        fields = {column: cell for column, cell in zip(self._columns, row, strict=True) if cell != ""}
        self._out.write(f"{self._separator}    {json.dumps(fields)}")
        self._separator = ",\n"

    def end(self, rest: Mapping[str, Any]) -> None:
        document = json.dumps(rest, indent=2, default=str)
        self._out.write("\n  ]" + ("," + document[1:] if rest else "\n}") + "\n")
