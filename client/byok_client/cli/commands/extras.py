"""What a command needs beyond the SDK's own requirements: named, and how to install it, where it is missing."""

from collections.abc import Callable
from typing import TypeVar

import typer

from byok_client.cli.exits import Exit
from byok_client.cli.output import Format, print_error

_T = TypeVar("_T")


def from_extra(extra: str, user: str, load: Callable[[], _T]) -> _T:
    """Import what `user` needs of an extra; if it is not there, say what to install and end the command."""
    try:
        return load()
    except ModuleNotFoundError as error:
        missing = f"{user} needs the module {error.name}, which is not installed"
        remedy = f"Install the extra: pip install 'byok-operator[{extra}]'"
        print_error({"reason": "ExtraMissing", "message": missing, "remedy": remedy}, Format.TEXT)
        raise typer.Exit(Exit.USAGE) from None
