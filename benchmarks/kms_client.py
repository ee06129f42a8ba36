"""CPU microseconds of this process for each kms:Sign, with 64 in flight over TLS: AwsKms beside boto3 in threads.

Run from the checkout's root: `.venv/bin/python -m benchmarks.kms_client [calls]`. A stand-in for KMS, in a process of
its own, signs for real. A bare POST, unsigned and its answer not looked at, is measured too, by aiohttp and by the
signer's own transport: what a client of either cannot do without. A busy machine makes all look slow, and for each of
them the least disturbed of many short rounds counts; the shares are of aiohttp's POST in the same run.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from yarl import URL

from byok_api.algorithms import SigningAlgorithm
from byok_api.references import KeyArn, ObjectName
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.kms.keys import SoftwareKey
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.http1 import render_headers
from byok_signer.kms.port import KeyHandle
from byok_signer.kms.transport import Transport

IN_FLIGHT = 64
AIOHTTP = "aiohttp's POST"
_ROUNDS = 40
ARN = KeyArn("arn:aws:kms:eu-central-1:111122223333:key/4ccbd4a5-6b8e-4a9c-9c5e-0d2f3c1b7a10")
KEY = KeyHandle(name=ObjectName("team", "photo"), arn=ARN, external_id="byok:benchmark:team/photo")
ES256 = SigningAlgorithm.ES256
MESSAGE = b"a claim's Sig_structure" * 90
DIGEST = ES256.digest(MESSAGE)
REQUEST = json.dumps(
    {
        "KeyId": ARN.text,
        "Message": base64.b64encode(DIGEST).decode(),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }
).encode()
# The length of a session token of STS.
CREDENTIALS = Credentials("ASIABENCHMARK", "s" * 40, "t" * 900)
# As long as those of a signed request.
AIOHTTP_HEADERS = {"Authorization": "a" * 1200}
HEADERS = render_headers({"Host": "kms.example", **AIOHTTP_HEADERS})


class StandIn(asyncio.Protocol):
    """Answers Sign and nothing else."""

    key = SoftwareKey.generate("ECC_NIST_P256")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows the type
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._transport.write(self._answer(json.loads(body)))

    def _answer(self, fields: dict[str, str]) -> bytes:
        signature = self.key.sign("ECDSA_SHA_256", base64.b64decode(fields["Message"]), "DIGEST")
        answer = {
            "KeyId": fields["KeyId"],
            "Signature": base64.b64encode(signature).decode(),
            "SigningAlgorithm": fields["SigningAlgorithm"],
        }
        body = json.dumps(answer).encode()
        head = (
            "HTTP/1.1 200 OK\r\nx-amzn-RequestId: 01234567-89ab-cdef-0123-456789abcdef\r\nCache-Control: no-cache\r\n"
            f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def serve(certificate: str, private_key: str, told: Connection) -> None:
    """Run the stand-in until the parent ends this process."""

    async def run() -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, private_key)
        server = await asyncio.get_running_loop().create_server(StandIn, "127.0.0.1", 0, ssl=tls)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def in_flight(call: Callable[[], Awaitable[object]], calls: int) -> None:
    """Make `calls` calls, 64 at a time."""

    async def worker() -> None:
        for _ in range(calls // IN_FLIGHT):
            await call()

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


async def measure(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """Answer CPU microseconds of this process for each call."""
    before = time.process_time()
    await in_flight(call, calls)
    return (time.process_time() - before) / calls * 1e6


async def run(endpoint: str, ca_file: Path, calls: int) -> dict[str, float]:
    """Measure the clients in turn, several times, and return the best of each: the one that was disturbed least."""
    config = KmsConfig(installation="benchmark", endpoint=endpoint, ca_file=ca_file)
    kms = AwsKms(config, chain=lambda: CREDENTIALS)
    transport = Transport(ca_file)
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=ca_file))
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            clients: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
                "AwsKms": (lambda: kms.sign(KEY, ES256, message=MESSAGE, timeout=60), calls),
                "own POST": (lambda: transport.post(URL(endpoint), HEADERS, REQUEST, timeout=60), calls),
                AIOHTTP: (partial(bare_post, session, endpoint), calls),
                "boto3 in threads": (boto3_call(endpoint, ca_file, threads), calls // 10),
            }
            best = dict.fromkeys(clients, float("inf"))
            for _ in range(_ROUNDS):
                for name, (call, share) in clients.items():
                    await in_flight(call, IN_FLIGHT)
                    best[name] = min(best[name], await measure(call, max(IN_FLIGHT, share // _ROUNDS)))
    await kms.close()
    await transport.close()
    return best


async def bare_post(session: aiohttp.ClientSession, endpoint: str) -> None:
    """Do what no client on aiohttp can do without: post, unsigned, and read."""
    async with session.post(endpoint, data=REQUEST, headers=AIOHTTP_HEADERS) as response:
        await response.read()


def boto3_call(endpoint: str, ca_file: Path, threads: ThreadPoolExecutor) -> Callable[[], Awaitable[object]]:
    """Make a call of boto3's, in a thread."""
    client = boto3.client(
        "kms",
        region_name=ARN.region,
        endpoint_url=endpoint,
        verify=str(ca_file),
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
        aws_session_token=CREDENTIALS.token,
        config=Config(max_pool_connections=IN_FLIGHT),
    )

    def sign() -> object:
        return client.sign(KeyId=ARN.text, Message=DIGEST, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")

    return lambda: asyncio.get_running_loop().run_in_executor(threads, sign)


def measured(calls: int) -> dict[str, float]:
    """Start the stand-in, measure, stop it; CPU microseconds for each Sign, by client."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, private_key, ca_file = write_certificate(Path(folder))
        here, there = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(str(certificate), str(private_key), there), daemon=True
        )
        server.start()
        try:
            return asyncio.run(run(f"https://127.0.0.1:{here.recv()}", ca_file, calls))
        finally:
            server.terminate()
            server.join()


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("calls", type=int, nargs="?", default=20_000)
    best = measured(parser.parse_args().calls)
    for name, cost in best.items():
        print(f"{name:<18} {cost:8.0f} us CPU per Sign {cost / best[AIOHTTP]:8.2f}")


def write_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Write a server certificate, its key, and the CA that issued it."""
    now = datetime.now(UTC)
    authority = TlsAuthority.create(now=now)
    issued = authority.issue(now=now)
    certificate, private_key, ca_file = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
    certificate.write_text(issued.certificate_pem)
    private_key.write_text(issued.key_pem)
    ca_file.write_text(authority.trust_anchor_pem)
    return certificate, private_key, ca_file


if __name__ == "__main__":
    main()
