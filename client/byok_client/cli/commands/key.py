"""`byokctl key`: proving that a key can be used, its policies, its certificate."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from byok_api.algorithms import SigningAlgorithm
from byok_client.cli.commands.extras import from_extra
from byok_client.cli.commands.help import examples, group
from byok_client.cli.output import Format, FormatOption, answer

app = group(name="key", help="Prove that a key can be used, write its policies, see to its certificate.")
certificate = group(name="certificate", help="Register certificates.")
app.add_typer(certificate)


class PolicyForm(StrEnum):
    """How policies are written."""

    JSON = "json"
    CLI = "cli"
    TERRAFORM = "terraform"


ServiceAccountOption = Annotated[
    str | None,
    typer.Option("--service-account", help="Call as this account of the key's namespace, by a token of the cluster."),
]


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
    service_account: ServiceAccountOption = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Have the signer prove that it can use a key; prints the key policy statement that is missing, ready to paste.

    Nothing is signed: KMS is asked whether a signature would be allowed (DryRun). The caller's ServiceAccount needs the
    right to probe the key; without a cluster it must be of the key's namespace.
    """
    from byok_client.cli import probing  # noqa: PLC0415 - grpc, which help does without

    answer(lambda: probing.probe(key, service_account, least_privilege=least_privilege), output_format)


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


@app.command(
    epilog=examples(
        "byokctl key policy brand-keys/brand --signer-role arn:aws:iam::111122223333:role/byok-signer",
        "byokctl key policy brand-keys/brand -f brand.yaml --signer-role ARN --as terraform",
    )
)
def policy(  # noqa: PLR0913 - typer makes an option of each parameter
    key: Annotated[str, typer.Argument(help="ByokKey: namespace/name.")],
    *,
    signer_role: Annotated[
        str, typer.Option("--signer-role", metavar="ARN", help="The signer's own role; the platform team knows it.")
    ],
    file: Annotated[
        Path | None, typer.Option("--filename", "-f", help="Manifest that holds the key; else the cluster's is read.")
    ] = None,
    installation: Annotated[
        str | None, typer.Option("--installation", help="The installation's name, if the key assumes a role.")
    ] = None,
    algorithm: Annotated[
        SigningAlgorithm | None,
        typer.Option("--algorithm", help="What it signs with, if it names none and has no certificate."),
    ] = None,
    form: Annotated[PolicyForm, typer.Option("--as", help="How they are written.")] = PolicyForm.JSON,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Print what the signer must be allowed: the key policy's statements, and the trust policy of the key's role."""
    if file is None:
        from_extra("cli", "reading keys of a cluster", _import_cluster)
    from byok_client.cli import policies  # noqa: PLC0415 - loaded when it runs

    wanted = policies.Wanted(key, file, signer_role, installation, algorithm, form=form.value)
    answer(lambda: policies.policy(wanted), output_format)


@app.command(
    epilog=examples(
        "byokctl key csr brand-keys/brand --subject 'CN=Brand Studio,O=Example GmbH,C=DE' --out brand.csr",
        "byokctl key csr brand-keys/brand --subject 'CN=Brand,O=Example' --service-account owner",
    )
)
def csr(  # noqa: PLR0913 - typer makes an option of each parameter
    key: Annotated[str, typer.Argument(help="ByokKey: namespace/name.")],
    *,
    subject: Annotated[str, typer.Option("--subject", help="CN, O, OU, C, ST, L: NAME=VALUE,NAME=VALUE.")],
    dns_names: Annotated[list[str] | None, typer.Option("--dns", help="DNS name; repeatable.")] = None,
    email_addresses: Annotated[list[str] | None, typer.Option("--email", help="E-mail address; repeatable.")] = None,
    uris: Annotated[list[str] | None, typer.Option("--uri", help="URI; repeatable.")] = None,
    output: Annotated[Path | None, typer.Option("--out", help="File to write; else it is printed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    service_account: ServiceAccountOption = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Have KMS sign a certificate signing request (PKCS#10) for a key, for your CA; the key never leaves KMS."""
    from byok_client.cli import requesting  # noqa: PLC0415 - grpc, which help does without

    wanted = requesting.Wanted(
        key=key,
        subject=subject,
        dns_names=tuple(dns_names or ()),
        email_addresses=tuple(email_addresses or ()),
        uris=tuple(uris or ()),
        output=output,
        overwrite=overwrite,
        service_account=service_account,
    )
    answer(lambda: requesting.request(wanted), output_format)


@certificate.command("set", epilog=examples("byokctl key certificate set brand-keys/brand chain.pem"))
def set_(
    key: Annotated[str, typer.Argument(help="ByokKey: namespace/name.")],
    chain: Annotated[Path, typer.Argument(help="Certificate chain in PEM, leaf first.")],
    *,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Check a certificate chain by name of each rule, and register it with a key of the cluster if it is good."""
    from_extra("cli", "changing keys of a cluster", _import_cluster)
    from byok_client.cli import registering  # noqa: PLC0415 - loaded when it runs

    answer(lambda: registering.register(key, chain), output_format)


def _import_cluster() -> None:
    from byok_client.cli import cluster  # noqa: F401, PLC0415 - to see whether it can be
