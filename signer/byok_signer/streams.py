"""Streams of claims: every item signed on its own and answered as soon as it is done, within bounds.

Identity, authorization and catalogue are looked at again for every message, and recipe and key once more for every
item. A stream ends with its caller's token, and when the signer is about to stop.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable

from google.protobuf.message import DecodeError

from byok_api.errors import ClaimRefusal, Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.answers import signed_response
from byok_signer.edge import Edge, internal, shutting_down
from byok_signer.guard import SIZE_LIMIT
from byok_signer.malformed import malformed
from byok_signer.pipeline import Admission, Call, Pipeline
from byok_signer.rpc_status import status_of

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


class ClaimStream:
    """One stream of one caller."""

    def __init__(self, pipeline: Pipeline, edge: Edge, call: Call) -> None:
        self._pipeline = pipeline
        self._edge = edge
        self._call = call
        self._slots = asyncio.Semaphore(IN_FLIGHT_LIMIT)
        self._results: asyncio.Queue[pb.SignClaimsResult | None] = asyncio.Queue()
        self._items: dict[str, asyncio.Task[None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def run(self, requests: AsyncIterable[pb.SignClaimsRequest], write: Write) -> None:
        """Answer all messages; Refusal ends the stream once what was accepted before has been answered."""
        left = self._pipeline.seconds_left(await self._pipeline.authenticate(self._call))
        self._reader = asyncio.create_task(self._read(requests, left))
        self._reader.add_done_callback(self._end)
        try:
            async with asyncio.timeout(left + LAST_ANSWERS):
                while batch := await self._next_batch():
                    await write(pb.SignClaimsResponse(results=batch))
            if self._reader.cancelled():
                raise _stopping()
            await self._reader
        except TimeoutError:
            raise _expired() from None
        finally:
            self._reader.cancel()
            # Those that are with KMS go on to their audit record.
            for task in self._items.values():
                task.cancel()

    def stop(self) -> None:
        """Read no more: answer what was accepted, and end with ShuttingDown."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, requests: AsyncIterable[pb.SignClaimsRequest], left: float) -> None:
        """Start each item of each message; return when all are answered."""
        try:
            async with asyncio.timeout(left):
                async for message in requests:
                    await self._start(message)
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
            task = asyncio.create_task(self._sign(admission, message.expected_recipe_hash, item))
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


def _stopping() -> Refusal:
    return shutting_down("what was accepted is answered, send the rest on a new stream")


def _expired() -> Refusal:
    return Refusal(Reason.TokenExpired, "the token has expired, and its stream ends with it; open one with a fresh one")
