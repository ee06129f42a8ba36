"""What keeps the signer from serving: named, with exit status 2, and without a traceback."""

import asyncio
import json
import socket
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import Issuer
from byok_signer.audit import FileAuditSink
from tests.support.signer_process import prepare, prepare_tls, run_to_its_end

TLS = {"listen": "127.0.0.1:0", "tls-cert-file": "{folder}/tls.crt", "tls-key-file": "{folder}/tls.key"}

# What is wrong, with the settings that lead there, and what the line must begin with.
WRONG: dict[str, tuple[dict[str, str], str]] = {
    "an unknown flag": ({"lisen": "unix:/tmp/x"}, "no such setting; did you mean --listen?"),
    "no manifests": ({"manifests": "{folder}/nowhere"}, "--manifests: expected a folder that exists"),
    "presets that are a file": ({"presets": "{folder}/garbage"}, "--presets: expected a folder that exists"),
    "settings in no YAML": ({"config": "{folder}/binary"}, "--config {folder}/binary"),
    "plaintext on TCP": ({"listen": "127.0.0.1:0"}, "expected --tls-cert-file and --tls-key-file"),
    "no certificate": (TLS | {"tls-cert-file": "{folder}/garbage"}, "--tls-cert-file {folder}/garbage: expected"),
    "half a certificate": (TLS | {"tls-cert-file": "{folder}/half.crt"}, "--tls-cert-file {folder}/half.crt: expected"),
    "a huge certificate": (TLS | {"tls-cert-file": "{folder}/huge"}, "{folder}/huge: larger than"),
    "no private key": (TLS | {"tls-key-file": "{folder}/garbage"}, "--tls-key-file {folder}/garbage: expected"),
    "an encrypted private key": (TLS | {"tls-key-file": "{folder}/locked.key"}, "--tls-key-file {folder}/locked.key"),
    "another pair's private key": (TLS | {"tls-key-file": "{folder}/other.key"}, "not the key of the certificate in"),
    "a folder for a socket": ({"listen": "unix:{folder}/manifests"}, "--listen unix:{folder}/manifests"),
    "a socket's path too long": ({"listen": "unix:{folder}/" + 100 * "x"}, "--listen unix:{folder}/xxx"),
    "a taken port": (TLS | {"listen": "127.0.0.1:{taken}"}, "--listen 127.0.0.1:{taken}: cannot be bound"),
    "another machine's address": (TLS | {"listen": "192.0.2.1:1"}, "--listen 192.0.2.1:1: cannot be bound"),
    "a taken HTTP port": ({"http-listen": "127.0.0.1:{taken}"}, "--http-listen 127.0.0.1:{taken}: cannot be bound"),
    "a JWK set that is none": ({"token-jwks-file": "{folder}/garbage"}, "--token-jwks-file {folder}/garbage: not JSON"),
    "a JWK set without keys": ({"token-jwks-file": "{folder}/none.json"}, "--token-jwks-file {folder}/none.json: the"),
    "a huge JWK set": ({"token-jwks-file": "{folder}/huge"}, "--token-jwks-file {folder}/huge: the JWK set has over"),
    "a JWK set's issuer without CA": (
        {"token-jwks-file": "", "token-jwks-url": "https://localhost", "token-jwks-ca-file": "{folder}/garbage"},
        "--token-jwks-ca-file {folder}/garbage: expected CA certificates",
    ),
    "CA certificates for AWS that are none": (
        {"aws-ca-file": "{folder}/garbage"},
        "--aws-ca-file {folder}/garbage: expected CA certificates",
    ),
    "an audit file that is none": ({"audit": "{folder}/garbage"}, "--audit: the audit file {folder}/garbage"),
    "a damaged audit file": ({"audit": "{folder}/damaged"}, "--audit: the audit file {folder}/damaged"),
}


async def trail(path: Path) -> bytes:
    await FileAuditSink(path).close()
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All that is wrong."""
    now = datetime.now(UTC)
    pair, other = (TlsAuthority.create(now=now).issue(now=now, validity=timedelta(days=1)) for _ in range(2))
    private = load_pem_private_key(pair.key_pem.encode(), None)
    encrypted = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    prepare_tls(tmp_path)
    files = {
        "garbage": b"garbage\n",
        "binary": bytes(range(256)),
        "huge": b"x" * (1024 * 1024),
        "half.crt": (tmp_path / "tls.crt").read_bytes()[:-100],
        "locked.key": encrypted,
        "other.key": other.key_pem.encode(),
        "none.json": json.dumps({"keys": []}).encode(),
        "damaged": asyncio.run(trail(tmp_path / "audit")).replace(b'"time":"2', b'"time":"3'),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
def test_what_keeps_it_from_serving_is_named_with_status_2(folder: Path, wrong: dict[str, str], said: str) -> None:
    with ExitStack() as stack:
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        names = {"folder": str(folder), "taken": str(taken.getsockname()[1])}
        flags = prepare(folder, Issuer()) | {name: value.format_map(names) for name, value in wrong.items()}
        status = run_to_its_end({name: value for name, value in flags.items() if value}, folder / "log")
    told = (folder / "log").read_text()
    assert status == 2, told
    assert any(line.startswith("byok-signer: ") and said.format_map(names) in line for line in told.splitlines()), told
    assert "Traceback" not in told


async def test_an_audit_file_whose_last_record_was_torn_off_is_no_reason_not_to_serve(folder: Path) -> None:
    sink = FileAuditSink(folder / "audit.jsonl")
    await sink.close()
    with (folder / "audit.jsonl").open("ab") as file:
        file.write(b'{"schema":1,"ki')
    await FileAuditSink(folder / "audit.jsonl").close()
