"""`byokctl audit`: checking the record of what was signed."""

from pathlib import Path
from typing import Annotated

import typer

from byok_client.cli.commands.help import examples, group
from byok_client.cli.output import Format, FormatOption, answer

app = group(name="audit", help="Check the record of what was signed.")


@app.callback()
def _group() -> None:
    """Check the record of what was signed."""


@app.command(
    epilog=examples(
        "byokctl audit verify /var/log/byok/audit.jsonl",
        "byokctl audit verify audit.jsonl --checkpoint-key checkpoints.pem",
        "kubectl logs deploy/byok-signer | byokctl audit verify - -o json",
    )
)
def verify(
    file: Annotated[Path, typer.Argument(help="Audit file, or - for standard input.")],
    *,
    checkpoint_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Public key in PEM that every checkpoint must be signed with; there must be one."
        ),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Check that no audit record was altered, removed, repeated or reordered.

    Intents without outcome, after which KMS may have signed, are listed; a crash leaves them, and they are no failure.

    What the file alone cannot show is that its last records are gone, or were made anew after the last checkpoint:
    compare the heads that are printed with the audit id of a signature that you know of.
    """
    from byok_client.cli import trails  # noqa: PLC0415 - loaded when it runs

    answer(lambda: trails.verify(file, checkpoint_key), output_format)
