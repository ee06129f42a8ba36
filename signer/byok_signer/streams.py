"""Streams of claims: every item signed on its own and answered as soon as it is done, within bounds.

Identity, authorization and catalogue are looked at again for every message, and recipe and key once more for every
item. A stream ends with its caller's token, when nothing has been under way for long, and when the signer is about to
stop. What its caller may have under way at once bounds the messages that are read.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from byok_api.errors import ClaimRefusal, Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.answers import signed_response
from byok_signer.edge import Edge, internal, malformed, shutting_down
from byok_signer.guard import SIZE_LIMIT
from byok_signer.limits import Place
from byok_signer.pipeline import Pipeline
from byok_signer.rpc_status import status_of
from byok_signer.work import Admission, Call

ITEMS_LIMIT = 64
"""Items of one message."""
IN_FLIGHT_LIMIT = 256
"""Items of one stream that are not answered yet; more are not read before."""
ID_LIMIT = 128
"""Bytes of an item's id."""
LAST_ANSWERS = 5.0
"""Seconds that a caller has to take the last answers once its token has expired."""


Write = Callable[[pb.SignClaimsResponse], Awaitable[None]]
"""Sends a response and waits until there is room for the next."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream that was let in."""

    call: Call
    messages: AsyncIterable[pb.SignClaimsRequest]
    write: Write
    place: Place


