"""Faults put into effect: each is a layer around the answering of one call, in the order of their rules."""

import asyncio
import base64
import binascii
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from byok_sandbox.kms.exchange import Asked
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.injection import (
    ErrorAnswer,
    Fault,
    Garbage,
    GatewayAnswer,
    Hang,
    Latency,
    OtherSignature,
    Reset,
    Truncate,
    WrongKeyId,
)

Answering = Callable[[Asked], Awaitable[web.Response]]
"""Does what was asked for, records it, and makes the answer."""

_MESSAGES: Mapping[str, str] = {
    "ExpiredTokenException": "The security token included in the request is expired",
    "ThrottlingException": "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    "UnrecognizedClientException": "The security token included in the request is invalid.",
}
_KEY_ID = re.compile(r"[0-9a-f]{12}$")
_NO_LINGER = struct.pack("ii", 1, 0)


async def answer_under(fault: Fault, answering: Answering, asked: Asked) -> web.Response:
    """Answer one call under one fault."""
    match fault:
        case Latency():
            await asyncio.sleep(fault.seconds)
        case ErrorAnswer():
            asked = replace(asked, refusal=_refusal(fault))
        case OtherSignature() if asked.operation == "Sign":
            asked = replace(asked, parameters=_other_message(asked))
        case GatewayAnswer() | Reset() | Hang() if not fault.after:
            return _instead_of_an_answer(fault)
    return _altered(fault, await answering(asked))


def _altered(fault: Fault, answer: web.Response) -> web.Response:
    match fault:
        case WrongKeyId():
            return _of_other_key(answer)
        case Truncate():
            return _Truncated.of(answer)
        case Garbage():
            return web.Response(body=b"\x00garbage", headers=_headers_of(answer))
        case GatewayAnswer() | Reset() | Hang():
            return _instead_of_an_answer(fault)
        case _:
            return answer


def _refusal(fault: ErrorAnswer) -> AwsFaultError:
    ordered = f"The sandbox was told to answer {fault.code}."
    message = _MESSAGES.get(fault.code, ordered) if fault.message is None else fault.message
    return AwsFaultError(fault.code, message, status=fault.status)


def _other_message(asked: Asked) -> Mapping[str, Any]:
    """Flip every bit of a message: it keeps its length, and so its type."""
    try:
        message = base64.b64decode(asked.parameters.get("Message", ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        return asked.parameters  # KMS will refuse it
    other = bytes(byte ^ 0xFF for byte in message)
    return {**asked.parameters, "Message": base64.b64encode(other).decode()} if other else asked.parameters


def _of_other_key(answer: web.Response) -> web.Response:
    try:
        fields = json.loads(answer.text or "")
    except ValueError:
        return answer  # of STS
    if not isinstance(fields, dict) or not isinstance(fields.get("KeyId"), str):
        return answer
    other = _KEY_ID.sub(lambda found: "1" * 12 if found[0] == "0" * 12 else "0" * 12, fields["KeyId"])
    return _with_body(answer, json.dumps({**fields, "KeyId": other}).encode())


def _with_body(answer: web.Response, body: bytes) -> web.Response:
    return web.Response(body=body, status=answer.status, headers=_headers_of(answer))


def _instead_of_an_answer(fault: GatewayAnswer | Reset | Hang) -> web.Response:
    match fault:
        case GatewayAnswer():
            text = f"<html><body><h1>{fault.status} from a gateway</h1></body></html>"
            return web.Response(text=text, status=fault.status, content_type="text/html")
        case Reset():
            return _Reset()
        case Hang():
            return _Hanging()


def _headers_of(answer: web.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "Content-Length"}


class _Truncated(web.Response):
    """Says how long it is, and ends half way."""

    @classmethod
    def of(cls, answer: web.Response) -> Self:
        return cls(body=answer.body, status=answer.status, headers=_headers_of(answer))

    async def write_eof(self, data: bytes = b"") -> None:
        body = self.body if isinstance(self.body, bytes) else data
        await self.write(body[: len(body) // 2])
        self.force_close()


class _Unanswered(web.Response):
    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


class _Reset(_Unanswered):
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is not None:
            # Without lingering a socket is not closed but reset (socket(7), SO_LINGER).
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()
        return None


class _Hanging(_Unanswered):
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - aiohttp's
        return None

    @property
    def keep_alive(self) -> bool:
        # Nobody waits here for what never comes: the call is over, and the caller's connection stays.
        return True
