"""The HTTP front: reads a request, finds out who sent it and for which service, answers and records it.

KMS speaks JSON 1.1 and STS the query protocol; both come as POST to `/`, told apart by their headers, and any Region is
served, since the Region stands in the signature's scope. The steps that KMS takes with a call are in `service`.
"""

import asyncio
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiohttp import web

from byok_sandbox.kms.calls import KmsRequest
from byok_sandbox.kms.events import EventLog, Happening, Origin
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.identities import Caller, Directory
from byok_sandbox.kms.sigv4 import Scope, SignedRequest, authenticate, read_scope
from byok_sandbox.kms.sts import NAMESPACE, StsCall, StsService, read_parameters, xml

if TYPE_CHECKING:
    from byok_sandbox.kms.service import KmsService
    from byok_sandbox.kms.store import StoredKey

BODY_LIMIT = 128 * 1024
"""Bytes of a request: a key policy of 32 KiB fits however it is escaped."""

_TARGET_PREFIX = "TrentService"
_ACTION_LIMIT = 64
_JSON = "application/x-amz-json-1.1"


@dataclass(frozen=True)
class Exchange:
    """A request whose sender is known."""

    headers: Mapping[str, str]
    body: bytes
    caller: Caller
    region: str
    now: float


@dataclass(frozen=True)
class State:
    """What the front and the control share."""

    directory: Directory
    events: EventLog
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

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        request_id = str(uuid4())
        headers = _headers(request)
        is_kms = "x-amz-target" in headers
        try:
            exchange = await self._authenticate(request, headers, "kms" if is_kms else "sts")
            answer = await (self._answer_kms if is_kms else self._answer_sts)(exchange, request_id)
        except AwsFaultError as fault:
            answer = _kms_fault(fault) if is_kms else _sts_fault(fault, request_id)
        answer.headers["x-amzn-RequestId"] = request_id
        return answer

    async def _authenticate(self, request: web.Request, headers: Mapping[str, str], service: str) -> Exchange:
        body = await _read(request)
        scope = read_scope(headers)
        _check_service(scope, service)
        now = self._state.clock()
        key = authenticate(SignedRequest(headers, body), scope, self._state.directory, now)
        return Exchange(headers, body, key.caller, scope.region, now)

    async def _answer_kms(self, exchange: Exchange, request_id: str) -> web.Response:
        service = await self._loaded()
        prefix, _, name = exchange.headers["x-amz-target"].partition(".")
        if prefix != _TARGET_PREFIX:
            raise AwsFaultError("UnknownOperationException", f"X-Amz-Target must begin with {_TARGET_PREFIX}.")
        parameters = _read_json(exchange.body)
        call = service.open(KmsRequest(exchange.caller, exchange.region, name, parameters, exchange.now))
        happening = Happening("kms", name, parameters, read_only=call.operation.read_only)
        try:
            answer = await service.answer(call)
        except AwsFaultError as fault:
            self._record(exchange, request_id, replace(happening, fault=fault), call.keys)
            raise
        self._record(exchange, request_id, happening, call.keys)
        return _json(answer, 200)

    async def _answer_sts(self, exchange: Exchange, request_id: str) -> web.Response:
        parameters = read_parameters(exchange.body)
        action = parameters.get("Action", "")[:_ACTION_LIMIT]
        shown = {name: value for name, value in parameters.items() if name not in {"Action", "Version"}}
        happening = Happening("sts", action, shown, read_only=True)
        try:
            result = self._sts.answer(StsCall(exchange.caller, action, parameters, exchange.now))
        except AwsFaultError as fault:
            self._record(exchange, request_id, replace(happening, fault=fault), ())
            raise
        self._record(exchange, request_id, happening, ())
        metadata = f"<ResponseMetadata>{xml('RequestId', request_id)}</ResponseMetadata>"
        body = f"<{action}Result>{result}</{action}Result>{metadata}"
        return _xml(f'<{action}Response xmlns="{NAMESPACE}">{body}</{action}Response>', 200)

    def _record(self, exchange: Exchange, request_id: str, happening: Happening, keys: Sequence["StoredKey"]) -> None:
        origin = Origin(exchange.caller, exchange.region, request_id, exchange.headers.get("user-agent", ""))
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


def _kms_fault(fault: AwsFaultError) -> web.Response:
    return _json({"__type": fault.code, "message": fault.message}, fault.kms_status)


def _sts_fault(fault: AwsFaultError, request_id: str) -> web.Response:
    error = xml("Type", "Sender") + xml("Code", fault.sts_code) + xml("Message", fault.message)
    body = f"<Error>{error}</Error>{xml('RequestId', request_id)}"
    return _xml(f'<ErrorResponse xmlns="{NAMESPACE}">{body}</ErrorResponse>', fault.sts_status)


def _json(document: Mapping[str, Any], status: int) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), status=status, headers={"Content-Type": _JSON})


def _xml(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/xml")