class ClaimStream:
    """One stream of one caller."""

    def __init__(self, pipeline: Pipeline, edge: Edge, opened: OpenStream) -> None:
        self._pipeline = pipeline
        self._edge = edge
        self._opened = opened
        self._call = opened.call
        self._slots = asyncio.Semaphore(IN_FLIGHT_LIMIT)
        self._results: asyncio.Queue[pb.SignClaimsResult | None] = asyncio.Queue()
        self._items: dict[str, asyncio.Task[None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._idle = _Idle(opened.place.limits.idle_seconds, self._end_if_idle)
        self._reading = False

    async def run(self) -> None:
        """Answer all messages; Refusal ends the stream once what was accepted before has been answered."""
        left = self._pipeline.seconds_left(await self._pipeline.authenticate(self._call))
        self._reader = asyncio.create_task(self._read(left))
        self._reader.add_done_callback(self._end)
        self._idle.start()
        try:
            async with asyncio.timeout(left + LAST_ANSWERS):
                while batch := await self._next_batch():
                    await self._opened.write(pb.SignClaimsResponse(results=batch))
                    self._idle.stir()
            if not self._reader.cancelled():
                await self._reader
            elif not self._idle.ended:
                raise _stopping()
        except TimeoutError:
            raise _expired() from None
        finally:
            self._idle.stop()
            self._reader.cancel()
            # Those that are with KMS go on to their audit record.
            for task in self._items.values():
                task.cancel()

    def stop(self) -> None:
        """Read no more: answer what was accepted, and end with ShuttingDown."""
        if self._reader is not None:
            self._reader.cancel()

    def _end_if_idle(self) -> bool:
        # A message that waits for room is under way too.
        if self._reader is None or self._reading or self._items or not self._results.empty():
            return False
        self._reader.cancel()
        return True

    async def _read(self, left: float) -> None:
        """Start each item of each message; return when all are answered."""
        try:
            async with asyncio.timeout(left):
                async for message in self._opened.messages:
                    self._reading = True
                    await self._start(message)
                    self._reading = False
                    self._idle.stir()
        except TimeoutError:
            raise _expired() from None
        except DecodeError:
            raise malformed("SignClaims") from None
        finally:
            if self._items:
                await asyncio.wait(self._items.values())

    def _end(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            reader.exception()  # retrieved here too, in case the caller has gone
        self._results.put_nowait(None)

    async def _next_batch(self) -> list[pb.SignClaimsResult]:
        """Wait for a result and take those that are ready with it; empty at the end."""
        batch: list[pb.SignClaimsResult] = []
        result = await self._results.get()
        while result is not None:
            batch.append(result)
            self._slots.release()
            if len(batch) == ITEMS_LIMIT or self._results.empty():
                return batch
            result = self._results.get_nowait()
        if batch:
            self._results.put_nowait(None)
        return batch

    async def _start(self, message: pb.SignClaimsRequest) -> None:
        held = _Held(self._opened.place, await self._opened.place.hold(message.ByteSize()))
        try:
            await self._start_items(message, held)
        finally:
            held.part_done()

    async def _start_items(self, message: pb.SignClaimsRequest, held: "_Held") -> None:
        admission = await self._pipeline.admit(self._call, message.recipe)
        async with self._pipeline.recording_refusals_of(admission):
            if len(message.items) > ITEMS_LIMIT:
                count = len(message.items)
                raise Refusal(Reason.InvalidRequest, f"items: {count} in one message, at most {ITEMS_LIMIT} are taken")
        for item in message.items:
            await self._slots.acquire()
            try:
                async with self._pipeline.recording_refusals_of(admission):
                    self._check(item)
            except Refusal as refusal:
                self._answer_refusal(item.id[:ID_LIMIT], refusal)
                continue
            held.parts += 1
            task = asyncio.create_task(self._sign(admission, message.expected_recipe_hash, item))
            task.add_done_callback(held.part_done)
            self._items[item.id] = task

    def _check(self, item: pb.SignClaimsItem) -> None:
        if not 0 < len(item.id.encode()) <= ID_LIMIT:
            raise Refusal(Reason.InvalidRequest, f"id: must have 1 to {ID_LIMIT} bytes")
        if item.id in self._items:
            raise Refusal(Reason.InvalidRequest, "id: another item of this id is not answered yet; use unique ids")
        # The guard says so too; here it keeps what waits for KMS from filling the memory.
        if len(item.claim) > SIZE_LIMIT:
            found, expected = f"{len(item.claim)} bytes", f"at most {SIZE_LIMIT} bytes"
            raise ClaimRefusal(Reason.ClaimRefused, "size", found=found, expected=expected)

    async def _sign(self, admission: Admission, expected_hash: str, item: pb.SignClaimsItem) -> None:
        try:
            signed = await self._pipeline.sign_claim(admission, expected_hash, item.claim)
            self._results.put_nowait(pb.SignClaimsResult(id=item.id, signed=signed_response(signed)))
        except Refusal as refusal:
            self._answer_refusal(item.id, refusal)
        except Exception:  # noqa: BLE001 - a bug over one item must not end the others; it is logged
            self._edge.unforeseen("SignClaims")
            self._answer_refusal(item.id, internal(self._call.request_id))
        finally:
            del self._items[item.id]

    def _answer_refusal(self, identity: str, refusal: Refusal) -> None:
        self._edge.refused(refusal)
        self._results.put_nowait(pb.SignClaimsResult(id=identity, error=status_of(refusal)))


class _Held:
    """A message's bytes, which its items share as they share its memory: given back with the last of them."""

    __slots__ = ("_place", "_size", "parts")

    def __init__(self, place: Place, size: int) -> None:
        self._place = place
        self._size = size
        self.parts = 1
        """Its items under way, and its reader."""

    def part_done(self, _: object = None) -> None:
        """Count one part out."""
        self.parts -= 1
        if not self.parts:
            self._place.release(self._size)


class _Idle:
    """Asks `end` once nothing has stirred for some seconds, and again later if it says that something is under way."""

    def __init__(self, seconds: float, end: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._end = end
        self._stirred = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.ended = False

    def start(self) -> None:
        """Begin to watch."""
        self.stir()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def stir(self) -> None:
        """Note that something came or went."""
        self._stirred = asyncio.get_running_loop().time()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._stirred + self._seconds:
            self._timer = loop.call_at(self._stirred + self._seconds, self._look)
        elif self._end():
            self.ended = True
        else:
            self._timer = loop.call_later(self._seconds, self._look)


def _stopping() -> Refusal:
    return shutting_down("what was accepted is answered, send the rest on a new stream")


def _expired() -> Refusal:
    return Refusal(Reason.TokenExpired, "the token has expired, and its stream ends with it; open one with a fresh one")
