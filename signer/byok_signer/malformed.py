"""Messages that are no Protobuf of their method: refused like any other bad request.

grpc.aio alone would answer UNKNOWN, without a reason, and log a traceback for each.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from byok_api.errors import Reason, Refusal
from byok_signer.edge import Context, Edge

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Request = TypeVar("_Request")


class _Malformed:
    """Stands for a message that could not be parsed."""


class MalformedMessages(grpc.aio.ServerInterceptor):
    """Refuses them for every method, whoever wrote it."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._guarded: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[_Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Find a method's handler, guarded."""
        method = str(handler_call_details.method)
        guarded = self._guarded.get(method)
        if guarded is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None:
            # There is no such method; nothing is kept, since callers can make up any number of them.
            return None
        self._guarded[method] = guarded = self._guard(method.rpartition("/")[2], handler)
        return guarded

    def _guard(self, method: str, handler: _Handler) -> _Handler:
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary is not None:
            answer = self._unary(method, handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(answer, _forgiving(parse), serialize)
        if handler.unary_stream is not None:
            answer = self._unary(method, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(answer, _forgiving(parse), serialize)
        if inspect.isasyncgenfunction(handler.stream_stream):
            answer = self._stream(method, handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(answer, parse, serialize)
        # Our own, which sees to it itself: it answers first what came before.
        return handler

    def _unary(self, method: str, handle: Callable[[Any, Any], Any]) -> Any:  # noqa: ANN401 - grpc's stubs know no aio
        async def checked(request: object, context: Context) -> object:
            if isinstance(request, _Malformed):
                await self._refuse(method, context)
            return await handle(request, context)

        return checked

    def _stream(self, method: str, handle: Callable[[Any, Any], Any]) -> Any:  # noqa: ANN401 - as above
        async def checked(requests: object, context: Context) -> None:
            try:
                async for response in handle(requests, context):
                    await context.write(response)
            except DecodeError:
                await self._refuse(method, context)

        return checked

    async def _refuse(self, method: str, context: Context) -> None:
        async with self._edge.serving(method, context):
            raise malformed(method)


def malformed(method: str) -> Refusal:
    """Make the refusal of a message that cannot be parsed."""
    return Refusal(Reason.InvalidRequest, f"the message is no Protobuf message of {method}; use the published .proto")


def _forgiving(parse: Callable[[bytes], _Request] | None) -> Callable[[bytes], _Request | _Malformed]:
    if parse is None:
        raise AssertionError("every method of this server has a message type")

    def forgiving(data: bytes) -> _Request | _Malformed:
        try:
            return parse(data)
        except DecodeError:
            return _Malformed()

    return forgiving
