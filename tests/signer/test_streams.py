"""Streams of claims over the real door: each item is answered on its own, and a stream knows its bounds."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind
from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.limits import Callers, Limits
from byok_signer.streams import IN_FLIGHT_LIMIT, ITEMS_LIMIT, ClaimStream, OpenStream
from byok_signer.work import Call
from tests.support.claims import created_claim
from tests.support.manifests import recipe_document
from tests.support.many_claims import another_claim
from tests.support.pki import identity
from tests.support.refusals import refusal_of, told_by
from tests.support.signer import DEADLINE, JOB, Bench, certified_key, until

if TYPE_CHECKING:
    OpenCall = grpc.aio.StreamStreamCall[pb.SignClaimsRequest, pb.SignClaimsResponse]

ES256 = SigningAlgorithm.ES256
CLAIM = created_claim().sig_structure


@dataclass
class Stream:
    """A stream of one caller."""

    bench: Bench
    call: "OpenCall"

    async def send(self, *ids: str, claim: bytes = CLAIM, recipe: str = "photo") -> None:
        """Send a message of items, whose equal claims KMS is asked to sign once."""
        items = [pb.SignClaimsItem(id=identity, claim=claim) for identity in ids]
        recipe_hash = self.bench.entry.recipe.hash
        await self.call.write(pb.SignClaimsRequest(recipe=recipe, expected_recipe_hash=recipe_hash, items=items))

    async def send_many(self, count: int) -> None:
        """Send a message of items that all differ."""
        items = [pb.SignClaimsItem(id=uuid.uuid4().hex, claim=another_claim()) for _ in range(count)]
        recipe_hash = self.bench.entry.recipe.hash
        await self.call.write(pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=recipe_hash, items=items))

    async def send_messages(self, count: int) -> None:
        """Send messages of items that all differ."""
        for _ in range(count):
            await self.send_many(ITEMS_LIMIT)

    async def results(self, wanted: int) -> list[pb.SignClaimsResult]:
        """Read so many results."""
        found: list[pb.SignClaimsResult] = []
        while len(found) < wanted:
            response = await self.call.read()
            assert isinstance(response, pb.SignClaimsResponse), await self.call.details()
            assert len(response.results) <= ITEMS_LIMIT
            found += response.results
        return found

    async def reason_of_end(self) -> Reason:
        """Read to the end, which must be a refusal."""

        async def end() -> pb.SignClaimsResponse:
            while True:
                if await self.call.read() is grpc.aio.EOF:
                    raise AssertionError("the stream ended well")

        return (await refusal_of(end())).reason


@asynccontextmanager
async def stream_of(bench: Bench) -> AsyncIterator[Stream]:
    call = bench.signer.SignClaims(metadata=bench.metadata, timeout=DEADLINE)
    try:
        yield Stream(bench, call)
    finally:
        call.cancel()


def reasons(results: list[pb.SignClaimsResult]) -> dict[str, str]:
    """What came of each item: a verified signature, or a reason."""
    return {result.id: outcome_of(result) for result in results}


def outcome_of(result: pb.SignClaimsResult) -> str:
    if result.WhichOneof("outcome") == "error":
        return told_by(result.error).reason.name
    signatures.verify(identity(ES256).public_key, ES256, result.signed.signature, message=CLAIM)
    return "signed"


async def test_every_item_is_signed_and_the_stream_ends_when_the_caller_is_done(bench: Bench) -> None:
    async with stream_of(bench) as stream:
        for message in range(5):
            await stream.send(*(f"{message}-{item}" for item in range(ITEMS_LIMIT)))
        await stream.call.done_writing()
        outcomes = reasons(await stream.results(5 * ITEMS_LIMIT))
        assert (len(outcomes), set(outcomes.values())) == (5 * ITEMS_LIMIT, {"signed"})
        assert await stream.call.read() is grpc.aio.EOF
        assert await stream.call.code() is grpc.StatusCode.OK
    assert len(await bench.records(Kind.OUTCOME)) == 5 * ITEMS_LIMIT


async def test_an_item_is_answered_while_an_earlier_one_still_waits(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with stream_of(bench) as stream:
        await stream.send("slow")
        await stream.send("quick", claim=b"garbage")
        assert reasons(await stream.results(1)) == {"quick": "ClaimRefused"}
        bench.kms.gate.set()
        assert reasons(await stream.results(1)) == {"slow": "signed"}


async def test_a_bad_item_harms_no_other(bench: Bench) -> None:
    async with stream_of(bench) as stream:
        await stream.send("a")
        await stream.send("b", claim=b"garbage")
        await stream.send("c", claim=bytes(64 * 1024 + 1))
        await stream.send("d")
        outcomes = reasons(await stream.results(4))
    assert outcomes == {"a": "signed", "b": "ClaimRefused", "c": "ClaimRefused", "d": "signed"}


async def test_a_bug_over_an_item_harms_no_other(bench: Bench) -> None:
    async with stream_of(bench) as stream:
        bench.kms.failure = ZeroDivisionError()
        await stream.send("a")
        assert reasons(await stream.results(1)) == {"a": "Internal"}
        bench.kms.failure = None
        await stream.send("b")
        assert reasons(await stream.results(1)) == {"b": "signed"}


async def test_an_oversized_claim_is_told_in_the_guards_own_words(bench: Bench) -> None:
    claim = bytes(64 * 1024 + 1)
    alone = await refusal_of(bench.sign(bench.request(claim)))
    async with stream_of(bench) as stream:
        await stream.send("x", claim=claim)
        (result,) = await stream.results(1)
    assert told_by(result.error) == alone


@pytest.mark.parametrize("identity_", ["", "x" * 129, "ä" * 65], ids=["empty", "long", "long in bytes"])
async def test_an_item_with_a_bad_id_is_refused(bench: Bench, identity_: str) -> None:
    async with stream_of(bench) as stream:
        await stream.send(identity_, "good")
        outcomes = [outcome_of(result) for result in await stream.results(2)]
    assert sorted(outcomes) == ["InvalidRequest", "signed"]
    assert [event.reason for event in await bench.records(Kind.REFUSAL)] == ["InvalidRequest"]


async def test_an_id_in_use_is_refused_and_its_first_item_signed(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with stream_of(bench) as stream:
        await stream.send("same", "same", "same")
        refused = [outcome_of(result) for result in await stream.results(2)]
        bench.kms.gate.set()
        signed = [outcome_of(result) for result in await stream.results(1)]
    assert (refused, signed) == (["InvalidRequest", "InvalidRequest"], ["signed"])
    assert bench.kms.signed == 1


async def test_a_message_of_too_many_items_ends_the_stream_once_the_ones_before_are_answered(bench: Bench) -> None:
    async with stream_of(bench) as stream:
        await stream.send("before")
        await stream.send(*(str(item) for item in range(ITEMS_LIMIT + 1)))
        assert reasons(await stream.results(1)) == {"before": "signed"}
        assert await stream.reason_of_end() is Reason.InvalidRequest
    assert [event.reason for event in await bench.records(Kind.REFUSAL)] == ["InvalidRequest"]


async def test_a_message_that_is_no_protobuf_ends_the_stream_once_the_ones_before_are_answered(bench: Bench) -> None:
    good = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash)
    good.items.add(id="before", claim=CLAIM)
    call = bench.raw_stream("/byok.signer.v1.Signer/SignClaims")(
        iter([good.SerializeToString(), b"\xff"]), metadata=bench.metadata, timeout=DEADLINE
    )
    answer = pb.SignClaimsResponse.FromString(await anext(aiter(call)))
    assert reasons(list(answer.results)) == {"before": "signed"}
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("token", ["", "garbage"])
async def test_a_stream_without_a_good_token_ends_at_once(bench: Bench, token: str) -> None:
    bench.token = token
    async with stream_of(bench) as stream:
        assert await stream.reason_of_end() in (Reason.TokenMissing, Reason.TokenInvalid)


async def test_a_stream_ends_with_its_token(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_signer.streams.LAST_ANSWERS", 3600.0)
    bench.call_as(JOB, lifetime=timedelta(seconds=5))
    async with stream_of(bench) as stream:
        await stream.send("before")
        assert reasons(await stream.results(1)) == {"before": "signed"}
        assert await stream.reason_of_end() is Reason.TokenExpired


async def test_a_message_under_an_unknown_recipe_ends_the_stream(bench: Bench) -> None:
    async with stream_of(bench) as stream:
        await stream.send("x", recipe="other/photo")
        assert await stream.reason_of_end() is Reason.RecipeNotAllowed


async def test_a_key_revoked_in_mid_stream_signs_no_further_message(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    good = bench.catalogue
    async with stream_of(bench) as stream:
        await stream.send("before")
        assert reasons(await stream.results(1)) == {"before": "signed"}
        bench.apply(certified_key(identity(ES256), stored.arn, state="Deactivated"), recipe_document())
        revoked, bench.catalogue = bench.catalogue, good
        message = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash)
        message.items.add(id="after", claim=CLAIM)
        bench.catalogue = revoked
        await stream.call.write(message)
        assert await stream.reason_of_end() is Reason.KeyDeactivated
    assert bench.kms.signed == 1


async def test_items_that_waited_for_room_are_not_signed_with_a_key_revoked_meanwhile(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    bench.kms.look_gate.clear()
    async with stream_of(bench) as stream:
        await stream.send("a", "b")
        await until(lambda: bench.kms.looks == 1)
        bench.apply(certified_key(identity(ES256), stored.arn, state="Deactivated"), recipe_document())
        bench.kms.look_gate.set()
        assert reasons(await stream.results(2)) == {"a": "KeyDeactivated", "b": "KeyDeactivated"}


async def test_a_stream_that_its_caller_cancels_loses_nothing_from_the_trail(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with stream_of(bench) as stream:
        await stream.send_many(ITEMS_LIMIT)
        await until(lambda: bench.kms.signed > 10)
    await until(lambda: b"byok_signer_in_flight 0.0" in bench.metrics.exposition())
    bench.kms.gate.set()
    assert len(await bench.records(Kind.OUTCOME)) == bench.kms.signed > 10


async def endless(bench: Bench) -> AsyncIterator[pb.SignClaimsRequest]:
    for number in count():
        items = [pb.SignClaimsItem(id=f"{number}-{item}", claim=another_claim()) for item in range(ITEMS_LIMIT)]
        yield pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=bench.entry.recipe.hash, items=items)


async def never_read(_: pb.SignClaimsResponse) -> None:
    await asyncio.Event().wait()


def unread_stream(bench: Bench) -> Awaitable[None]:
    """Sign for a caller that sends for ever and reads nothing."""
    call = Call("id", bench.token, time.monotonic() + DEADLINE)
    place = Callers(Limits.of(bench.settings)).admit("job", stream=True)
    return ClaimStream(bench.pipeline, bench.edge, OpenStream(call, endless(bench), never_read, place)).run()


async def test_a_stream_whose_caller_reads_nothing_is_bounded(bench: Bench) -> None:
    running = asyncio.ensure_future(unread_stream(bench))
    await until(lambda: bench.kms.signed > IN_FLIGHT_LIMIT)
    for _ in range(10):
        await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    assert bench.kms.signed <= IN_FLIGHT_LIMIT + ITEMS_LIMIT
    running.cancel()
    await asyncio.wait((running,))
    assert len(await bench.records(Kind.OUTCOME)) == bench.kms.signed


async def test_a_stream_whose_caller_reads_nothing_ends_soon_after_its_token(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_signer.streams.LAST_ANSWERS", 0.1)
    bench.call_as(JOB, lifetime=timedelta(seconds=2))
    with pytest.raises(Refusal) as caught:
        await unread_stream(bench)
    assert caught.value.reason is Reason.TokenExpired


async def test_while_kms_is_slow_only_so_many_items_are_taken(bench: Bench) -> None:
    bench.kms.gate.clear()
    async with stream_of(bench) as stream:
        # What is not read yet is not sent either, beyond some buffers.
        sending = asyncio.ensure_future(stream.send_messages(2 * IN_FLIGHT_LIMIT // ITEMS_LIMIT))
        await until(lambda: bench.kms.signed == IN_FLIGHT_LIMIT)
        # Another caller's work passes through meanwhile, and no further item of the stream.
        await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
        assert bench.kms.signed == IN_FLIGHT_LIMIT
        bench.kms.gate.set()
        assert len(await stream.results(2 * IN_FLIGHT_LIMIT)) == 2 * IN_FLIGHT_LIMIT
        await sending
