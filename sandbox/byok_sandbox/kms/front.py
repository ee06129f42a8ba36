"""The HTTP front: reads a request, finds out who sent it and what for, answers and records it.

KMS speaks JSON 1.1 and STS the query protocol; both come as POST to `/`, told apart by their headers, and any Region is
served, since the Region stands in the signature's scope. The steps that KMS takes with a call are in `service`; around
the whole lie the faults that somebody ordered (`injection`, `effects`).
"""

import asyncio
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiohttp import web

from byok_sandbox.kms.calls import KmsRequest
from byok_sandbox.kms.effects import Answering, answer_under
from byok_sandbox.kms.events import EventLog, Happening, Origin
from byok_sandbox.kms.exchange import Asked, Exchange
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.identities import Directory
from byok_sandbox.kms.injection import Faults, Subject
from byok_sandbox.kms.keys import SoftwareKey
from byok_sandbox.kms.sigv4 import Scope, SignedRequest, authenticate, read_scope
from byok_sandbox.kms.sts import NAMESPACE, StsCall, StsService, read_parameters, xml

if TYPE_CHECKING:
    from byok_sandbox.kms.calls import KmsCall
    from byok_sandbox.kms.service import KmsService
    from byok_sandbox.kms.store import StoredKey

BODY_LIMIT = 128 * 1024
"""Bytes of a request: a key policy of 32 KiB fits however it is escaped."""

_TARGET_PREFIX = "TrentService"
_ACTION_LIMIT = 64
_CONTENT_TYPES: Mapping[str, str] = MappingProxyType({"kms": "application/x-amz-json-1.1", "sts": "text/xml"})


@dataclass(frozen=True)
class State:
    """What the front and the control share."""

    directory: Directory
    events: EventLog
    faults: Faults
    clock: Callable[[], float]
    """Seconds since the epoch."""


