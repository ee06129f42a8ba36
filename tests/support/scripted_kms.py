"""A server on 127.0.0.1 that answers each request as a script says, faults and all; it speaks just enough HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from byok_api.signatures import spki_of


@dataclass(frozen=True)
class Received:
    """A request."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.body)
        return fields


Reply = Callable[[Received], bytes | None]
"""The bytes to write; None hangs up without any. A reply that is not as long as it says ends with hanging up."""

HANG = b"hang"
"""Written as nothing, with the connection left open."""


def http(status: int, body: bytes, *, request_id: str | None = "req-1", length: int | None = None) -> bytes:
    """An answer, whose Content-Length may lie."""
    named = f"x-amzn-RequestId: {request_id}\r\n" if request_id else ""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\n{named}Content-Length: {size}\r\n\r\n".encode() + body


def json_reply(fields: object, status: int = 200) -> Reply:
    return lambda _: http(status, json.dumps(fields).encode())


def error_reply(code: str, message: str = "", status: int = 400) -> Reply:
    return json_reply({"__type": code, "message": message}, status)


def raw_reply(answer: bytes | None) -> Reply:
    return lambda _: answer


def signing_reply(key: ec.EllipticCurvePrivateKey, **overrides: object) -> Reply:
    """What KMS answers to Sign with an ES256 key, but for `overrides`; one of None is left out."""

    def reply(request: Received) -> bytes:
        digest = base64.b64decode(request.fields["Message"])
        signature = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        fields = {
            "KeyId": request.fields["KeyId"],
            "Signature": base64.b64encode(signature).decode(),
            "SigningAlgorithm": request.fields["SigningAlgorithm"],
        } | overrides
        present = {name: value for name, value in fields.items() if value is not None}
        return http(200, json.dumps(present).encode(), request_id="req-signed")

    return reply


def public_key_reply(key: ec.EllipticCurvePrivateKey, arn: str, **overrides: object) -> Reply:
    """What KMS answers to GetPublicKey with an ES256 key, but for `overrides`."""
    fields: dict[str, object] = {
        "KeyId": arn,
        "PublicKey": base64.b64encode(spki_of(key.public_key())).decode(),
        "KeySpec": "ECC_NIST_P256",
        "KeyUsage": "SIGN_VERIFY",
        "SigningAlgorithms": ["ECDSA_SHA_256"],
    }
    return json_reply(fields | overrides)


async def read_request(reader: asyncio.StreamReader) -> Received:
    """Read a request; IncompleteReadError if the other end hung up."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Received(headers, await reader.readexactly(int(headers["content-length"])))


@dataclass
class ScriptedServer:
    """Answers by `script`, the last reply again and again."""

    script: list[Reply]
    url: str = ""
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def wait_for(self, count: int) -> None:
        """Return once so many requests have come."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: len(self.received) >= count)

    def hang_up(self) -> None:
        """Close every connection, as a server does with those that are idle."""
        for writer in self.open:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_request(reader)
        async with self.news:
            self.received.append(request)
            self.news.notify_all()
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        answer = reply(request)
        if answer == HANG:
            await reader.read()
            return False
        writer.write(answer or b"")
        await writer.drain()
        return answer is not None and _is_whole(answer)


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


@asynccontextmanager
async def scripted_server(*script: Reply) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer(list(script))
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()
        scripted.hang_up()
