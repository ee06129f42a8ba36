"""The whole system on one machine: the emulated KMS and the real signer as processes, and all that they need.

Everything lives in one folder: `manifests/` (the filled-in examples, watched by the signer), `client/` (what a job
needs), `audit.jsonl`, `kms-events.jsonl` (as CloudTrail has them), `logs/`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from byok_api.algorithms import SigningAlgorithm
from byok_client import ClientSettings
from byok_sandbox import shipped
from byok_sandbox.ca import SigningAuthority
from byok_sandbox.filling import CertifiedKey, Filled, fill
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_sandbox.kms.client import ControlClient
from byok_sandbox.owner import KeyOwner
from byok_sandbox.parts import (
    SIGNER_ROLE,
    administrator,
    certified_key,
    signer_credentials,
    start_kms,
    start_tsa,
    write_server_certificate,
)
from byok_sandbox.processes import Child

Say = Callable[[str], None]
"""Tells the user of one step."""

INSTALLATION = "sandbox"
CALLER = ServiceAccount("media", "media-job")
OWNER = ServiceAccount("brand-keys", "key-owner")


@dataclass(frozen=True)
class Sandbox:
    """A running system."""

    folder: Path
    owner: KeyOwner
    keys: dict[SigningAlgorithm, CertifiedKey]
    filled: Filled
    client: ClientSettings
    trust_anchors: Path
    """Root of the throw-away CA, PEM: what a verifier must trust."""
    audit: Path
    children: tuple[Child, ...]
    issuer: Issuer

    @property
    def owner_token(self) -> Path:
        """Token of an account in the keys' namespace, which may probe them."""
        return self.folder / "client" / "owner-token"

    def renew_tokens(self) -> None:
        """Write fresh tokens, as the kubelet does before one expires."""
        for path, account in ((self.client.token_file, CALLER), (self.owner_token, OWNER)):
            self.issuer.write_token(path, account, now=datetime.now(UTC))

    @property
    def exports(self) -> dict[str, str]:
        """Environment variables by which byokctl and the SDK find the signer, and boto3 the emulated KMS."""
        access = self.owner.access
        return {
            "BYOK_SIGNER_ADDRESS": self.client.address,
            "BYOK_SIGNER_CA_FILE": str(self.client.ca_file),
            "BYOK_SIGNER_TOKEN_FILE": str(self.client.token_file),
            "AWS_ENDPOINT_URL": access.endpoint,
            # boto3 reads the second, the AWS command line and other SDKs the first.
            "AWS_REGION": access.region,
            "AWS_DEFAULT_REGION": access.region,
            "AWS_ACCESS_KEY_ID": access.access_key_id,
            "AWS_SECRET_ACCESS_KEY": access.secret_access_key,
        }


@contextmanager
def running_sandbox(folder: Path, say: Say) -> Iterator[Sandbox]:
    """Start everything in an empty `folder`, and end every process on leaving."""
    for part in ("manifests", "client", "signer", "tsa", "logs"):
        (folder / part).mkdir(parents=True)
    with ExitStack() as stack:
        say("starting the emulated KMS, the signer and a time-stamp authority")
        kms = start_kms(folder)
        stack.callback(kms.stop)
        authority = SigningAuthority.create(now=datetime.now(UTC))
        trust_anchors = folder / "client" / "trust-anchors.pem"
        trust_anchors.write_text(authority.trust_anchor_pem)
        tsa = start_tsa(folder, authority)
        stack.callback(tsa.stop)
        announced = kms.wait_for(kms.output, {})
        control = ControlClient(announced["address"], announced["controlToken"])
        control.put_identity(SIGNER_ROLE)
        issuer = Issuer()
        signer = _start_signer(folder, issuer, control)
        stack.callback(signer.stop)

        say(f"creating {len(SigningAlgorithm)} KMS keys, one for each algorithm, and certifying them")
        owner = KeyOwner(administrator(announced), SIGNER_ROLE)
        keys = {algorithm: certified_key(owner, algorithm, authority) for algorithm in SigningAlgorithm}
        filled = fill(shipped.examples(), keys, timestamp_url=tsa.wait_for(tsa.output, {})["address"])
        for name, text in filled.files.items():
            (folder / "manifests" / name).write_text(text)
        say(f"filled in the examples: {folder / 'manifests'}")

        client = _client_of(signer, folder)
        # The signer began with an empty folder of manifests, which it looks at twice a second.
        signer.wait_for(signer.log, {"message": "manifests read", "SigningRecipe": filled.count})
        say(f"the signer serves at {client.address}")
        sandbox = Sandbox(
            folder=folder,
            owner=owner,
            keys=keys,
            filled=filled,
            client=client,
            trust_anchors=trust_anchors,
            audit=folder / "audit.jsonl",
            children=(kms, tsa, signer),
            issuer=issuer,
        )
        sandbox.renew_tokens()
        yield sandbox


def _client_of(signer: Child, folder: Path) -> ClientSettings:
    serving = signer.wait_for(signer.log, {"message": "serving"})
    return ClientSettings(
        address=f"127.0.0.1:{serving['port']}",
        ca_file=folder / "client" / "ca.pem",
        token_file=folder / "client" / "token",
    )


def _start_signer(folder: Path, issuer: Issuer, control: ControlClient) -> Child:
    jwks_file, cert_file, key_file = (folder / "signer" / name for name in ("jwks.json", "tls.crt", "tls.key"))
    issuer.write_jwks(jwks_file)
    write_server_certificate(cert_file, key_file, folder / "client" / "ca.pem")
    return Child(
        "signer",
        folder / "logs",
        [
            "byok_signer",
            f"--manifests={folder / 'manifests'}",
            f"--presets={shipped.presets()}",
            f"--installation={INSTALLATION}",
            "--listen=127.0.0.1:0",
            "--http-listen=127.0.0.1:0",
            f"--tls-cert-file={cert_file}",
            f"--tls-key-file={key_file}",
            f"--token-issuer={issuer.name}",
            f"--token-jwks-file={jwks_file}",
            f"--audit={folder / 'audit.jsonl'}",
            f"--aws-endpoint={control.address}",
        ],
        signer_credentials(control),
    )
