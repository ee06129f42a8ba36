"""`byok-signer` as a process: it starts, names what is wrong, heeds its manifests, and ends in order."""

import asyncio
import base64
import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind, verify_chain
from byok_api.errors import Reason
from byok_api.references import KeyArn, ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import Issuer
from byok_signer.entries import SigningEntry
from tests.support.claims import created_claim
from tests.support.kms_stand_in import KmsStandIn, kms_stand_in
from tests.support.manifests import KEY_ARN, recipe_document, yaml_of
from tests.support.many_claims import another_claim
from tests.support.pki import identity
from tests.support.refusals import refusal_of, status_in, told_by
from tests.support.signer import DEADLINE, JOB, catalogue_of, certified_key, until

ES256 = SigningAlgorithm.ES256
CLAIM = created_claim().sig_structure
ISSUER = Issuer()


def manifests(**spec: Any) -> tuple[dict[str, Any], ...]:  # noqa: ANN401 - any part of a ByokKey's spec
    return certified_key(identity(ES256), KeyArn(KEY_ARN), **spec), recipe_document()


def recipe_hash() -> str:
    entry = catalogue_of(*manifests()).recipes[ObjectName("media", "photo")]
    assert isinstance(entry, SigningEntry)
    return entry.recipe.hash


@dataclass
class SignerProcess:
    """A signer that runs, or has ended."""

    folder: Path
    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel
    token: str

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def sign(self, claim: bytes = CLAIM) -> "grpc.aio.UnaryUnaryCall[pb.SignClaimRequest, pb.SignClaimResponse]":
        stub: rpc.SignerAsyncStub = rpc.SignerStub(self.channel)
        request = pb.SignClaimRequest(recipe="photo", expected_recipe_hash=recipe_hash(), claim=claim)
        return stub.SignClaim(request, metadata=self.metadata, timeout=DEADLINE)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), DEADLINE)

    def write(self, *documents: dict[str, Any]) -> None:
        """Replace the manifests at once, as a mounted folder is."""
        written = self.folder / "new"
        written.write_text(yaml_of(*documents))
        written.replace(self.folder / "manifests" / "all.yaml")


@pytest.fixture
async def kms() -> AsyncIterator[KmsStandIn]:
    async with kms_stand_in() as stand_in:
        yield stand_in


def prepare(folder: Path) -> dict[str, str]:
    """Make the files that the least of flags name."""
    (folder / "manifests").mkdir()
    (folder / "manifests" / "all.yaml").write_text(yaml_of(*manifests()))
    ISSUER.write_jwks(folder / "jwks.json")
    return {
        "manifests": f"{folder}/manifests",
        "installation": "test",
        "listen": f"unix:{folder}/s",
        "http-listen": "127.0.0.1:0",
        "token-issuer": ISSUER.name,
        "token-jwks-file": f"{folder}/jwks.json",
        "audit": f"{folder}/audit.jsonl",
    }


@asynccontextmanager
async def signer_process(folder: Path, flags: dict[str, str]) -> AsyncIterator[SignerProcess]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BYOK_"))}
    credentials = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-test"}
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "byok_signer", *arguments, stderr=log, env={**inherited, **credentials}
        )
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            yield SignerProcess(folder, process, channel, ISSUER.mint(JOB, now=datetime.now(UTC)))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def signer(tmp_path: Path, kms: KmsStandIn) -> AsyncIterator[SignerProcess]:
    async with signer_process(tmp_path, prepare(tmp_path) | {"aws-endpoint": kms.url}) as running:
        await until(lambda: '"message": "serving"' in running.log or running.process.returncode is not None)
        yield running


def events(folder: Path) -> list[dict[str, Any]]:
    """The audit records, whose chain must be intact."""
    lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    assert verify_chain(lines).intact
    return [json.loads(line) for line in lines]


def forms_of(secret: bytes) -> set[str]:
    return {secret.hex(), base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode().rstrip("=")}


async def test_it_signs_with_the_least_of_flags(signer: SignerProcess) -> None:
    answer = await signer.sign()
    signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=CLAIM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_once_calls_in_flight_are_answered_and_recorded(
    signer: SignerProcess, kms: KmsStandIn, number: signal.Signals
) -> None:
    await signer.sign()
    kms.gate.clear()
    claims = [another_claim() for _ in range(10)]
    calls = [asyncio.ensure_future(signer.sign(claim)) for claim in claims]
    await until(lambda: kms.signed == 11)
    signer.process.send_signal(number)
    await until(lambda: '"message": "stopping"' in signer.log)
    kms.gate.set()
    began = time.monotonic()
    for claim, answer in zip(claims, await asyncio.gather(*calls), strict=True):
        signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=claim)
    assert await signer.ended() == 0
    assert time.monotonic() - began < 10
    kinds = Counter(event["kind"] for event in events(signer.folder))
    assert kinds == {"chain-start": 1, "intent": 11, "outcome": 11}


async def test_refusals_that_were_only_counted_are_recorded_at_the_end(signer: SignerProcess) -> None:
    for _ in range(40):
        await refusal_of(signer.sign(b"garbage"))
    signer.process.terminate()
    assert await signer.ended() == 0
    refusals = [event for event in events(signer.folder) if event["kind"] == "refusal"]
    assert len(refusals) < 40
    assert sum(event.get("suppressed", 0) + 1 for event in refusals) == 40