class Front:
    """Answers KMS and STS on one address."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sts = StsService(state.directory)
        self._kms: asyncio.Task[KmsService] | None = None

    async def start(self) -> None:
        """Begin to load the keys' store; calls of KMS wait for it.

        Importing moto takes longer than all else, so that it is not done before the address can be told.
        """
        self._kms = asyncio.create_task(_load_kms())

    async def stop(self) -> None:
        """Wait for the loading to end, which cannot be broken off."""
        if self._kms is not None:
            await asyncio.wait([self._kms])

    async def adopt(self, arn: str, material: SoftwareKey) -> None:
        """Add a key that was made before, as KmsService does."""
        (await self._loaded()).adopt(arn, material)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        request_id = str(uuid4())
        headers = _headers(request)
        service = "kms" if "x-amz-target" in headers else "sts"
        try:
            exchange = await self._authenticate(request, request_id, headers, service)
            asked = await self._read_kms(exchange) if service == "kms" else _read_sts(exchange)
        except AwsFaultError as refusal:
            return _refused(service, request_id, refusal)
        answering: Answering = self._answer
        for fault in reversed(self._state.faults.befalling(_subject(asked), exchange.now)):
            answering = partial(answer_under, fault, answering)
        return await answering(asked)

    async def _authenticate(
        self, request: web.Request, request_id: str, headers: Mapping[str, str], service: str
    ) -> Exchange:
        body = await _read(request)
        scope = read_scope(headers)
        _check_service(scope, service)
        now = self._state.clock()
        now += self._state.faults.skew(service, now)
        key = authenticate(SignedRequest(headers, body), scope, self._state.directory, now)
        return Exchange(request_id, headers, body, key.caller, scope.region, now)

    async def _read_kms(self, exchange: Exchange) -> Asked:
        service = await self._loaded()
        prefix, _, name = exchange.headers["x-amz-target"].partition(".")
        if prefix != _TARGET_PREFIX:
            raise AwsFaultError("UnknownOperationException", f"X-Amz-Target must begin with {_TARGET_PREFIX}.")
        asked = Asked(exchange, "kms", name, _read_json(exchange.body))
        return replace(asked, key=service.key_of(_open(service, asked)))

    async def _answer(self, asked: Asked) -> web.Response:
        try:
            body = await (self._do_kms if asked.service == "kms" else self._do_sts)(asked)
        except AwsFaultError as fault:
            return _refused(asked.service, asked.exchange.request_id, fault)
        return _from_aws(asked.service, asked.exchange.request_id, body, 200)

    async def _do_kms(self, asked: Asked) -> str:
        service = await self._loaded()
        call = _open(service, asked)
        happening = Happening("kms", asked.operation, asked.parameters, read_only=call.operation.read_only)
        try:
            if asked.refusal is not None:
                raise asked.refusal
            answer = await service.answer(call)
        except AwsFaultError as fault:
            self._record(asked, replace(happening, fault=fault), call.keys or [key for key in [asked.key] if key])
            raise
        self._record(asked, happening, call.keys)
        return json.dumps(answer)

    async def _do_sts(self, asked: Asked) -> str:
        exchange, action = asked.exchange, asked.operation
        shown = {name: value for name, value in asked.parameters.items() if name not in {"Action", "Version"}}
        happening = Happening("sts", action, shown, read_only=True)
        try:
            if asked.refusal is not None:
                raise asked.refusal
            result = self._sts.answer(StsCall(exchange.caller, action, asked.parameters, exchange.now))
        except AwsFaultError as fault:
            self._record(asked, replace(happening, fault=fault), ())
            raise
        self._record(asked, happening, ())
        metadata = f"<ResponseMetadata>{xml('RequestId', exchange.request_id)}</ResponseMetadata>"
        body = f"<{action}Result>{result}</{action}Result>{metadata}"
        return f'<{action}Response xmlns="{NAMESPACE}">{body}</{action}Response>'

    def _record(self, asked: Asked, happening: Happening, keys: Sequence["StoredKey"]) -> None:
        if happening.fault is not None and happening.fault.names_nobody:
            return
        exchange = asked.exchange
        origin = Origin(exchange.caller, exchange.region, exchange.request_id, exchange.headers.get("user-agent", ""))
        self._state.events.append(origin, happening, [key.arn for key in keys], exchange.now)

    async def _loaded(self) -> "KmsService":
        if self._kms is None:
            raise RuntimeError("the front was not started")
        # Shielded: the client of one call that goes away must not stop the loading for all.
        return await asyncio.shield(self._kms)


async def _load_kms() -> "KmsService":
    module = await asyncio.to_thread(importlib.import_module, "byok_sandbox.kms.service")
    service: KmsService = module.KmsService()
    return service


def _open(service: "KmsService", asked: Asked) -> "KmsCall":
    exchange = asked.exchange
    return service.open(KmsRequest(exchange.caller, exchange.region, asked.operation, asked.parameters, exchange.now))


def _read_sts(exchange: Exchange) -> Asked:
    parameters = read_parameters(exchange.body)
    return Asked(exchange, "sts", parameters.get("Action", "")[:_ACTION_LIMIT], parameters)


def _subject(asked: Asked) -> Subject:
    caller, key = asked.exchange.caller, asked.key
    family = key.spec.partition("_")[0] if key else ""
    return Subject(
        asked.service, asked.operation, key.arn if key else None, (caller.account, asked.exchange.region, family)
    )


def _headers(request: web.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known},{value}"
    return headers


async def _read(request: web.Request) -> bytes:
    if request.method != "POST" or request.raw_path != "/":
        raise AwsFaultError("UnknownOperationException", "KMS and STS take POST to / only.")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise AwsFaultError("RequestEntityTooLargeException", f"The body has more than {BODY_LIMIT} bytes.") from error


def _check_service(scope: Scope, service: str) -> None:
    if scope.service != service:
        message = f"Credential should be scoped to correct service: '{service}'."
        raise AwsFaultError("InvalidSignatureException", message)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AwsFaultError("SerializationException", "The body is not JSON.") from error
    if not isinstance(parameters, dict):
        raise AwsFaultError("SerializationException", "The body is not a JSON object.")
    # AWS takes null as absent.
    return {name: value for name, value in parameters.items() if value is not None}


def _refused(service: str, request_id: str, fault: AwsFaultError) -> web.Response:
    if service == "kms":
        body = json.dumps({"__type": fault.code, "message": fault.message})
        return _from_aws(service, request_id, body, fault.kms_status)
    error = xml("Type", "Sender") + xml("Code", fault.sts_code) + xml("Message", fault.message)
    text = f"<Error>{error}</Error>{xml('RequestId', request_id)}"
    return _from_aws(
        service, request_id, f'<ErrorResponse xmlns="{NAMESPACE}">{text}</ErrorResponse>', fault.sts_status
    )


def _from_aws(service: str, request_id: str, text: str, status: int) -> web.Response:
    headers = {"Content-Type": _CONTENT_TYPES[service], "x-amzn-RequestId": request_id}
    return web.Response(body=text.encode(), status=status, headers=headers)
