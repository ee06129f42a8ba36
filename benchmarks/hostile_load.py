"""A good caller's latency alone, and while 10,000 junk tokens and 200 slow clients press on the same signer.

Run from the checkout's root: `.venv/bin/python -m benchmarks.hostile_load`; a minute and a half. The signer is a
process of its own, on TCP with TLS; so are the junk callers. KMS is a stand-in beside the good caller and takes 10 ms.
All on this machine's loopback, so that whatever CPU the attack's own processes take is taken from the signer too.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import resource
import secrets
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
from aiohttp import web

from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox.issuer import Issuer, ServiceAccount
from tests.support.kms_stand_in import KmsStandIn
from tests.support.many_claims import another_claim
from tests.support.signer_process import SignerProcess, prepare, prepare_tls, recipe_hash, serving_process
from tests.support.slow_clients import PREFACE, SETTINGS, Connection, call_headers, connect_tcp, frame, settings

KMS_SECONDS = 0.01
CALLS_PER_SECOND = 50
JUNK = 10_000
JUNK_CONNECTIONS = 10
JUNK_AT_ONCE = 250
SLOW = 200
APART = 0.05
"""Seconds between the arrivals of two slow clients."""
LIFE = timedelta(hours=1)
SIGN_CLAIM, SIGN_CLAIMS = "/byok.signer.v1.Signer/SignClaim", "/byok.signer.v1.Signer/SignClaims"


@dataclass(frozen=True)
class Target:
    """The signer under attack."""

    port: int
    trust: str
    token: str
    """A good one, for slow clients that have one, and to make junk of."""

    def channel(self, number: int = 0) -> grpc.aio.Channel:
        """Open a connection of its own for each number."""
        credentials = grpc.ssl_channel_credentials(self.trust.encode())
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.primary_user_agent", str(number)))
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials, options)


@dataclass(frozen=True)
class Attack:
    """What came of the attack."""

    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    slow_ended: Counter[str] = field(default_factory=Counter)


class SlowKms(KmsStandIn):
    """KMS at its usual distance; there is no STS."""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer late."""
        await asyncio.sleep(KMS_SECONDS)
        if "X-Amz-Target" not in request.headers:
            raise web.HTTPForbidden
        return await super().answer(request)


@asynccontextmanager
async def slow_kms() -> AsyncIterator[SlowKms]:
    """Serve KMS on a free port."""
    kms, application = SlowKms(), web.Application()
    application.router.add_post("/", kms.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kms.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield kms
    await runner.cleanup()


async def good_caller(target: Target, seconds: float, recipe: str) -> list[float]:
    """Sign at a steady pace; return each call's seconds from when it was due."""
    metadata, taken, calls = (("authorization", f"Bearer {target.token}"),), [], []
    async with target.channel() as channel:
        stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)

        async def call(due: float) -> None:
            request = pb.SignClaimRequest(recipe="photo", expected_recipe_hash=recipe, claim=another_claim())
            await stub.SignClaim(request, metadata=metadata, timeout=30)
            taken.append(time.perf_counter() - due)

        await call(time.perf_counter())
        taken.clear()
        began = time.perf_counter()
        for number in range(int(seconds * CALLS_PER_SECOND)):
            due = began + number / CALLS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.append(asyncio.create_task(call(due)))
        await asyncio.gather(*calls)
    return taken


def junk_tokens(good: str) -> Callable[[int], str]:
    """Make tokens by number: no tokens at all, unsigned shapes, expired ones, and good claims with a bad signature."""
    header, payload, _ = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))

    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    def token(number: int) -> str:
        match number % 4:
            case 0:
                return secrets.token_hex(600)
            case 1:
                return f"{header}.{encoded({'jti': secrets.token_hex(8)})}.{secrets.token_urlsafe(64)}"
            case 2:
                return f"{header}.{encoded({**claims, 'exp': 1, 'jti': number})}.{secrets.token_urlsafe(64)}"
            case _:
                return f"{header}.{encoded({**claims, 'jti': number})}.{secrets.token_urlsafe(64)}"

    return token


def attack(target: Target, results: "multiprocessing.Queue[Attack]") -> None:
    """Send all junk tokens, as fast as so many callers at once get their answers, while slow clients hang about."""
    # An attack comes from elsewhere; this one is not to take the signer's processor before others do.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(10)
    results.put(Attack())  # from here on, so that the start of this process is not taken for the attack
    results.put(asyncio.run(_attack(target)))


async def _attack(target: Target) -> "Attack":
    slow = SlowClients(target)
    slowness = asyncio.create_task(slow.run())
    await asyncio.sleep(APART * SLOW)
    seconds, codes = await _send_junk(target)
    slowness.cancel()
    await asyncio.wait((slowness,))
    return Attack(seconds, codes, slow.ended)


async def _send_junk(target: Target) -> tuple[float, "Counter[str]"]:
    make, numbers, codes = junk_tokens(target.token), iter(range(JUNK)), Counter[str]()
    channels = [target.channel(number) for number in range(JUNK_CONNECTIONS)]

    async def worker(channel: grpc.aio.Channel) -> None:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SIGN_CLAIM)
        for number in numbers:
            call = method(b"", metadata=(("authorization", f"Bearer {make(number)}"),), timeout=60)
            codes[(await call.code()).name] += 1

    began = time.perf_counter()
    await asyncio.gather(*(worker(channels[number % JUNK_CONNECTIONS]) for number in range(JUNK_AT_ONCE)))
    seconds = time.perf_counter() - began
    await asyncio.gather(*(channel.close() for channel in channels))
    return seconds, codes


