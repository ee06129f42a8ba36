"""What a signer waits for before it serves, alive and not ready, and how it says that it stops."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from cryptography.x509 import load_pem_x509_certificate

from byok_api.audit import ChainStart, read_record, verify_chain
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import Issuer
from byok_service.settings import SettingsError
from byok_signer.audit import AuditSink, FileAuditSink
from byok_signer.settings import PROGRAM, Settings
from byok_signer.starting import Readiness, open_audit, wait_for_tls
from tests.support.kms_stand_in import kms_stand_in
from tests.support.many_claims import another_claim
from tests.support.mounted_secret import MountedSecret
from tests.support.signer import DEADLINE, JOB, until
from tests.support.signer_process import prepare, recipe_hash, serving_process, signer_process
from tests.testenv.ports import free_ports

NOW = datetime.now(UTC)
AUTHORITY = TlsAuthority.create(now=NOW)
HEALTH = "/grpc.health.v1.Health/Check"
TLS_ENDS = "byok_signer_tls_not_after_timestamp_seconds "
SERVING = b"\x08\x01"


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path / "tls")


@pytest.fixture
def flags(tmp_path: Path, secret: MountedSecret) -> dict[str, str]:
    """Serve on TCP with the Secret's certificate, which is not there yet."""
    (port,) = free_ports(1)
    tls = {"listen": "127.0.0.1:0", "tls-cert-file": str(secret.cert), "tls-key-file": str(secret.key)}
    return prepare(tmp_path, Issuer()) | tls | {"http-listen": f"127.0.0.1:{port}"}


@pytest.fixture
def settings(flags: dict[str, str]) -> Settings:
    return PROGRAM.read([f"--{name}={value}" for name, value in flags.items()], {})


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


async def answer(flags: dict[str, str], path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{flags['http-listen']}{path}") as got:
        return got.status, await got.text()


async def is_served(port: int) -> bool:
    credentials = grpc.ssl_channel_credentials(AUTHORITY.trust_anchor_pem.encode())
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH)
        return await check(b"", timeout=DEADLINE) == SERVING


async def test_without_its_certificate_a_signer_lives_is_not_ready_and_serves_once_it_is_there(
    tmp_path: Path, secret: MountedSecret, flags: dict[str, str]
) -> None:
    async with signer_process(tmp_path, flags) as signer:
        await until(lambda: "waiting to serve" in signer.log or signer.process.returncode is not None)
        assert await answer(flags, "/livez") == (200, "ok\n")
        status, why = await answer(flags, "/readyz")
        assert (status, why.startswith(f"{secret.cert}: cannot be read: ")) == (503, True)
        assert "\nbyok_signer_ready 0.0\n" in (await answer(flags, "/metrics"))[1]
        assert not (tmp_path / "audit.jsonl").exists()
        pair = AUTHORITY.issue(now=NOW)
        ends = load_pem_x509_certificate(pair.certificate_pem.encode()).not_valid_after_utc.timestamp()
        secret.publish_pair(pair)
        await until(signer.serves)
        assert await is_served(signer.port)
        assert await answer(flags, "/readyz") == (200, "ok\n")
        assert "\nbyok_signer_ready 1.0\n" in (await answer(flags, "/metrics"))[1]
        (told,) = (line for line in (await answer(flags, "/metrics"))[1].splitlines() if line.startswith(TLS_ENDS))
        assert float(told.removeprefix(TLS_ENDS)) == ends
        assert signer.log.count("waiting to serve") == 1


async def test_a_signer_that_waits_ends_when_it_is_told_to(tmp_path: Path, flags: dict[str, str]) -> None:
    async with signer_process(tmp_path, flags) as signer:
        await until(lambda: "waiting to serve" in signer.log or signer.process.returncode is not None)
        signer.process.terminate()
        assert await signer.ended() == 0
    assert "stopped before it could serve" in signer.log


