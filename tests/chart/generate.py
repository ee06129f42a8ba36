"""Write what is made from values.yaml, or check it: `python -m tests.chart.generate [--check]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chart.definitions import definitions
from tests.chart.values_source import SourceError, Value, read

CHART = Path(__file__).parents[2] / "charts" / "byok-operator"
COMMAND = "python -m tests.chart.generate"
_BEGIN, _END = "<!-- values: made from values.yaml -->\n", "<!-- end of values -->\n"


def schema(values: Sequence[Value]) -> dict[str, Any]:
    """Make values.schema.json."""
    root = _group(values)
    # Helm adds it where the chart is a part of another one.
    root["properties"] = {"global": {"type": "object"}, **root["properties"]}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **root, "definitions": definitions()}


def table(values: Sequence[Value]) -> str:
    """Make the README's table."""
    rows = ["| value | default | |", "|---|---|---|"]
    for value in values:
        rows += _rows(value)
    return "\n".join(rows) + "\n"


def generated(chart: Path) -> dict[Path, str]:
    """Make every generated file of the chart; SourceError."""
    values = read((chart / "values.yaml").read_text())
    readme = (chart / "README.md").read_text()
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SourceError(f"README.md: the lines {_BEGIN.strip()} and {_END.strip()} are missing")
    return {
        chart / "values.schema.json": json.dumps(schema(values), indent=2) + "\n",
        chart / "README.md": f"{before}{_BEGIN}\n{table(values)}\n{_END}{after}",
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is well."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the chart's values.schema.json and README.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; name each stale file and exit 1")
    parser.add_argument("--chart", type=Path, default=CHART, help="folder of the chart")
    options = parser.parse_args(arguments)
    try:
        files = generated(options.chart)
    except SourceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        if options.check:
            sys.stderr.write(f"{path.name} is not what values.yaml yields; run: {COMMAND}\n")
        else:
            path.write_text(files[path])
    return 1 if options.check and stale else 0


def _group(values: Sequence[Value]) -> dict[str, Any]:
    # What helm takes out, because somebody set it to null, a template would miss.
    names = [value.path[-1] for value in values]
    properties = {value.path[-1]: _described(value) for value in values}
    return {"type": "object", "additionalProperties": False, "required": names, "properties": properties}


def _described(value: Value) -> dict[str, Any]:
    inner = dict(value.schema) if value.schema is not None else _group(value.members)
    # Beside a $ref draft 7 allows nothing.
    return inner if "$ref" in inner else {"description": value.meaning, **inner}


def _rows(value: Value) -> list[str]:
    meaning = value.meaning.replace("|", "\\|")
    if value.schema is None:
        return [f"| **`{value.name}`** | | {meaning} |", *(row for member in value.members for row in _rows(member))]
    default = json.dumps(value.default).replace("|", "\\|")
    return [f"| `{value.name}` | `{default}` | {meaning} |"]


if __name__ == "__main__":
    sys.exit(main())
