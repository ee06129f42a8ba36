"""What loads a signer: calls one after the other, calls at a rate, and streams; each claim is a new one.

Each function here is run by a process of its own, and returns what was done between two readings of the CPU, those of
the processes that the target names and of its own. What was begun before or ended after is not counted.
"""

import asyncio
import base64
import json
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path

import grpc
import grpc.aio
from yarl import URL

from benchmarks.bench import KmsTarget, Target
from benchmarks.measuring import Reading, Run
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.kms.http1 import render_headers
from byok_signer.kms.transport import Transport
from tests.support.manifests import KEY_ARN

_SIGN_CLAIM, _SIGN_CLAIMS = "/byok.signer.v1.Signer/SignClaim", "/byok.signer.v1.Signer/SignClaims"
_CONNECTIONS = 8
_TIMEOUT = 30.0
_SETTLING = 4.0
"""Seconds that a backlog from the warm-up gets to become small."""
_SETTLED = 0.04
"""Seconds of calls that are under way in any case."""
ITEMS = 64
"""Claims of one message of a stream."""
_MESSAGES_AHEAD = 2
"""That a stream has sent and not had answered."""


@dataclass
class Tally:
    """What was done so far."""

    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    async def window(self, target: Target | KmsTarget, *, warm_up: float, seconds: float) -> Run:
        """Wait until it has gone on for `warm_up`, then see what is done within `seconds`."""
        pids = {**target.pids, "load": os.getpid()}
        await asyncio.sleep(warm_up)
        self.latencies.clear()
        self.failures.clear()
        before = Reading.of(pids)
        await asyncio.sleep(seconds)
        return Run.between(before, Reading.of(pids), list(self.latencies), self.failures)


@asynccontextmanager
async def _channels(target: Target, count: int) -> AsyncIterator[Sequence[grpc.aio.Channel]]:
    async with AsyncExitStack() as stack:
        credentials = grpc.ssl_channel_credentials(target.trust)
        options = (("grpc.use_local_subchannel_pool", 1),)
        yield [
            await stack.enter_async_context(grpc.aio.secure_channel(target.address, credentials, options))
            for _ in range(count)
        ]


