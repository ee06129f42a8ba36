"""The TLS certificate of a real gRPC server, while its files change."""

import asyncio
import base64
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from byok_api.signer.v1.signer_pb2 import ProbeKeyRequest, ProbeKeyResponse, WatchHealthRequest, WatchHealthResponse
from byok_api.signer.v1.signer_pb2_grpc import KeyProbeServicer, KeyProbeStub, add_KeyProbeServicer_to_server
from byok_sandbox.ca import Request, ServerCertificate, TlsAuthority, key_usage, name, pem_of
from byok_service.settings import SettingsError
from byok_signer.tls import PairFiles, problem_with
from tests.support.mounted_secret import MountedSecret

NOW = datetime.now(UTC)
OLD = TlsAuthority.create(now=NOW)
NEW = TlsAuthority.create(now=NOW)


class _Files:
    def __init__(self, folder: Path) -> None:
        self.cert = folder / "tls.crt"
        self.key = folder / "tls.key"
        self.write(OLD.issue(now=NOW))

    def write(self, pair: ServerCertificate) -> None:
        self.cert.write_text(pair.certificate_pem)
        self.key.write_text(pair.key_pem)


@pytest.fixture
def files(tmp_path: Path) -> _Files:
    return _Files(tmp_path)


class _Probe(KeyProbeServicer):
    async def ProbeKey(self, request: ProbeKeyRequest, context: object) -> ProbeKeyResponse:  # noqa: N802 - the service's name for it
        del context
        return ProbeKeyResponse(generation=request.generation)

    def WatchHealth(self, request: WatchHealthRequest, context: object) -> AsyncIterator[WatchHealthResponse]:  # noqa: N802 - the service's name for it
        raise NotImplementedError


@pytest.fixture
async def port(files: _Files) -> AsyncIterator[int]:
    """A server behind the files' certificate."""
    async with served(files) as port:
        yield port


@asynccontextmanager
async def served(files: _Files | MountedSecret) -> AsyncIterator[int]:
    server = grpc.aio.server()
    add_KeyProbeServicer_to_server(_Probe(), server)
    port = server.add_secure_port("localhost:0", PairFiles(files.cert, files.key).credentials())
    await server.start()
    yield port
    await server.stop(0)


