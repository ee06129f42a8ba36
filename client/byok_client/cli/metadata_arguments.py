"""Metadata as a command line gives it: `name=value` options over a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from byok_api.assertions import ASSERTIONS
from byok_api.manifests import SIZE_LIMIT, load_documents
from byok_client.cli.manifest_files import read_bounded


def metadata_of(options: Sequence[str], file: Path | None) -> dict[str, Any]:
    """Read metadata: an option wins over the file. BadParameter for a malformed option, Refusal for a bad file.

    A value is text, unless the assertion of that name takes the true, false, list or mapping that it is as JSON.
    """
    values = _from_file(file) if file else {}
    given: dict[str, Any] = {}
    for option in options:
        name, separator, text = option.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{option[:80]!r} is not name=value", param_hint="--metadata")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice; write a list as JSON", param_hint="--metadata")
        given[name] = _value(name, text)
    return values | given


def _from_file(file: Path) -> dict[str, Any]:
    documents = load_documents(read_bounded(file, SIZE_LIMIT), str(file))
    if len(documents) != 1:
        raise typer.BadParameter(
            f"{file} holds {len(documents)} documents, not one mapping", param_hint="--metadata-file"
        )
    return dict(documents[0])


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - a JSON value
    row = ASSERTIONS.get(name)
    if row is None or not text.startswith(("true", "false", "[", "{")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if row.shape.read(value) is not None else text