class SlowClients:
    """200 clients of five kinds, each of which comes back whenever the signer has had enough of it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tls = ssl.create_default_context(cadata=target.trust)
        self._tls.set_alpn_protocols(["h2"])
        self.ended: Counter[str] = Counter()

    async def run(self) -> None:
        """Be slow until cancelled."""
        kinds: tuple[Callable[[], Awaitable[Connection]], ...] = (
            self.says_nothing,
            self.begins_tls,
            self.begins_http2,
            self.sends_headers_only,
            self.reads_nothing,
        )
        await asyncio.gather(*(self._again_and_again(kinds[n % len(kinds)], n * APART) for n in range(SLOW)))

    async def _again_and_again(self, kind: Callable[[], Awaitable[Connection]], delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            try:
                connection = await kind()
                try:
                    await connection.closed()
                finally:
                    connection.writer.close()
            except OSError:
                self.ended[f"{kind.__name__}, refused"] += 1
                await asyncio.sleep(0.5)
            else:
                self.ended[kind.__name__] += 1

    async def says_nothing(self) -> Connection:
        """Connect."""
        return await connect_tcp(self._target.port)

    async def begins_tls(self) -> Connection:
        """Send the first bytes of a ClientHello."""
        connection = await connect_tcp(self._target.port)
        await connection.send(bytes.fromhex("160301020001"))
        return connection

    async def begins_http2(self) -> Connection:
        """Send half of what opens an HTTP/2 connection."""
        connection = await connect_tcp(self._target.port, tls=self._tls)
        await connection.send(PREFACE[:12])
        return connection

    async def sends_headers_only(self) -> Connection:
        """Begin a call with a good token, and send no message."""
        connection = await connect_tcp(self._target.port, tls=self._tls)
        authorization = ("authorization", f"Bearer {self._target.token}")
        await connection.send(PREFACE, frame(SETTINGS), call_headers(SIGN_CLAIM, authorization))
        return connection

    async def reads_nothing(self) -> Connection:
        """Open a stream that takes no byte of an answer, and send claims."""
        connection = await connect_tcp(self._target.port, tls=self._tls)
        authorization = ("authorization", f"Bearer {self._target.token}")
        await connection.send(PREFACE, settings({4: 0}), call_headers(SIGN_CLAIMS, authorization))
        message = pb.SignClaimsRequest(recipe="photo", items=[pb.SignClaimsItem(id="x", claim=b"x")])
        data = message.SerializeToString()
        await connection.send(frame(0, b"\0" + len(data).to_bytes(4, "big") + data, stream=1))
        return connection


@dataclass(frozen=True)
class Usage:
    """What the signer's process has used."""

    cpu: float
    memory: int

    @classmethod
    def of(cls, signer: SignerProcess) -> "Usage":
        """Read it (proc(5))."""
        folder = Path(f"/proc/{signer.process.pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        pages = int((folder / "statm").read_text().split()[1])
        return cls((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), pages * resource.getpagesize())


def told(name: str, seconds: list[float], used: Usage, before: Usage, wall: float) -> float:
    """Print one line of the table and return the p99."""
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    cpu, memory = (used.cpu - before.cpu) / wall, used.memory / 2**20
    print(
        f"| {name} | {len(ordered)} | {p50 * 1e3:.1f} | {p99 * 1e3:.1f} | {ordered[-1] * 1e3:.1f} "
        f"| {cpu:.2f} | {memory:.0f} |"
    )
    return p99


async def measured(folder: Path, quiet_seconds: float) -> float:
    """Measure, print, and return how many times its quiet p99 the good caller's p99 under attack was."""
    issuer = Issuer()
    tls, trust = prepare_tls(folder)
    async with AsyncExitStack() as stack:
        kms = await stack.enter_async_context(slow_kms())
        signer = await stack.enter_async_context(
            serving_process(folder, prepare(folder, issuer) | tls | {"aws-endpoint": kms.url})
        )
        good, slow = (
            Target(signer.port, trust, issuer.mint(ServiceAccount("media", name), now=datetime.now(UTC), lifetime=LIFE))
            for name in ("good", "slow")
        )
        recipe = recipe_hash()
        await good_caller(good, 2, recipe)
        print("| | calls | p50 ms | p99 ms | max ms | signer cores | signer MiB |\n|---|---|---|---|---|---|---|")
        before = Usage.of(signer)
        quiet = told("quiet", await good_caller(good, quiet_seconds, recipe), Usage.of(signer), before, quiet_seconds)
        context = multiprocessing.get_context("spawn")
        results: multiprocessing.Queue[Attack] = context.Queue()
        attacker = context.Process(target=attack, args=(slow, results))
        attacker.start()
        await asyncio.to_thread(results.get)
        before, began, taken = Usage.of(signer), time.perf_counter(), list[float]()
        while attacker.is_alive() and results.empty():
            taken += await good_caller(good, 5, recipe)
        pressed = told("under attack", taken, Usage.of(signer), before, time.perf_counter() - began)
        done = results.get()
        attacker.join()
        print(f"junk: {done.codes.total()} calls in {done.seconds:.1f} s: {dict(done.codes)}")
        print(f"slow clients let go: {dict(done.slow_ended)}")
    return pressed / quiet


def main() -> None:
    """Print the table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet-seconds", type=float, default=16)
    parser.add_argument("--realtime", action="store_true", help="run signer and good caller before all else (as root)")
    arguments = parser.parse_args()
    if arguments.realtime:
        # For a machine with other work: both phases are measured as if it were not there.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with tempfile.TemporaryDirectory() as folder:
        ratio = asyncio.run(measured(Path(folder), arguments.quiet_seconds))
    print(f"p99 under attack: {ratio:.2f} times the quiet one; the aim is at most 2")


if __name__ == "__main__":
    main()
