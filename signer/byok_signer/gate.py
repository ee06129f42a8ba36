"""In front of every method: nobody's message is read before it is known who sends it and that they may have it read.

grpc.aio reads a unary call's message before it calls the method, and would wait for it without end. So every method is
served as one of a stream of requests, of which the gate reads the first itself; on the wire both are the same. Health
checks and reflection need no token, and are bounded for all callers together.
"""

import asyncio
import contextlib
import inspect
import math
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from byok_api.errors import Reason, Refusal
from byok_signer.authentication import Caller
from byok_signer.edge import Context, Edge, malformed, when_done
from byok_signer.limits import Callers, Limits, Patience, Place, limited
from byok_signer.pipeline import Pipeline
from byok_signer.streams import OpenStream
from byok_signer.watching import OpenWatch
from byok_signer.work import Call

_OURS = "/byok.signer.v1."
_STRANGERS_PER_SECOND = 200
"""Calls refused before their caller was known that are answered; of more, each waits for its turn."""
_STRANGERS_AT_ONCE = 50
"""That are answered without waiting, after a pause."""
_STRANGERS_WAIT = 5.0
"""Seconds at most. Who waits for an answer sends no more meanwhile, and takes no time from others."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Parse: TypeAlias = Callable[[bytes], Message]
_Write: TypeAlias = Callable[[Message], Awaitable[None]]


class Gate(grpc.aio.ServerInterceptor):
    """Puts itself before the methods.

    Our own are called with message and `Call`, with message and `OpenWatch`, or with an `OpenStream`; all others as
    gRPC calls them.
    """

    def __init__(self, edge: Edge, pipeline: Pipeline, limits: Limits) -> None:
        self._edge = edge
        self._pipeline = pipeline
        self._limits = limits
        self._callers = Callers(limits)
        self._watchers = Callers(limits.of_watches())
        self._messages = Patience(limits.message_seconds)
        self._answers = Patience(limits.answer_seconds)
        self._news = Patience(limits.answer_seconds)
        self._strangers = Patience(2 * _STRANGERS_WAIT)
        self._turns = _Turns()
        self._guarded: dict[str, _Handler] = {}

    def stop(self) -> None:
        """Wait no longer for messages, with answers, or for watchers; to be called once the edge is closed."""
        for patience in (self._messages, self._strangers, self._news):
            patience.lose()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[_Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Find a method's handler, behind the gate."""
        method = str(handler_call_details.method)
        guarded = self._guarded.get(method)
        if guarded is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None:
            # There is no such method; nothing is kept, since callers can make up any number of them.
            return None
        self._guarded[method] = guarded = self._guard(method, handler)
        return guarded

    def _guard(self, method: str, handler: _Handler) -> _Handler:
        name = method.rpartition("/")[2]
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if parse is None:
            raise AssertionError("every method of this server has a message type")
        ours = method.startswith(_OURS)
        if handler.response_streaming:
            if not ours:
                streamed = self._open_stream(name, handler, parse)
            elif handler.request_streaming:
                streamed = self._stream(name, handler)
            else:
                streamed = self._watch(name, handler, parse)
            keep = parse if handler.request_streaming else None
            return grpc.stream_stream_rpc_method_handler(streamed, keep, serialize)
        answered = self._unary(name, handler, parse) if ours else self._open_unary(name, handler, parse)
        return grpc.stream_unary_rpc_method_handler(answered, None, serialize)

    def _unary(self, name: str, handler: _Handler, parse: _Parse) -> Any:  # noqa: ANN401 - grpc's stubs know no aio
        handle: Any = handler.unary_unary

        async def answer(_: object, context: Context) -> object:
            async with self._edge.serving(name, context) as call:
                caller = await self._caller(call)
                try:
                    place = self._admit(caller, stream=False)
                    request = _parsed(name, parse, await self._message(place, context))
                except Refusal as refusal:
                    await self._record(call, caller, refusal)
                return await handle(request, call)

        return answer

    def _stream(self, name: str, handler: _Handler) -> Any:  # noqa: ANN401 - as above
        handle: Any = handler.stream_stream

        async def answer(messages: AsyncIterable[Any], context: Context) -> None:
            async with self._edge.serving(name, context) as call:
                caller = await self._caller(call)
                try:
                    place = self._admit(caller, stream=True)
                except Refusal as refusal:
                    await self._record(call, caller, refusal)
                await handle(OpenStream(call, messages, self._writing(call, caller, context, self._answers), place))

        return answer

    def _watch(self, name: str, handler: _Handler, parse: _Parse) -> Any:  # noqa: ANN401 - as above
        handle: Any = handler.unary_stream

        async def answer(_: object, context: Context) -> None:
            async with self._edge.serving(name, context) as call:
                caller = await self._caller(call)
                try:
                    place = self._admit(caller, stream=True)
                    when_done(self._watchers.admit(caller.username, stream=True).leave)
                    request = _parsed(name, parse, await self._message(place, context))
                except Refusal as refusal:
                    await self._record(call, caller, refusal)
                await handle(request, OpenWatch(call, self._writing(call, caller, context, self._news)))

        return answer

    def _writing(self, call: Call, caller: Caller, context: Context, patience: Patience) -> _Write:
        async def write(response: Message) -> None:
            try:
                await patience.wait_for(context.write(response))
            except grpc.aio.InternalError:
                # The caller has gone: gRPC's core knows, and grpc.aio has not cancelled the call for it yet.
                raise asyncio.CancelledError from None
            except TimeoutError:
                seconds = self._limits.answer_seconds
                message = f"an answer was not taken within {seconds:g} s; the stream ends with what was taken"
                await self._record(call, caller, Refusal(Reason.AnswersNotRead, message))

        return write

    async def _record(self, call: Call, caller: Caller, refusal: Refusal) -> NoReturn:
        async with self._pipeline.recording_refusals(call, caller):
            raise refusal
        raise AssertionError("a refused call went on")

    async def _caller(self, call: Call) -> Caller:
        try:
            return await self._pipeline.authenticate(call)
        except Refusal:
            with contextlib.suppress(TimeoutError):
                await self._strangers.wait_for(self._turns.wait())
            raise

    def _admit(self, caller: Caller, *, stream: bool) -> Place:
        place = self._callers.admit(caller.username, stream=stream)
        # Not when the method has ended, but when its answer has left too: who does not take it keeps the place.
        when_done(place.leave)
        return place

    async def _message(self, place: Place, context: Context) -> bytes:
        size = self._limits.message_bytes
        try:
            held = await self._messages.wait_for(place.hold(size))
        except TimeoutError:
            self._edge.check_open()
            raise limited(f"the caller has {self._limits.bytes_per_caller} bytes of messages under way") from None
        message = await self._first(context)
        place.release(held - min(held, len(message)))
        return message

    async def _first(self, context: Context) -> bytes:
        try:
            message = await self._messages.wait_for(context.read())
        except TimeoutError:
            self._edge.check_open()
            seconds = self._limits.message_seconds
            raise Refusal(Reason.InvalidRequest, f"the call's message did not come within {seconds:g} s") from None
        if not isinstance(message, bytes):
            raise Refusal(Reason.InvalidRequest, "the call has no message")
        return message

    def _open_unary(self, name: str, handler: _Handler, parse: _Parse) -> Any:  # noqa: ANN401 - as above
        handle: Any = handler.unary_unary
        room = _Room(self._limits.open_calls)

        async def answer(_: object, context: Context) -> object:
            return await handle(await self._let_in(name, room, context, parse), context)

        return answer

    def _open_stream(self, name: str, handler: _Handler, parse: _Parse) -> Any:  # noqa: ANN401 - as above
        handle: Any = handler.stream_stream or handler.unary_stream
        generates = inspect.isasyncgenfunction(handle)
        room = _Room(self._limits.open_calls)
        only_message = None if handler.request_streaming else parse

        async def answer(messages: AsyncIterable[Any], context: Context) -> None:
            request = await self._let_in(name, room, context, only_message) or messages
            if not generates:
                await handle(request, context)
                return
            try:
                async for response in handle(request, context):
                    await context.write(response)
            except DecodeError:
                await self._refuse(name, context, malformed(name))

        return answer

    async def _let_in(self, name: str, room: "_Room", context: Context, parse: _Parse | None) -> Message | None:
        """Let in a call that needs no token, and read its message if it has but one."""
        try:
            room.enter()
            return None if parse is None else _parsed(name, parse, await self._first(context))
        except Refusal as refusal:
            return await self._refuse(name, context, refusal)

    async def _refuse(self, name: str, context: Context, refusal: Refusal) -> NoReturn:
        async with self._edge.serving(name, context):
            raise refusal
        raise AssertionError("a refused call went on")


class _Room:
    """Bounds the open calls of a method that needs no token."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open = 0

    def enter(self) -> None:
        """Count a call in; Refusal if there are too many."""
        if self._open >= self._size:
            raise limited(f"{self._open} such calls are open, all callers' taken together")
        self._open += 1
        when_done(self._leave)

    def _leave(self, _: object) -> None:
        self._open -= 1


class _Turns:
    """Lets things pass one after the other, evenly: those that pass together would hold others up together."""

    def __init__(self) -> None:
        self._turn = -math.inf

    async def wait(self) -> None:
        """Wait for a turn."""
        now = time.monotonic()
        self._turn = max(self._turn, now - _STRANGERS_AT_ONCE / _STRANGERS_PER_SECOND) + 1 / _STRANGERS_PER_SECOND
        if self._turn > now:
            # A turn that nobody waits for that long is nobody's.
            self._turn = min(self._turn, now + _STRANGERS_WAIT)
            await asyncio.sleep(self._turn - now)


def _parsed(name: str, parse: _Parse, message: bytes) -> Message:
    try:
        return parse(message)
    except DecodeError:
        raise malformed(name) from None