async def _is_served(port: int, authority: TlsAuthority) -> bool:
    """Whether a client that trusts `authority` alone gets an answer over a new connection."""
    credentials = grpc.ssl_channel_credentials(authority.trust_anchor_pem.encode())
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        try:
            await KeyProbeStub(channel).ProbeKey(ProbeKeyRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - both outcomes are an answer here
            return False
        return True


async def test_a_new_pair_is_served_to_new_connections(files: _Files, port: int) -> None:
    assert await _is_served(port, OLD)
    files.write(NEW.issue(now=NOW))
    assert await _is_served(port, NEW)
    assert not await _is_served(port, OLD)


async def test_a_new_pair_in_a_secret_that_the_kubelet_swaps_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = MountedSecret(tmp_path / "secret")
    secret.publish_pair(OLD.issue(now=NOW))
    async with served(secret) as port:
        assert await _is_served(port, OLD)
        secret.publish_pair(NEW.issue(now=NOW))
        assert await _is_served(port, NEW)
        assert not await _is_served(port, OLD)
    assert [record for record in caplog.records if record.levelno == logging.ERROR] == []


def test_a_secret_that_is_swapped_while_it_is_read_is_never_half_of_each_pair(tmp_path: Path) -> None:
    secret, pairs = MountedSecret(tmp_path / "secret"), [OLD.issue(now=NOW), NEW.issue(now=NOW)]
    secret.publish_pair(pairs[0])
    for number in range(300):
        swap = threading.Thread(target=secret.publish_pair, args=(pairs[number % 2],))
        swap.start()
        found = problem_with(secret.cert, secret.key)
        swap.join()
        assert found is None


async def test_a_half_written_pair_is_never_taken_and_the_whole_one_is(
    files: _Files, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    pair = NEW.issue(now=NOW)
    files.cert.write_text(pair.certificate_pem)
    assert await _is_served(port, OLD)
    assert await _is_served(port, OLD)
    files.key.write_text(pair.key_pem)
    assert await _is_served(port, NEW)
    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 1
    assert "not the key of the certificate" in vars(complaints[0])["found"]


@pytest.mark.parametrize("content", ["", "garbage", None])
async def test_a_damaged_or_missing_file_leaves_the_last_good_pair(
    files: _Files, port: int, content: str | None
) -> None:
    if content is None:
        files.key.unlink()
    else:
        files.key.write_text(content)
    assert await _is_served(port, OLD)
    files.write(NEW.issue(now=NOW))
    assert await _is_served(port, NEW)


async def test_plaintext_is_not_served(port: int) -> None:
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        with pytest.raises((grpc.aio.AioRpcError, asyncio.TimeoutError)):
            await KeyProbeStub(channel).ProbeKey(ProbeKeyRequest(), timeout=5)


def _encrypted(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


def test_files_that_cannot_be_used_at_start_are_refused_by_name(files: _Files) -> None:
    good, other = OLD.issue(now=NOW), OLD.issue(now=NOW)
    table = [
        ("garbage", good.key_pem, "--tls-cert-file"),
        ("", good.key_pem, "--tls-cert-file"),
        (good.certificate_pem[:-60], good.key_pem, "--tls-cert-file"),
        (good.certificate_pem + OLD.trust_anchor_pem[:-30], good.key_pem, "--tls-cert-file"),
        (good.certificate_pem, "garbage", "--tls-key-file"),
        (good.certificate_pem, other.key_pem, "not the key of the certificate"),
        (good.certificate_pem, _encrypted(good.key_pem), "encrypted"),
        ("x" * 300_000, good.key_pem, "larger than"),
    ]
    for certificate, key, expected in table:
        files.write(ServerCertificate(certificate, key))
        with pytest.raises(SettingsError, match=expected):
            PairFiles(files.cert, files.key)


def _pair(key: CertificateIssuerPrivateKeyTypes, usage: x509.KeyUsage) -> ServerCertificate:
    """A certificate of OLD's for localhost, which anything but its key and what that is for is right with."""
    extensions = ((x509.SubjectAlternativeName([x509.DNSName("localhost")]), False), (usage, True))
    request = Request(name("BYOK", "localhost"), key.public_key(), timedelta(days=1), extensions)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return ServerCertificate(pem_of([OLD.root.issue(request, now=NOW)]), pem)


SIGNING, AGREEING = key_usage(digital_signature=True), key_usage(key_agreement=True, key_encipherment=True)
RSA, P256 = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
UNFIT: dict[str, tuple[CertificateIssuerPrivateKeyTypes, x509.KeyUsage, str]] = {
    "Ed25519": (ed25519.Ed25519PrivateKey.generate(), SIGNING, r"gRPC cannot serve its key, Ed25519; expected RSA of"),
    "Ed448": (ed448.Ed448PrivateKey.generate(), SIGNING, "its key, Ed448; .* 8192 bits, P-256 or P-384"),
    "secp256k1": (ec.generate_private_key(ec.SECP256K1()), SIGNING, "its key, of curve secp256k1;"),
    "P-521": (ec.generate_private_key(ec.SECP521R1()), SIGNING, "its key, of curve secp521r1;"),
    "short RSA": (rsa.generate_private_key(65537, 1024), SIGNING, "its key, RSA of 1024 bits;"),  # noqa: S505 - refused
    "RSA that only encrypts": (RSA, AGREEING, "its keyUsage lacks digitalSignature"),
    "P-256 that only agrees": (P256, AGREEING, "its keyUsage lacks digitalSignature"),
}


@pytest.mark.parametrize("key", [RSA, P256, ec.generate_private_key(ec.SECP384R1())])
async def test_each_kind_of_key_that_is_taken_is_served(files: _Files, key: CertificateIssuerPrivateKeyTypes) -> None:
    files.write(_pair(key, SIGNING))
    async with served(files) as port:
        assert await _is_served(port, OLD)


@pytest.mark.parametrize("case", UNFIT)
async def test_a_pair_that_no_client_could_be_served_with_is_named_and_not_taken(
    files: _Files, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, usage, expected = UNFIT[case]
    pair = PairFiles(files.cert, files.key)
    before = pair.not_after()
    files.write(_pair(key, usage))
    assert pair.refresh() is None
    assert pair.not_after() == before
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR]
    with pytest.raises(SettingsError, match=expected):
        PairFiles(files.cert, files.key)


# Of X.509's versions 1 to 3, and of no extension twice: both are no ValueErrors of cryptography's.
@pytest.mark.parametrize(("good", "bad"), [("a003020102", "a003020105"), ("0603551d0e", "0603551d23")])
def test_a_certificate_that_breaks_x509_is_refused_by_name(files: _Files, good: str, bad: str) -> None:
    pair = OLD.issue(now=NOW)
    der = base64.b64decode("".join(pair.certificate_pem.splitlines()[1:-1]))
    body = base64.encodebytes(der.replace(bytes.fromhex(good), bytes.fromhex(bad))).decode()
    files.write(ServerCertificate(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n", pair.key_pem))
    with pytest.raises(SettingsError, match=r"tls\.crt: expected a certificate chain in PEM"):
        PairFiles(files.cert, files.key)


def test_a_missing_file_at_start_is_refused_by_name(files: _Files) -> None:
    files.cert.unlink()
    with pytest.raises(SettingsError, match=r"tls\.crt: cannot be read"):
        PairFiles(files.cert, files.key)


def test_a_certificate_that_has_expired_is_warned_of(files: _Files, caplog: pytest.LogCaptureFixture) -> None:
    files.write(OLD.issue(now=NOW - timedelta(days=20), validity=timedelta(days=1)))
    PairFiles(files.cert, files.key)
    assert [record.message for record in caplog.records] == ["TLS certificate has expired"]