async def test_half_a_pair_is_waited_out_and_each_step_said_once(
    secret: MountedSecret, settings: Settings, readiness: Readiness, caplog: pytest.LogCaptureFixture
) -> None:
    pair, other = AUTHORITY.issue(now=NOW), AUTHORITY.issue(now=NOW)
    waiting = asyncio.create_task(wait_for_tls(settings, readiness))
    steps = [
        ({"tls.crt": pair.certificate_pem, "tls.key": ""}, "expected a private key in PEM"),
        ({"tls.crt": pair.certificate_pem, "tls.key": other.key_pem}, "not the key of the certificate"),
    ]
    for files, found in steps:
        secret.publish(files)
        await until(lambda found=found: found in readiness.reasons()[0])  # type: ignore[misc]  # a default, for the loop
        assert not waiting.done()
    secret.publish_pair(pair)
    await waiting
    said = [vars(record)["waits_for"] for record in caplog.records if record.message == "waiting to serve"]
    assert len(said) == len(set(said))


async def begin(settings: Settings, readiness: Readiness, *, patience: float = DEADLINE) -> AuditSink:
    return await open_audit(settings, readiness, patience=patience)


@pytest.fixture
async def predecessor(tmp_path: Path) -> AsyncIterator[FileAuditSink]:
    sink = FileAuditSink(tmp_path / "audit.jsonl", pod="byok-signer-0")
    yield sink
    await sink.close()


async def test_an_audit_file_that_a_signer_about_to_end_still_holds_is_waited_for(
    tmp_path: Path, predecessor: FileAuditSink, settings: Settings, readiness: Readiness
) -> None:
    waiting = asyncio.create_task(begin(settings, readiness))
    await until(lambda: "is locked by another signer" in readiness.reasons()[0])
    await predecessor.close()
    await (await waiting).close()
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    report = verify_chain(lines)
    first, second = report.chains
    assert (report.intact, second.predecessor) == (True, first.head.id)


@pytest.mark.usefixtures("predecessor")
async def test_an_audit_file_that_is_held_on_and_on_is_refused(settings: Settings, readiness: Readiness) -> None:
    with pytest.raises(SettingsError, match=r"--audit: .* is locked by another signer"):
        await begin(settings, readiness, patience=0.5)


@pytest.mark.parametrize(
    ("named", "pod"), [({"pod_name": "byok-signer-7"}, "byok-signer-7"), ({}, socket.gethostname())]
)
async def test_a_chain_names_its_pod(
    tmp_path: Path, settings: Settings, readiness: Readiness, named: dict[str, str], pod: str
) -> None:
    sink = await begin(settings.model_copy(update=named), readiness)
    await sink.close()
    (line,) = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert read_record(line).event == ChainStart(predecessor=None, torn=(), pod=pod)


async def test_a_signer_that_stops_says_so_while_calls_go_on(tmp_path: Path, flags: dict[str, str]) -> None:
    issuer = Issuer()
    issuer.write_jwks(tmp_path / "jwks.json")
    del flags["tls-cert-file"], flags["tls-key-file"]
    async with kms_stand_in() as kms:
        flags |= {"listen": f"unix:{tmp_path}/s", "aws-endpoint": kms.url, "token-issuer": issuer.name}
        async with serving_process(tmp_path, flags) as signer, grpc.aio.insecure_channel(flags["listen"]) as channel:
            kms.gate.clear()
            stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)
            request = pb.SignClaimRequest(recipe="photo", expected_recipe_hash=recipe_hash(), claim=another_claim())
            metadata = (("authorization", f"Bearer {issuer.mint(JOB, now=NOW)}"),)
            call = asyncio.ensure_future(stub.SignClaim(request, metadata=metadata, timeout=DEADLINE))
            await until(lambda: kms.signed == 1)
            signer.process.terminate()
            await until(lambda: '"message": "stopping"' in signer.log)
            assert await answer(flags, "/readyz") == (503, "it is about to stop\n")
            assert await answer(flags, "/livez") == (200, "ok\n")
            kms.gate.set()
            assert (await call).signature
            assert await signer.ended() == 0


async def test_what_strangers_do_at_the_door_is_no_noise_in_the_log(
    tmp_path: Path, secret: MountedSecret, flags: dict[str, str]
) -> None:
    secret.publish_pair(AUTHORITY.issue(now=NOW))
    async with serving_process(tmp_path, flags) as signer:
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", signer.port)
            writer.write(greeting)
            writer.write_eof()
            async with asyncio.timeout(DEADLINE):
                await reader.read()
            writer.close()
        assert await is_served(signer.port)
        signer.process.terminate()
        assert await signer.ended() == 0
    assert {json.loads(line)["level"] for line in signer.log.splitlines()} == {"info"}
