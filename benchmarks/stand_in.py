"""A stand-in for KMS and STS in a process of its own: signs for real, and checks nothing that costs time.

It can take its time, as KMS does over a network, and enforce a quota: of Sign no more than so many in a second of the
clock. Who asks for more gets the ThrottlingException of AWS, which throttles "all subsequent requests in that second"
(KMS developer guide, "Throttling requests"). It can also be stricter than that, and count within any second.
"""

import asyncio
import base64
import json
import math
import multiprocessing
import ssl
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from byok_sandbox.kms.keys import SoftwareKey

ACCOUNT = "111122223333"
_LAST_PATIENCE = 5.0
_IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/byok-signer/benchmark</Arn><UserId>AROA:benchmark</UserId>"
    f"<Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
).encode()


@dataclass(frozen=True)
class Conduct:
    """How KMS is."""

    latency: float = 0.0
    """Seconds from a request to its answer, besides what the work takes."""
    quota: float | None = None
    """Signatures in a second of the clock."""
    strict: bool = False
    """Within any second, whenever it begins."""


@dataclass(frozen=True)
class Counts:
    """What KMS has done since its conduct was last changed."""

    signed: int = 0
    throttled: int = 0


@dataclass(frozen=True)
class Files:
    """What the process is started with."""

    certificate: Path
    private_key: Path
    signing_key: bytes
    """PEM."""
    others: Mapping[str, bytes] = field(default_factory=dict)
    """PEM of the keys behind these ARNs; any other names the signing key."""


class _Kms:
    """The state that all connections share."""

    def __init__(self, key: SoftwareKey, others: Mapping[str, SoftwareKey]) -> None:
        self._key, self._others = key, others
        self.conduct = Conduct()
        self.counts = Counts()
        self._signed_at: deque[float] = deque()

    def change(self, conduct: Conduct) -> None:
        self.conduct, self.counts = conduct, Counts()

    def answer(self, head: bytes, body: bytes) -> bytes:
        if body.startswith(b"Action="):
            return _response(b"200 OK", _IDENTITY, b"text/xml")
        fields = json.loads(body)
        key = self._others.get(fields["KeyId"], self._key)
        if b".GetPublicKey\r\n" in head:
            return _public_key(key, fields)
        if b".Sign\r\n" not in head:
            return _refused("AccessDeniedException")
        if fields.get("DryRun"):
            return _refused("DryRunOperationException")
        if not self._grant():
            self.counts = replace(self.counts, throttled=self.counts.throttled + 1)
            return _refused("ThrottlingException")
        self.counts = replace(self.counts, signed=self.counts.signed + 1)
        message, algorithm = base64.b64decode(fields["Message"]), fields["SigningAlgorithm"]
        signature = base64.b64encode(key.sign(algorithm, message, fields["MessageType"])).decode()
        answer = f'{{"KeyId":"{fields["KeyId"]}","Signature":"{signature}","SigningAlgorithm":"{algorithm}"}}'
        return _response(b"200 OK", answer.encode())

    def _grant(self) -> bool:
        quota = self.conduct.quota
        if quota is None:
            return True
        now = time.time()
        begin = now - 1 if self.conduct.strict else math.floor(now) - 1e-9
        while self._signed_at and self._signed_at[0] <= begin:
            self._signed_at.popleft()
        if len(self._signed_at) >= quota:
            return False
        self._signed_at.append(now)
        return True


class _Connection(asyncio.Protocol):
    def __init__(self, kms: _Kms) -> None:
        self._kms = kms
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream's transport was expected")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        answer, latency = self._kms.answer(head + b"\r\n", body), self._kms.conduct.latency
        if latency:
            asyncio.get_running_loop().call_later(latency, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _public_key(key: SoftwareKey, fields: Mapping[str, str]) -> bytes:
    answer = {
        "KeyId": fields["KeyId"],
        "PublicKey": base64.b64encode(key.spki).decode(),
        "KeySpec": key.spec,
        "KeyUsage": "SIGN_VERIFY",
        "SigningAlgorithms": list(key.algorithms),
    }
    return _response(b"200 OK", json.dumps(answer).encode())


def _refused(code: str) -> bytes:
    return _response(b"400 Bad Request", json.dumps({"__type": code, "message": "as the stand-in does"}).encode())


def _response(status: bytes, body: bytes, media_type: bytes = b"application/x-amz-json-1.1") -> bytes:
    return (
        b"HTTP/1.1 %b\r\nx-amzn-RequestId: 01234567-89ab-cdef-0123-456789abcdef\r\nCache-Control: no-cache\r\n"
        b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (status, media_type, len(body), body)
    )


class StandIn:
    """The process, as seen from outside."""

    def __init__(self, files: Files) -> None:
        self._pipe, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(files, there), daemon=True)
        self._process.start()
        there.close()
        self.port: int = self._told()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process.pid is None:
            raise AssertionError("the process was started")
        return self._process.pid

    def behave(self, conduct: Conduct) -> Counts:
        """Change its conduct, and return what it did under the one before."""
        self._pipe.send(conduct)
        counts: Counts = self._told()
        return counts

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(_LAST_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _told(self) -> Any:  # noqa: ANN401 - a port, or counts
        if not self._pipe.poll(60):
            raise TimeoutError("the stand-in for KMS does not answer")
        return self._pipe.recv()


@contextmanager
def stand_in(files: Files) -> Iterator[StandIn]:
    """Run KMS's stand-in on a free port of this machine."""
    kms = StandIn(files)
    try:
        yield kms
    finally:
        kms.close()


def _serve(files: Files, pipe: Connection) -> None:
    kms = _Kms(_software_key(files.signing_key), {arn: _software_key(pem) for arn, pem in files.others.items()})
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.private_key)

    def changed() -> None:
        counts = kms.counts
        kms.change(pipe.recv())
        pipe.send(counts)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(kms), "127.0.0.1", 0, ssl=tls, backlog=1024)
        loop.add_reader(pipe.fileno(), changed)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with suppress(KeyboardInterrupt, EOFError):
        asyncio.run(run())


def _software_key(pem: bytes) -> SoftwareKey:
    private_key = load_pem_private_key(pem, None)
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise TypeError("an EC key was expected")
    return SoftwareKey("ECC_NIST_P256", private_key)
