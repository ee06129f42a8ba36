"""`byok-signer` as a process: what it needs in a folder, and how it is started, watched and ended."""

import asyncio
import json
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from byok_api.algorithms import SigningAlgorithm
from byok_api.references import KeyArn, ObjectName
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import Issuer
from byok_signer.__main__ import main
from byok_signer.entries import SigningEntry
from tests.support.manifests import KEY_ARN, recipe_document, yaml_of
from tests.support.pki import identity
from tests.support.signer import DEADLINE, catalogue_of, certified_key, until

SECRET_KEY = "the-secret-of-the-test"
CREDENTIALS: Mapping[str, str] = MappingProxyType(
    {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["byok_signer.__main__"])


@dataclass
class SignerProcess:
    """A signer that runs, or has ended."""

    folder: Path
    process: asyncio.subprocess.Process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def port(self) -> int:
        """Its gRPC port, once it serves on TCP."""
        (serving,) = (line for line in map(json.loads, self.log.splitlines()) if line["message"] == "serving")
        return int(serving["port"])

    def serves(self) -> bool:
        """Tell whether it serves; AssertionError with its log if it has ended."""
        assert self.process.returncode is None, self.log
        return '"message": "serving"' in self.log

    async def ended(self) -> int:
        """Wait for its end and return its exit status."""
        return await asyncio.wait_for(self.process.wait(), DEADLINE)


def prepare(folder: Path, issuer: Issuer) -> dict[str, str]:
    """Make the files that the least of flags name; the recipe media/photo signs with the session's ES256 key."""
    (folder / "manifests").mkdir()
    documents = (certified_key(identity(SigningAlgorithm.ES256), KeyArn(KEY_ARN)), recipe_document())
    (folder / "manifests" / "all.yaml").write_text(yaml_of(*documents))
    issuer.write_jwks(folder / "jwks.json")
    return {
        "manifests": f"{folder}/manifests",
        "installation": "test",
        "listen": f"unix:{folder}/s",
        "http-listen": "127.0.0.1:0",
        "token-issuer": issuer.name,
        "token-jwks-file": f"{folder}/jwks.json",
        "audit": f"{folder}/audit.jsonl",
    }


def prepare_tls(folder: Path) -> tuple[dict[str, str], str]:
    """Make a certificate for localhost; return the flags that serve with it on any port, and the PEM to trust."""
    authority = TlsAuthority.create(now=datetime.now(UTC))
    pair = authority.issue(now=datetime.now(UTC))
    (folder / "tls.crt").write_text(pair.certificate_pem)
    (folder / "tls.key").write_text(pair.key_pem)
    files = {"tls-cert-file": f"{folder}/tls.crt", "tls-key-file": f"{folder}/tls.key"}
    return {"listen": "127.0.0.1:0", **files}, authority.trust_anchor_pem


def recipe_hash() -> str:
    """The effective hash of media/photo."""
    documents = (certified_key(identity(SigningAlgorithm.ES256), KeyArn(KEY_ARN)), recipe_document())
    entry = catalogue_of(*documents).recipes[ObjectName("media", "photo")]
    assert isinstance(entry, SigningEntry)
    return entry.recipe.hash


def run_to_its_end(flags: dict[str, str], log: Path) -> int | None:
    """Run a signer that cannot serve; return its exit status. It is forked, since most of its time is its imports."""
    process = _FORKS.Process(target=_main, args=([f"--{name}={value}" for name, value in flags.items()], log))
    process.start()
    process.join(DEADLINE)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode


def _main(arguments: list[str], log: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "BYOK_"))]:
        del os.environ[name]
    with log.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = ["byok-signer", *arguments]
    main()


@asynccontextmanager
async def signer_process(
    folder: Path, flags: dict[str, str], environ: Mapping[str, str] = CREDENTIALS
) -> AsyncIterator[SignerProcess]:
    """Start a signer, whether or not it can serve; on leaving it is killed if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BYOK_"))}
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "byok_signer", *arguments, stderr=log, env={**inherited, **environ}
        )
    try:
        yield SignerProcess(folder, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def serving_process(
    folder: Path, flags: dict[str, str], environ: Mapping[str, str] = CREDENTIALS
) -> AsyncIterator[SignerProcess]:
    """Start a signer and wait until it serves."""
    async with signer_process(folder, flags, environ) as signer:
        await until(signer.serves)
        yield signer