def _caller(target: Target, channel: grpc.aio.Channel, tally: Tally) -> Callable[[float], Awaitable[bool]]:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_SIGN_CLAIM)
    metadata, claims = (("authorization", f"Bearer {target.token}"),), target.claims

    async def call(due: float) -> bool:
        try:
            await method(claims.request(), metadata=metadata, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            tally.failures[f"{error.code().name}: {error.details()}"[:120]] += 1
            return False
        tally.latencies.append(time.perf_counter() - due)
        return True

    return call


def calls_in_turn(target: Target, *, at_once: int, warm_up: float, seconds: float) -> Run:
    """Have `at_once` callers each make one call after the other."""

    async def run() -> Run:
        tally = Tally()
        async with _channels(target, min(at_once, _CONNECTIONS)) as channels:
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            callers = [_caller(target, channels[number % len(channels)], tally) for number in range(at_once)]

            async def again_and_again(call: Callable[[float], Awaitable[bool]]) -> None:
                while True:
                    await call(time.perf_counter())

            tasks = [asyncio.create_task(again_and_again(call)) for call in callers]
            done = await tally.window(target, warm_up=warm_up, seconds=seconds)
            await _cancel(tasks)
        return done

    return asyncio.run(run())


def first_calls(target: Target, count: int) -> list[float]:
    """Make calls on a connection that is open already, and tell how long each took."""

    async def run() -> list[float]:
        tally = Tally()
        async with _channels(target, 1) as (channel,):
            await channel.channel_ready()
            for _ in range(count):
                if not await _caller(target, channel, tally)(time.perf_counter()):
                    raise RuntimeError(f"a call failed: {dict(tally.failures)}")
        return tally.latencies

    return asyncio.run(run())


def calls_at_rate(target: Target, *, rate: float, warm_up: float, seconds: float) -> Run:
    """Make `rate` calls a second, whatever becomes of them.

    Durations are those of the calls that were due between the readings, all of which are waited for; each counts from
    the moment it was due, so that a load or a signer that is late cannot hide it. Connections are opened beforehand.
    """

    async def run() -> Run:
        async with _channels(target, _CONNECTIONS) as channels:
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            return await _Schedule(target, channels, rate).run(warm_up, seconds)

    return asyncio.run(run())


class _Schedule:
    """Calls at a rate."""

    def __init__(self, target: Target, channels: Sequence[grpc.aio.Channel], rate: float) -> None:
        self._target = target
        self._rate = rate
        self._answered = 0
        self._under_way = set[asyncio.Task[None]]()
        self._warming, self._tally = Tally(), Tally()
        self._callers = [
            (_caller(target, channel, self._warming), _caller(target, channel, self._tally)) for channel in channels
        ]

    async def run(self, warm_up: float, seconds: float) -> Run:
        pids = {**self._target.pids, "load": os.getpid()}
        began, number, first = time.perf_counter(), 0, math.ceil(warm_up * self._rate)
        # What a cold start left waiting is worked off first, if it can be.
        while number < first or (
            number < first + _SETTLING * self._rate and len(self._under_way) > _SETTLED * self._rate
        ):
            await self._make(number, began + number / self._rate, counts=False)
            number += 1
        before, backlog, answered = Reading.of(pids), len(self._under_way), self._answered
        last = number + round(seconds * self._rate)
        for counted in range(number, last):
            await self._make(counted, began + counted / self._rate, counts=True)
        await asyncio.sleep(max(0.0, began + last / self._rate - time.perf_counter()))
        after, left, done = Reading.of(pids), len(self._under_way), self._answered - answered
        await asyncio.gather(*self._under_way)
        run = Run.between(before, after, self._tally.latencies, self._tally.failures)
        return replace(run, done=done, backlog=(backlog, left))

    async def _make(self, number: int, due: float, *, counts: bool) -> None:
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        elif not number % 32:
            # A load that is late must still read its answers.
            await asyncio.sleep(0)
        task = asyncio.ensure_future(self._call(self._callers[number % len(self._callers)][counts], due))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _call(self, call: Callable[[float], Awaitable[bool]], due: float) -> None:
        # Not in one expression, which would look at the count before it waits.
        succeeded = await call(due)
        self._answered += succeeded


def streams(target: Target, *, at_once: int, warm_up: float, seconds: float) -> Run:
    """Have `at_once` streams each send the next message of 64 claims when one of those ahead is answered."""

    async def run() -> Run:
        tally = Tally()
        async with _channels(target, at_once) as channels:
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            tasks = [asyncio.create_task(stream(target, channel, tally)) for channel in channels]
            done = await tally.window(target, warm_up=warm_up, seconds=seconds)
            await _cancel(tasks)
        return done

    return asyncio.run(run())


async def stream(target: Target, channel: grpc.aio.Channel, tally: Tally, *, items: int = ITEMS) -> None:
    """Keep messages of `items` claims under way on a stream until it ends, which is a failure."""
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_SIGN_CLAIMS)
    opened = method(metadata=(("authorization", f"Bearer {target.token}"),))
    sent: dict[int, tuple[float, int]] = {}

    async def send(number: int) -> None:
        message = target.claims.message(number * items, items)
        sent[number] = time.perf_counter(), items
        await opened.write(message)

    for number in range(_MESSAGES_AHEAD):
        await send(number)
    following = _MESSAGES_AHEAD
    while isinstance(data := await opened.read(), bytes):
        now = time.perf_counter()
        for result in pb.SignClaimsResponse.FromString(data).results:
            number = int(result.id, 16) // items
            due, left = sent[number]
            sent[number] = due, left - 1
            if result.HasField("signed"):
                tally.latencies.append(now - due)
            else:
                tally.failures[result.error.message[:120]] += 1
            if left == 1:
                del sent[number]
                await send(following)
                following += 1
    tally.failures[f"stream: {(await opened.code()).name}: {await opened.details()}"[:120]] += 1


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def kms_in_turn(kms: KmsTarget, *, at_once: int, warm_up: float, seconds: float) -> Run:
    """Have `at_once` connections to KMS each make one call after the other, with nothing around it."""
    body = json.dumps(
        {
            "KeyId": KEY_ARN,
            "Message": base64.b64encode(bytes(32)).decode(),
            "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256",
        }
    ).encode()
    headers = render_headers({"Host": "127.0.0.1", "X-Amz-Target": "TrentService.Sign", "Authorization": "a" * 1200})

    async def run() -> Run:
        tally, transport = Tally(), Transport(Path(kms.ca_file))

        async def again_and_again() -> None:
            while True:
                began = time.perf_counter()
                answer = await transport.post(URL(kms.url), headers, body, timeout=_TIMEOUT)
                if answer.status == HTTPStatus.OK:
                    tally.latencies.append(time.perf_counter() - began)
                else:
                    tally.failures[str(answer.status)] += 1

        tasks = [asyncio.create_task(again_and_again()) for _ in range(at_once)]
        done = await tally.window(kms, warm_up=warm_up, seconds=seconds)
        await _cancel(tasks)
        await transport.close()
        return done

    return asyncio.run(run())
