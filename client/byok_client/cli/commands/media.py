"""`byokctl sign` and `byokctl verify`."""

from pathlib import Path
from typing import Annotated

import typer

from byok_client.cli.commands.help import examples
from byok_client.cli.output import Format, FormatOption, answer


def add_to(app: typer.Typer) -> None:
    """Add both to the tree."""
    app.command(
        epilog=examples(
            "byokctl sign photo.jpg -r photo --output signed.jpg -m digital_source_type=digitalCapture",
            "byokctl sign shoot/ -r media/photo@2 --output signed/ --jobs 8 --skip-signed --metadata-file shoot.yaml",
            'byokctl sign *.wav -r podcast --in-place -m \'creator=["Ada","Grace"]\' -o json',
        )
    )(sign)
    app.command(
        epilog=examples(
            "byokctl verify signed.jpg",
            "byokctl verify signed/*.mp4 --trust-anchors ca.pem -o json",
        )
    )(verify)


def sign(  # noqa: PLR0913 - typer makes an option of each parameter
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders whose media are signed.")],
    *,
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Recipe to sign under: [namespace/]name[@version].")],
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="PATH", help="File for one input; folder for several, or for folders."),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace each input by its signed form.")] = False,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="NAME=VALUE", help="Metadata; lists and mappings as JSON."),
    ] = None,
    metadata_file: Annotated[
        Path | None, typer.Option("--metadata-file", help="Metadata as a YAML or JSON mapping; --metadata wins.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=32, help="How many to sign at once.")] = 4,
    skip_signed: Annotated[
        bool, typer.Option("--skip-signed", help="Leave out files that already have a manifest.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    allow_invalid_input: Annotated[
        bool, typer.Option("--allow-invalid-input", help="Keep a manifest that does not verify as history.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds that the signer may take for each file.")
    ] = 30,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Sign media files under a recipe.

    A file appears whole or not at all: whatever fails, Ctrl-C included, what was there before is as it was.
    """
    if (output is None) == (not in_place):
        raise typer.BadParameter("exactly one of the two is needed", param_hint="--output, --in-place")
    from byok_client.cli import signing  # noqa: PLC0415 - c2pa and grpc, which help does without

    request = signing.Request(
        paths=paths,
        recipe=recipe,
        output=output,
        metadata=metadata or (),
        metadata_file=metadata_file,
        jobs=jobs,
        skip_signed=skip_signed,
        overwrite=overwrite,
        allow_invalid_input=allow_invalid_input,
        timeout=timeout,
    )
    answer(lambda: signing.sign(request), output_format)


def verify(
    paths: Annotated[list[Path], typer.Argument(help="Files to verify.")],
    *,
    trust_anchors: Annotated[
        Path | None,
        typer.Option("--trust-anchors", help="CA certificates in PEM; with them only Trusted is good, not Valid."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Verify media files: who signed them, under which recipe, and whether they were altered since."""
    from byok_client.cli import verifying  # noqa: PLC0415 - c2pa, which help does without

    answer(lambda: verifying.verify(paths, trust_anchors), output_format)
