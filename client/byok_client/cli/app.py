"""The tree of commands, and how each of them ends: a report, a refusal, wrong usage, or Ctrl-C."""

import re
import sys
from collections.abc import Sequence

import typer

from byok_client.cli.commands import auditor, cluster, key, media, plugins, recipe
from byok_client.cli.commands.help import as_is, group
from byok_client.cli.exits import MEANINGS, Exit
from byok_client.cli.output import Format, print_error

_EXIT_CODES = as_is("Exit codes", *(f"{code:>3d}  {meaning}" for code, meaning in MEANINGS.items()))

_HELP = """Sign media with C2PA Content Credentials, and look after the recipes, keys and records behind it.

Commands that call the signer find it by BYOK_SIGNER_ADDRESS, BYOK_SIGNER_CA_FILE and BYOK_SIGNER_TOKEN_FILE.
"""


def build() -> typer.Typer:
    """Make the tree of commands; those of extras are looked up by name and loaded when they run."""
    app = group(name="byokctl", help=_HELP, epilog=_EXIT_CODES)
    media.add_to(app)
    cluster.add_to(app)
    app.add_typer(recipe.app)
    app.add_typer(key.app)
    app.add_typer(auditor.app)
    plugins.add_to(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    command = typer.main.get_command(build())
    try:
        status = command.main(list(arguments), prog_name="byokctl", standalone_mode=False)
    except typer.TyperException as error:
        return _wrong_usage(error, _format_of(arguments))
    except typer.Abort:
        status = Exit.INTERRUPTED
    if status == Exit.INTERRUPTED:
        sys.stderr.write("byokctl: interrupted\n")
    return int(status or Exit.OK)


def _wrong_usage(error: typer.TyperException, output_format: Format) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "byokctl"
    message = " ".join(error.format_message().split())
    remedy = f"{command} --help shows what is expected."
    print_error({"reason": "Usage", "message": message, "remedy": remedy}, output_format)
    return Exit.USAGE


def _format_of(arguments: Sequence[str]) -> Format:
    """Say which format was asked for, although the command line may be too wrong to be parsed."""
    text = f" {' '.join(arguments)} "
    return Format.JSON if re.search(r" (?:-o ?=?|--format[ =])json ", text) else Format.TEXT
