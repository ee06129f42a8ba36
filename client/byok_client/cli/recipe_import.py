"""The work of `byokctl recipe import`."""

from pathlib import Path

import typer
import yaml

from byok_api import portable
from byok_api.manifests import SIZE_LIMIT
from byok_api.references import ObjectName
from byok_client.cli.manifest_files import read_bounded
from byok_client.cli.output import Line, Report


def import_recipe(file: Path, key: str | None, namespace: str | None) -> Report:
    """Make a manifest of a portable recipe; Refusal with every finding if it is none."""
    try:
        name = ObjectName.parse(key) if key is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from None
    manifest = portable.import_recipe(read_bounded(file, SIZE_LIMIT), str(file), namespace=namespace, key=name)
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    return Report(manifest, [Line(line) for line in text.splitlines()])
