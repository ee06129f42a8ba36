"""Streams of claims: every item signed on its own and answered as soon as it is done, within bounds.

Identity, authorization and catalogue are looked at again for every message. A stream ends with its caller's token.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime

from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.answers import signed_response
from byok_signer.edge import Edge, internal
from byok_signer.pipeline import Admission, Call, Pipeline
from byok_signer.rpc_status import status_of

ITEMS_LIMIT = 64
"""Items of one message."""
IN_FLIGHT_LIMIT = 256
"""Items of one stream that are not answered yet; more are not read before."""
ID_LIMIT = 128
"""Bytes of an item's id."""


async def sign_stream(
    pipeline: Pipeline, edge: Edge, call: Call, requests: AsyncIterable[pb.SignClaimsRequest]
) -> AsyncIterator[pb.SignClaimsResponse]:
    """Answer a stream of messages; Refusal ends it once what was accepted before has been answered."""
    stream = _Stream(pipeline, edge, call)
    reader = asyncio.create_task(stream.read(requests))
    try:
        while batch := await stream.next_batch():
            yield pb.SignClaimsResponse(results=batch)
        await reader
    finally:
        reader.cancel()
        stream.cancel()


class _Stream:
    def __init__(self, pipeline: Pipeline, edge: Edge, call: Call) -> None:
        self._pipeline = pipeline
        self._edge = edge
        self._call = call
        self._slots = asyncio.Semaphore(IN_FLIGHT_LIMIT)
        self._results: asyncio.Queue[pb.SignClaimsResult | None] = asyncio.Queue()
        self._items: dict[str, asyncio.Task[None]] = {}

    async def read(self, requests: AsyncIterable[pb.SignClaimsRequest]) -> None:
        """Start each item of each message; mark the end when all are answered."""
        try:
            caller = await self._pipeline.authenticate(self._call)
            left = (caller.expires_at - datetime.now(UTC)).total_seconds()
            async with asyncio.timeout(left):
                async for message in requests:
                    await self._start(message)
        except TimeoutError:
            raise Refusal(Reason.TokenExpired, "the token has expired, and its stream ends with it") from None
        finally:
            if self._items:
                await asyncio.wait(self._items.values())
            self._results.put_nowait(None)

    async def next_batch(self) -> list[pb.SignClaimsResult]:
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

    def cancel(self) -> None:
        """Give up what is not with KMS yet."""
        for task in self._items.values():
            task.cancel()

    async def _start(self, message: pb.SignClaimsRequest) -> None:
        if len(message.items) > ITEMS_LIMIT:
            raise Refusal(
                Reason.InvalidRequest, f"items: {len(message.items)} in one message, at most {ITEMS_LIMIT} are allowed"
            )
        admission = await self._pipeline.admit(self._call, message.recipe)
        for item in message.items:
            await self._slots.acquire()
            problem = self._problem_with(item.id)
            if problem is not None:
                self._answer_refusal(item.id[:ID_LIMIT], problem)
                continue
            task = asyncio.create_task(self._sign(admission, message.expected_recipe_hash, item))
            self._items[item.id] = task

    def _problem_with(self, identity: str) -> Refusal | None:
        if not identity or len(identity.encode()) > ID_LIMIT:
            return Refusal(Reason.InvalidRequest, f"id: must have 1 to {ID_LIMIT} bytes")
        if identity in self._items:
            return Refusal(Reason.InvalidRequest, "id: another item of this id is not answered yet; use unique ids")
        return None

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
