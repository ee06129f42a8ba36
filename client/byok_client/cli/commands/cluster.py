"""`byokctl get` and `byokctl doctor`: what the cluster says of keys and recipes, and what stands in a job's way."""

from enum import StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from byok_client.cli.commands.extras import from_extra
from byok_client.cli.commands.help import examples
from byok_client.cli.output import Format, FormatOption, answer

if TYPE_CHECKING:
    from byok_api.errors import Reason
    from byok_client.cli.doctor import ClusterChecks


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
    app.command(
        epilog=examples(
            "byokctl doctor --recipe media/photo",
            "byokctl doctor -o json",
            "byokctl doctor --recipe media/photo --expect-refusal RecipeNotAllowed",
        )
    )(doctor)


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


def doctor(
    *,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Recipe that shall be usable: [namespace/]name[@version].")
    ] = None,
    refusal: Annotated[
        str | None,
        typer.Option(
            "--expect-refusal", metavar="REASON", help="Reason that the recipe shall be refused for; else all is bad."
        ),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--installation-namespace", help="Namespace that the operator runs in.")
    ] = "byok-system",
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Find out why signing does not work: settings, token, clock, connection, TLS, recipe, certificate, cluster.

    Each check says what it found and what to do. The cluster is asked where a kubeconfig allows it.
    """
    from byok_client.cli import doctor as work  # noqa: PLC0415 - loaded when it runs

    expected = _reason(refusal, recipe)
    answer(lambda: work.examine(recipe, _cluster_checks(namespace), expected=expected), output_format)


def _reason(refusal: str | None, recipe: str | None) -> "Reason | None":
    from byok_api.errors import Reason  # noqa: PLC0415 - grpc, which help does without

    if refusal is None:
        return None
    if recipe is None:
        raise typer.BadParameter("name the recipe with --recipe", param_hint="--expect-refusal")
    if refusal not in Reason.__members__:
        raise typer.BadParameter(f"{refusal[:80]!r} is no reason of the signer's", param_hint="--expect-refusal")
    return Reason[refusal]


def _cluster_checks(namespace: str) -> "ClusterChecks | None":
    try:
        from byok_client.cli.cluster_checks import cluster_checks  # noqa: PLC0415 - of the extra cli
    except ModuleNotFoundError:
        return None
    return lambda patient: cluster_checks(patient, namespace)


def _standing() -> ModuleType:
    from byok_client.cli import standing  # noqa: PLC0415 - loaded when it runs

    return standing
