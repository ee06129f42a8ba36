"""The end of a signer at work: what is under way is answered and recorded, what comes too late is sent elsewhere."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import verify_chain
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox.issuer import Issuer
from byok_signer.rpc_status import STATUS_DETAILS_KEY
from tests.support.kms_stand_in import KmsStandIn, kms_stand_in
from tests.support.many_claims import another_claim
from tests.support.pki import identity
from tests.support.refusals import status_in, told_by
from tests.support.signer import DEADLINE, JOB, until
from tests.support.signer_process import SignerProcess, prepare, recipe_hash, serving_process

ES256 = SigningAlgorithm.ES256
SIGN_CLAIM, SIGN_CLAIMS = "/byok.signer.v1.Signer/SignClaim", "/byok.signer.v1.Signer/SignClaims"
CALLERS = 50
CONNECTIONS = 5


@pytest.fixture
async def kms() -> AsyncIterator[KmsStandIn]:
    async with kms_stand_in() as stand_in:
        yield stand_in


class Load:
    """Callers that sign until they are told to go elsewhere."""

    def __init__(self, target: str, token: str) -> None:
        self._target = target
        self.metadata = (("authorization", f"Bearer {token}"),)
        self._hash = recipe_hash()
        self.released = 0
        self.endings: Counter[str] = Counter()

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(self._target, options=(("grpc.use_local_subchannel_pool", 1),))
                )
                for _ in range(CONNECTIONS)
            ]
            await asyncio.gather(*(self._call_until_refused(channels[n % CONNECTIONS]) for n in range(CALLERS)))

    async def _call_until_refused(self, channel: grpc.aio.Channel) -> None:
        stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)
        while True:
            claim = another_claim()
            request = pb.SignClaimRequest(recipe="photo", expected_recipe_hash=self._hash, claim=claim)
            try:
                answer = await stub.SignClaim(request, metadata=self.metadata, timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                self.endings[ending_of(error)] += 1
                return
            signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=claim)
            self.released += 1


def ending_of(error: grpc.aio.AioRpcError) -> str:
    """Name our reason, which must come with RetryInfo, or the code of a broken connection."""
    if STATUS_DETAILS_KEY not in dict(error.trailing_metadata() or ()):
        return error.code().name
    told = told_by(status_in(error))
    assert told.retry_after is not None
    return told.reason.name


def records(folder: Path) -> list[dict[str, Any]]:
    """The audit records, whose chain must be intact, with every intent settled."""
    lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    assert verify_chain(lines).intact
    found = [json.loads(line) for line in lines]
    intents = [record["sequence"] for record in found if record["kind"] == "intent"]
    settled = [record["intent"] for record in found if "intent" in record]
    assert sorted(settled) == sorted(intents)
    return found


async def test_under_load_every_call_ends_in_a_signature_or_elsewhere_and_the_trail_is_complete(
    tmp_path: Path, kms: KmsStandIn
) -> None:
    issuer = Issuer()
    async with serving_process(tmp_path, prepare(tmp_path, issuer) | {"aws-endpoint": kms.url}) as signer:
        load = Load(f"unix:{tmp_path}/s", issuer.mint(JOB, now=datetime.now(UTC)))
        running = asyncio.create_task(load.run())
        await until(lambda: load.released > CALLERS)
        signer.process.terminate()
        began = time.monotonic()
        await running
        assert await signer.ended() == 0
        assert time.monotonic() - began < 10
    # By either of them gRPC ends what its server had not taken yet when it closed.
    unanswered = {grpc.StatusCode.UNAVAILABLE.name, grpc.StatusCode.CANCELLED.name}
    assert set(load.endings) <= {Reason.ShuttingDown.name} | unanswered
    assert load.endings.total() == CALLERS
    signed = [record for record in records(tmp_path) if record.get("outcome") == "signed"]
    assert load.released == len(signed) == kms.signed
    assert "Traceback" not in signer.log


async def held_up(signer: SignerProcess, issuer: Issuer, channel: grpc.aio.Channel) -> None:
    """Have all kinds of calls open that would never end."""
    metadata = (("authorization", f"Bearer {issuer.mint(JOB, now=datetime.now(UTC))}"),)
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    opened = []
    for name, first in ((SIGN_CLAIM, None), (SIGN_CLAIMS, None), ("/grpc.health.v1.Health/Watch", b"")):
        method = channel.stream_stream(name)
        opened.append(call := method(metadata=metadata))
        if first is not None:
            await call.write(first)
            await call.read()
    await until(signer.serves)
    # An answer of the same connection: the signer has seen the calls that were begun before.
    check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
    await check(b"")


async def test_callers_who_do_nothing_do_not_hold_up_the_end(tmp_path: Path, kms: KmsStandIn) -> None:
    issuer = Issuer()
    async with (
        serving_process(tmp_path, prepare(tmp_path, issuer) | {"aws-endpoint": kms.url}) as signer,
        grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel,
    ):
        await held_up(signer, issuer, channel)
        signer.process.terminate()
        began = time.monotonic()
        assert await signer.ended() == 0
        assert time.monotonic() - began < 10
    assert "Traceback" not in signer.log


async def test_a_kms_that_does_not_answer_does_not_hold_up_the_end_and_leaves_no_intent_open(
    tmp_path: Path, kms: KmsStandIn
) -> None:
    issuer = Issuer()
    flags = prepare(tmp_path, issuer) | {"aws-endpoint": kms.url, "drain-seconds": "1"}
    async with serving_process(tmp_path, flags) as signer:
        load = Load(f"unix:{tmp_path}/s", issuer.mint(JOB, now=datetime.now(UTC)))
        running = asyncio.create_task(load.run())
        await until(lambda: load.released > CALLERS)
        kms.gate.clear()
        before = kms.signed
        await until(lambda: kms.signed >= before + 10)
        signer.process.send_signal(signal.SIGTERM)
        assert await signer.ended() == 0
        await running
    outcomes = Counter(record["outcome"] for record in records(tmp_path) if record["kind"] == "outcome")
    assert (outcomes["signed"], outcomes["unknown"] > 0) == (load.released, True)
