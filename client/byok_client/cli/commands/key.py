"""`byokctl key`: proving that a key can be used, and checking its manifest and certificate."""

from pathlib import Path
from typing import Annotated

import typer

from byok_client.cli.commands.help import examples, group
from byok_client.cli.output import Format, FormatOption, answer

app = group(name="key", help="Prove that a key can be used, and check its certificate.")


@app.command(
    epilog=examples(
        "byokctl key probe media/studio",
        "byokctl key probe media/studio --least-privilege -o json",
    )
)
def probe(
    key: Annotated[str, typer.Argument(help="ByokKey: namespace/name.")],
    *,
    least_privilege: Annotated[
        bool,
        typer.Option("--least-privilege", help="Also prove that the signer may do no more; CloudTrail logs denials."),
    ] = False,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Have the signer prove that it can use a key; prints the key policy statement that is missing, ready to paste.

    Nothing is signed: KMS is asked whether a signature would be allowed (DryRun). The caller's ServiceAccount must be
    in the key's namespace.
    """
    from byok_client.cli import probing  # noqa: PLC0415 - grpc, which help does without

    answer(lambda: probing.probe(key, least_privilege=least_privilege), output_format)


@app.command(
    epilog=examples(
        "byokctl key lint studio.yaml",
        "byokctl key lint chain.pem -o json",
    )
)
def lint(
    file: Annotated[Path, typer.Argument(help="ByokKey manifest, or certificate chain in PEM, leaf first.")],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of objects that name none.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Check a ByokKey manifest or a certificate chain against the rules of C2PA's certificate profile, by name."""
    from byok_client.cli import keys  # noqa: PLC0415 - loaded when it runs

    answer(lambda: keys.lint(file, namespace), output_format)
