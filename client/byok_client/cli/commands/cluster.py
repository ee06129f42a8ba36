"""`byokctl get`: what the cluster says of keys and recipes."""

from enum import StrEnum
from types import ModuleType
from typing import Annotated

import typer

from byok_client.cli.commands.extras import from_extra
from byok_client.cli.commands.help import examples
from byok_client.cli.output import Format, FormatOption, answer


class Kinds(StrEnum):
    """Which kinds are asked about."""

    ALL = "all"
    KEYS = "keys"
    RECIPES = "recipes"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the tree's root."""
    app.command(
        epilog=examples(
            "byokctl get",
            "byokctl get recipes -n media",
            "byokctl get keys brand-keys/brand -o json",
        )
    )(get)


def get(
    kinds: Annotated[Kinds, typer.Argument(help="What to report on.")] = Kinds.ALL,
    names: Annotated[list[str] | None, typer.Argument(help="Objects: namespace/name; else all.")] = None,
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only objects of this namespace; else of all.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show the keys and recipes of the cluster with what stands against them, and what to do next.

    The cluster is kubectl's: KUBECONFIG, ~/.kube/config, or the pod's own. Exits with 1 if something is not ready.
    """
    standing = from_extra("cli", "get", _standing)
    if names and kinds is Kinds.ALL:
        raise typer.BadParameter("say which kind is named: keys or recipes", param_hint="KINDS")
    selection = standing.selection(kinds.value, names or [], namespace)
    answer(lambda: standing.report(selection), output_format)


def _standing() -> ModuleType:
    from byok_client.cli import standing  # noqa: PLC0415 - loaded when it runs

    return standing
