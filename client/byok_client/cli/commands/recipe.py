"""`byokctl recipe`: importing, showing and checking recipes; none of it needs a signer or a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from byok_client.cli.commands.help import examples, group
from byok_client.cli.output import Format, FormatOption, answer

app = group(name="recipe", help="Import, show and check recipes, without a cluster.")

NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of objects that name none.")]
PresetsOption = Annotated[
    Path | None, typer.Option("--presets", exists=True, file_okay=False, help="Folder of the installation's presets.")
]
PresetsNamespaceOption = Annotated[str, typer.Option("--presets-namespace", help="Namespace of the presets.")]
ManagedKeyOption = Annotated[
    str | None, typer.Option("--managed-key", metavar="NAMESPACE/NAME", help="ByokKey behind kmsMode: managed.")
]


@app.command(
    "import",
    epilog=examples(
        "byokctl recipe import portrait.yaml > portrait-v1.yaml",
        "byokctl recipe import portrait.yaml --key media/studio -n media | kubectl apply -f -",
    ),
)
def import_(
    file: Annotated[Path, typer.Argument(help="Recipe in the portable format.")],
    *,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAMESPACE/NAME", help="ByokKey to sign with; else signer_pinning.key_alias."),
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace to write into it.")] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Make a SigningRecipe manifest of a recipe in the portable format, and print it."""
    from byok_client.cli import recipe_import  # noqa: PLC0415 - loaded when it runs

    answer(lambda: recipe_import.import_recipe(file, key, namespace), output_format)


@app.command(
    epilog=examples(
        "byokctl recipe render media/photo -f manifests/ --presets charts/byok-operator/presets",
        "byokctl recipe render photo@2 -f photo.yaml -n media -o json",
    )
)
def render(  # noqa: PLR0913 - typer makes an option of each parameter
    recipe: Annotated[str, typer.Argument(help="Recipe: [namespace/]name[@version].")],
    *,
    paths: Annotated[list[Path], typer.Option("--filename", "-f", help="Manifests: files and folders; repeatable.")],
    presets: PresetsOption = None,
    presets_namespace: PresetsNamespaceOption = "byok-system",
    managed_key: ManagedKeyOption = None,
    namespace: NamespaceOption = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show what a recipe comes to with all that it inherits, what is enforced, and who vouches for each assertion."""
    from byok_client.cli import recipes  # noqa: PLC0415 - loaded when it runs

    source = recipes.Source(paths, presets, presets_namespace, managed_key, namespace)
    answer(lambda: recipes.render(recipe, source), output_format)


@app.command(
    epilog=examples(
        "byokctl recipe lint manifests/ --presets charts/byok-operator/presets",
        "byokctl recipe lint photo.yaml -n media -o json",
    )
)
def lint(  # noqa: PLR0913 - typer makes an option of each parameter
    paths: Annotated[list[Path], typer.Argument(help="Manifests: files and folders.")],
    *,
    presets: PresetsOption = None,
    presets_namespace: PresetsNamespaceOption = "byok-system",
    managed_key: ManagedKeyOption = None,
    namespace: NamespaceOption = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Check manifests and resolve every recipe in them, as the signer does."""
    from byok_client.cli import recipes  # noqa: PLC0415 - loaded when it runs

    source = recipes.Source(paths, presets, presets_namespace, managed_key, namespace)
    answer(lambda: recipes.lint(source), output_format)
