"""What stands around a signer: the emulated KMS, a time-stamp authority, certified keys, TLS, AWS credentials."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from byok_api.algorithms import SigningAlgorithm
from byok_sandbox.ca import SigningAuthority, TlsAuthority
from byok_sandbox.filling import CertifiedKey
from byok_sandbox.kms.client import ControlClient
from byok_sandbox.owner import AwsAccess, KeyOwner
from byok_sandbox.processes import Child
from byok_sandbox.tsa import TimeStampAuthority

REGION = "eu-central-1"
SIGNER_ROLE = "arn:aws:iam::111122223333:role/byok-signer"
_CREDENTIALS_LIFETIME = 12 * 3600


def start_kms(folder: Path) -> Child:
    """Start the emulated KMS, which announces itself on its standard output; its events go to `folder`."""
    return Child("kms", folder / "logs", ["byok_sandbox.kms", "--events-file", str(folder / "kms-events.jsonl")], {})


def administrator(announced: Mapping[str, Any]) -> AwsAccess:
    """Read what the emulated KMS announced of its administrator."""
    keys = announced["administrator"]
    return AwsAccess(announced["address"], keys["accessKeyId"], keys["secretAccessKey"], REGION)


def start_tsa(folder: Path, authority: SigningAuthority) -> Child:
    """Make a time-stamp authority and start it on a free port of the loopback."""
    return start_stamping(folder, TimeStampAuthority.create(authority, now=datetime.now(UTC)))


def start_stamping(folder: Path, tsa: TimeStampAuthority, *, listen: tuple[str, int] = ("127.0.0.1", 0)) -> Child:
    """Start a time-stamp authority, which announces itself on its standard output; port 0 takes a free one."""
    chain_file, key_file = folder / "tsa" / "chain.pem", folder / "tsa" / "key.pem"
    chain_file.write_text(tsa.chain_pem)
    _write_secret(key_file, tsa.key_pem)
    files = [f"--chain-file={chain_file}", f"--key-file={key_file}"]
    return Child("tsa", folder / "logs", ["byok_sandbox.tsa", *files, f"--host={listen[0]}", f"--port={listen[1]}"], {})


def certified_key(owner: KeyOwner, algorithm: SigningAlgorithm, authority: SigningAuthority) -> CertifiedKey:
    """Do what a key's owner does: make a KMS key, grant it to the signer, have it certified."""
    arn = owner.create_key(algorithm)
    owner.grant(arn, algorithm)
    return CertifiedKey(arn, algorithm, owner.certify(arn, algorithm, authority))


def write_server_certificate(cert_file: Path, key_file: Path, ca_file: Path) -> None:
    """Issue a server certificate for this machine, and write what the server needs and what its clients trust."""
    tls = TlsAuthority.create(now=datetime.now(UTC))
    server = tls.issue(now=datetime.now(UTC))
    ca_file.write_text(tls.trust_anchor_pem)
    cert_file.write_text(server.certificate_pem)
    _write_secret(key_file, server.key_pem.encode())


def signer_credentials(control: ControlClient) -> dict[str, str]:
    """Issue credentials of the signer's role, as the environment variables that hold them."""
    credentials = control.issue(SIGNER_ROLE, session_name="byok-signer", expires_in=_CREDENTIALS_LIFETIME)
    return {
        "AWS_ACCESS_KEY_ID": credentials["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["secretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["sessionToken"],
    }


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