async def test_a_key_deactivated_in_its_manifest_soon_signs_no_more(signer: SignerProcess) -> None:
    await signer.sign()
    signer.write(*manifests(state="Deactivated"))
    async with asyncio.timeout(10):
        while (reason := await reason_of(signer)) is None:
            pass
    assert reason is Reason.KeyDeactivated


async def test_a_recipe_taken_out_of_the_folder_is_gone_and_put_back_works_again(signer: SignerProcess) -> None:
    signer.write(manifests()[0])
    async with asyncio.timeout(DEADLINE):
        while await reason_of(signer) is not Reason.RecipeNotAllowed:
            pass
        signer.write(*manifests())
        while await reason_of(signer) is not None:
            pass


async def reason_of(signer: SignerProcess) -> Reason | None:
    try:
        await signer.sign()
    except grpc.aio.AioRpcError as error:
        return told_by(status_in(error)).reason
    return None


async def test_nothing_secret_is_logged(signer: SignerProcess) -> None:
    answer = await signer.sign()
    await refusal_of(signer.sign(CLAIM[:-1]))
    good, signer.token = signer.token, signer.token[:-5]
    await refusal_of(signer.sign())
    signer.process.terminate()
    assert await signer.ended() == 0
    digest = hashlib.sha256(CLAIM).digest()
    secrets = {good, signer.token, "the-secret-of-the-test", *forms_of(digest)}
    secrets |= forms_of(answer.signature) | forms_of(answer.signature_der) | set(good.split("."))
    assert [secret for secret in secrets if secret in signer.log] == []
    assert all(json.loads(line)["level"] == "info" for line in signer.log.splitlines())


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "an unknown flag": ({"lisen": "unix:/tmp/x"}, "did you mean --listen?"),
    "an unreadable certificate": (
        {"listen": "127.0.0.1:0", "tls-cert-file": "{folder}/garbage", "tls-key-file": "{folder}/tls.key"},
        "--tls-cert-file {folder}/garbage",
    ),
    "an unreadable key": (
        {"listen": "127.0.0.1:0", "tls-cert-file": "{folder}/tls.crt", "tls-key-file": "{folder}/garbage"},
        "--tls-key-file {folder}/garbage",
    ),
    "a folder for a socket": ({"listen": "unix:{folder}/manifests"}, "--listen unix:{folder}/manifests"),
    "a taken HTTP port": ({"http-listen": "127.0.0.1:{taken}"}, "--http-listen 127.0.0.1:{taken}"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_with_its_settings_is_named_with_status_2(
    tmp_path: Path, wrong: dict[str, str], said: str
) -> None:
    flags = prepare(tmp_path)
    pair = TlsAuthority.create(now=datetime.now(UTC)).issue(now=datetime.now(UTC))
    (tmp_path / "tls.crt").write_text(pair.certificate_pem)
    (tmp_path / "tls.key").write_text(pair.key_pem)
    (tmp_path / "garbage").write_text("garbage\n")
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    names = {"folder": str(tmp_path), "taken": str(taken.sockets[0].getsockname()[1])}
    flags |= {name: value.format_map(names) for name, value in wrong.items()}
    async with signer_process(tmp_path, flags) as signer:
        assert await signer.ended() == 2
    taken.close()
    assert said.format_map(names) in signer.log
    assert "Traceback" not in signer.log


async def test_a_broken_manifest_is_reported_and_takes_no_other_down(tmp_path: Path, kms: KmsStandIn) -> None:
    flags = prepare(tmp_path) | {"aws-endpoint": kms.url}
    (tmp_path / "manifests" / "broken.yaml").write_text("{")
    async with signer_process(tmp_path, flags) as signer:
        await until(lambda: '"message": "serving"' in signer.log or signer.process.returncode is not None)
        await signer.sign()
        assert "broken.yaml" in signer.log


async def test_a_checkpoint_key_signs_the_trail_from_the_start_on_and_no_claims(
    tmp_path: Path, kms: KmsStandIn
) -> None:
    flags = prepare(tmp_path) | {"aws-endpoint": kms.url, "checkpoint-key": KEY_ARN}
    async with signer_process(tmp_path, flags) as signer:
        await until(lambda: '"message": "serving"' in signer.log)
        assert await reason_of(signer) is Reason.KeyInvalid
        signer.process.terminate()
        assert await signer.ended() == 0
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    report = verify_chain(lines, checkpoint_key=identity(ES256).public_key)
    assert (report.intact, report.kinds[Kind.CHECKPOINT], report.kinds.get(Kind.OUTCOME)) == (True, 2, None)


async def test_a_checkpoint_key_that_cannot_be_used_ends_it_by_name(tmp_path: Path, kms: KmsStandIn) -> None:
    kms.key_usage = "ENCRYPT_DECRYPT"
    flags = prepare(tmp_path) | {"aws-endpoint": kms.url, "checkpoint-key": KEY_ARN}
    async with signer_process(tmp_path, flags) as signer:
        assert await signer.ended() == 2
    assert f"--checkpoint-key {KEY_ARN}: " in signer.log
    assert "Traceback" not in signer.log
