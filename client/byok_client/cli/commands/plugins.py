"""Commands that other parts of the distribution bring, found by name and loaded only when they run."""

from importlib.metadata import EntryPoint, entry_points

import typer

from byok_client.cli.commands.extras import from_extra
from byok_client.cli.exits import Exit
from byok_client.cli.output import Format, unless_refused

GROUP = "byokctl.commands"

_HELP = {"sandbox": "Run an emulated KMS and a real signer on this machine, to play with (needs the extra 'sandbox')."}
# All of the arguments, --help too, are the loaded command's own.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer) -> None:
    """Add a command for each entry point of `byokctl.commands`, which is a Typer application."""
    for entry in entry_points(group=GROUP):
        _add(app, entry)


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    @app.command(entry.name, help=_HELP.get(entry.name), context_settings=_PASS_ON)
    def run(context: typer.Context) -> None:
        command = typer.main.get_command(from_extra(entry.name, entry.name, entry.load))
        status = unless_refused(
            lambda: command.main(context.args, prog_name=context.command_path, standalone_mode=False), Format.TEXT
        )
        raise typer.Exit(status or Exit.OK)
