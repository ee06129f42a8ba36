"""The whole system for a benchmark: a signer's process, KMS's stand-in in another, and processes to load them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.claims import Claims
from benchmarks.measuring import Pids
from benchmarks.stand_in import Files, StandIn, stand_in
from benchmarks.workers import Worker, worker
from byok_api.algorithms import SigningAlgorithm
from byok_api.references import KeyArn, ObjectName
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_signer.entries import Catalogue, SigningEntry
from tests.support.claims import created_claim
from tests.support.manifests import KEY_ARN, recipe_document, yaml_of
from tests.support.pki import identity
from tests.support.signer import catalogue_of, certified_key
from tests.support.signer_process import prepare, prepare_tls

UNLIMITED = 1_000_000
"""Signatures a second."""
MANY_CALLS = 4096
_LIFETIME = timedelta(hours=2)
_START_PATIENCE = 60.0
_END_PATIENCE = 35.0
SIGNER = ("-m", "byok_signer")
QUIET = "sports"
"""A namespace beside `media`, whose recipe of the same name signs with the same key."""


@dataclass(frozen=True)
class Target:
    """A signer as its callers need to know it."""

    address: str
    trust: bytes
    """PEM."""
    token: str
    claims: Claims
    pids: Pids
    """Those whose CPU counts; the caller adds its own."""


@dataclass(frozen=True)
class KmsTarget:
    """KMS as who calls it without a signer needs to know it."""

    url: str
    ca_file: str
    pids: Pids


@dataclass(frozen=True)
class Signer:
    """A signer's process that serves."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    port: int
    seconds: float
    """From its start until it served."""


@dataclass(frozen=True)
class Bench:
    """All that runs."""

    folder: Path
    issuer: Issuer
    trust: str
    flags: dict[str, str]
    kms: StandIn
    load: Worker

    def token(self, namespace: str = "media", name: str = "job") -> str:
        """Make a token for a caller."""
        return self.issuer.mint(ServiceAccount(namespace, name), now=datetime.now(UTC), lifetime=_LIFETIME)

    def target(self, signer: Signer, token: str | None = None) -> Target:
        """Describe the signer to a load."""
        return Target(
            address=f"localhost:{signer.port}",
            trust=self.trust.encode(),
            token=token or self.token(),
            claims=Claims.of(created_claim().sig_structure, recipe="photo", recipe_hash=entry().recipe.hash),
            pids={"signer": signer.process.pid, "kms": self.kms.pid},
        )

    def job_environment(self, target: Target) -> dict[str, str]:
        """Write what a job finds in its pod, and name it."""
        token = self.folder / "token"
        token.write_text(target.token)
        return {
            "BYOK_SIGNER_ADDRESS": target.address,
            "BYOK_SIGNER_CA_FILE": f"{self.folder}/ca.crt",
            "BYOK_SIGNER_TOKEN_FILE": str(token),
        }

    def kms_target(self) -> KmsTarget:
        """Describe KMS to a load."""
        return KmsTarget(self.kms.url, f"{self.folder}/ca.crt", {"kms": self.kms.pid})

    @contextmanager
    def signer(self, *, program: Sequence[str] = SIGNER, **changed: str) -> Iterator[Signer]:
        """Run a signer; `changed` are settings, with underscores for dashes."""
        flags = self.flags | {name.replace("_", "-"): value for name, value in changed.items()}
        log = self.folder / f"log-{time.monotonic_ns()}"
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BYOK_"))}
        credentials = {"AWS_ACCESS_KEY_ID": "AKIABENCHMARK", "AWS_SECRET_ACCESS_KEY": "s" * 40}
        began = time.perf_counter()
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, *program, *arguments], stderr=errors, env=inherited | credentials
            )
        try:
            port = _serving_port(process, log)
            yield Signer(process, self.folder, port, time.perf_counter() - began)
        finally:
            _end(process)


@cache
def resolved() -> Catalogue:
    """Resolve what signers of the benchmarks are given."""
    return catalogue_of(*_documents())


def entry() -> SigningEntry:
    """Find media/photo, whose hash is that of sports/photo too: it is the content's."""
    found = resolved().recipes[ObjectName("media", "photo")]
    if not isinstance(found, SigningEntry):
        raise TypeError("the recipe does not sign")
    return found


def _documents() -> "list[dict[str, Any]]":
    key = certified_key(identity(SigningAlgorithm.ES256), KeyArn(KEY_ARN), allowedConsumers={"namespaces": [QUIET]})
    return [key, recipe_document(), recipe_document(f"{QUIET}/photo")]


def _serving_port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    until = time.monotonic() + _START_PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"message": "serving"' in line and line.endswith("}"):
                return int(json.loads(line)["port"])
        time.sleep(0.01)
    raise RuntimeError(f"the signer does not serve:\n{log.read_text()}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_PATIENCE)
    except BaseException:
        process.kill()
        process.wait()
        raise


@contextmanager
def bench() -> Iterator[Bench]:
    """Run KMS and a load's process, and prepare what signers need."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="byok-bench-")))
        issuer = Issuer()
        tls, trust = prepare_tls(folder)
        (folder / "ca.crt").write_text(trust)
        signing_key = identity(SigningAlgorithm.ES256).private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        files = Files(Path(tls["tls-cert-file"]), Path(tls["tls-key-file"]), signing_key)
        kms = stack.enter_context(stand_in(files))
        flags = prepare(folder, issuer) | tls
        (folder / "manifests" / "all.yaml").write_text(yaml_of(*_documents()))
        flags |= {"aws-endpoint": kms.url, "aws-ca-file": f"{folder}/ca.crt"}
        flags |= {"quota-per-second": str(UNLIMITED), "max-calls-per-caller": str(MANY_CALLS)}
        yield Bench(folder, issuer, trust, flags, kms, stack.enter_context(worker()))
