"""The work of `byokctl key csr`."""

import base64
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from byok_api.signer.v1.signer_pb2 import (
    CertificateSubject,
    CreateCertificateRequestRequest,
    CreateCertificateRequestResponse,
)
from byok_client.cli.accounts import client_as
from byok_client.cli.cluster_keys import key_named
from byok_client.cli.new_files import NewFile
from byok_client.cli.output import Format, Line, Report, print_error
from byok_client.cli.refusals import Refusal, exit_of, explain

# RFC 4514, section 3, and the names that OpenSSL takes.
_ATTRIBUTES = {
    "CN": "common_name",
    "O": "organization",
    "OU": "organizational_unit",
    "C": "country",
    "ST": "state_or_province",
    "L": "locality",
}


@dataclass(frozen=True)
class Wanted:
    """Which certificate request is wanted."""

    key: str
    subject: str
    dns_names: tuple[str, ...]
    email_addresses: tuple[str, ...]
    uris: tuple[str, ...]
    output: Path | None
    overwrite: bool
    service_account: str | None


def request(wanted: Wanted) -> Report:
    """Have the signer make a request, and print it as PEM or write it to a file.

    Whether the file can be written is known before KMS is asked to sign. If it then cannot be, the request is printed.
    """
    name = key_named(wanted.key)
    asked = CreateCertificateRequestRequest(
        namespace=name.namespace,
        name=name.name,
        subject=_subject(wanted.subject),
        dns_names=wanted.dns_names,
        email_addresses=wanted.email_addresses,
        uris=wanted.uris,
    )
    output = None if wanted.output is None else NewFile.at(wanted.output, overwrite=wanted.overwrite)
    with client_as(wanted.service_account, name.namespace) as client:
        made = client.create_certificate_request(asked)
    return _delivered(str(name), made, output)


def _delivered(key: str, made: CreateCertificateRequestResponse, output: NewFile | None) -> Report:
    pem = _pem(made.request)
    document, printed = _document(key, made, pem), [Line(line) for line in pem.splitlines()]
    if output is None:
        return Report(document, printed)
    try:
        output.write(pem)
    except Refusal as refusal:
        # KMS has signed and the signer has recorded it: what they made must not be lost.
        error = explain(refusal)
        print_error(error, Format.TEXT)
        return Report(document | {"error": error}, printed, exit_of(refusal))
    return Report(document, [_told(output.path, made)])


def _subject(text: str) -> CertificateSubject:
    subject = CertificateSubject()
    for part in _parts(text):
        name, separator, value = part.partition("=")
        field = _ATTRIBUTES.get(name.strip().upper())
        if field is None or not separator or not value.strip():
            known = ", ".join(_ATTRIBUTES)
            raise typer.BadParameter(
                f"{part[:80]!r}: expected NAME=VALUE with a name of {known}", param_hint="--subject"
            )
        if getattr(subject, field):
            raise typer.BadParameter(f"{name.strip()} is given twice", param_hint="--subject")
        setattr(subject, field, value.strip())
    return subject


def _parts(text: str) -> list[str]:
    """Take `CN=Studio,O=Example` apart; a backslash makes a comma part of a value (RFC 4514, section 2.4)."""
    parts, part, escaped = [], "", False
    for character in text:
        if escaped or character not in "\\,":
            part, escaped = part + character, False
        elif character == "\\":
            escaped = True
        else:
            parts.append(part)
            part = ""
    return [*parts, part]


def _pem(der: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"


def _told(output: Path, made: CreateCertificateRequestResponse) -> Line:
    return Line(f"{output}: request for {made.key_arn}, signed with {made.algorithm}; recorded as {made.audit_id}")


def _document(key: str, made: CreateCertificateRequestResponse, pem: str) -> dict[str, Any]:
    return {
        "key": key,
        "request": pem,
        "keyArn": made.key_arn,
        "algorithm": made.algorithm,
        "spkiSha256": made.spki_sha256,
        "auditId": made.audit_id,
        "kmsRequestId": made.kms_request_id,
    }
