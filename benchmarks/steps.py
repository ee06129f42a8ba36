"""Where a signature's time goes: each step of the signer's work alone, in CPU, beside the whole in a signer's process.

The steps are the signer's own objects, called in this process as the pipeline calls them. An empty gRPC call and the
whole signature are measured in processes of their own, under the same load. What the pipeline as a whole takes beyond
its steps is tasks, contexts and checks between them; what the process takes beyond pipeline and empty call is the gate,
the event loop's wake-ups, and caches that are cold between so much code.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from botocore.credentials import Credentials

from benchmarks import load
from benchmarks.bench import UNLIMITED, Bench, Target, entry, resolved
from benchmarks.machine import Calibration
from benchmarks.pipeline_alone import pipeline_alone
from benchmarks.plots import stacked
from benchmarks.reporting import Plot, Section, Table
from benchmarks.stand_in import ACCOUNT, Conduct
from byok_api import signatures
from byok_api.audit import Attempt, AuditEvent, AuditId, Kind, Outcome
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.access import OwnNamespaceAccess
from byok_signer.answers import signed_response
from byok_signer.audit import FileAuditSink
from byok_signer.authentication import Caller, JwtAuthenticator
from byok_signer.authorization import authorize, right_to_sign
from byok_signer.breaker import Breaker
from byok_signer.entries import Catalogue, SigningEntry
from byok_signer.flights import Flights, Made
from byok_signer.guard import check_claim
from byok_signer.jwks import FileKeys
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.http1 import HeaderLines
from byok_signer.kms.messages import payload_of_message
from byok_signer.kms.port import KeyHandle, SignAnswer
from byok_signer.kms.sigv4 import Credentials as Frozen
from byok_signer.kms.sigv4 import Destination, RequestSigner
from byok_signer.quota import Demand, QuotaKey, Quotas, family_of
from byok_signer.work import Identity, Signed
from tests.support.claims import created_claim

AT_ONCE = 64
_CALLS = 320
_EMPTY, _WHOLE = "gRPC: an empty call over TLS", "a whole signature"
_MESSAGES = "protobuf: request and answer"
_PIPELINE = "the pipeline, in process"
_WITHIN = "between the pipeline's steps: tasks, contexts, checks"
_AROUND = "around it: gate, event loop, gRPC under work"
_AUDIT_ID = AuditId("benchmark", 1)
_BODY = bytes(250)
_PATIENCE = 10.0
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Scale:
    """How long to measure."""

    rounds: int
    warm_up: float
    seconds: float


QUICK = Scale(rounds=3, warm_up=0.5, seconds=1)
FULL = Scale(rounds=15, warm_up=1.5, seconds=5)


def measure(bench: Bench, calibration: Calibration, *, scale: Scale) -> Section:
    """Measure the steps, the empty call and the whole."""
    bench.kms.behave(Conduct())
    steps = dict(asyncio.run(_steps(bench, scale.rounds)))
    under_load = partial(load.calls_in_turn, at_once=AT_ONCE, warm_up=scale.warm_up, seconds=scale.seconds)
    with bench.signer() as signer:
        target = bench.target(signer)
        whole = bench.load.do(partial(under_load, target)).cost("signer")
    with _empty_server(bench, target) as empty:
        steps = {_EMPTY: bench.load.do(partial(under_load, empty)).cost("signer"), **steps}
    pipeline = steps.pop(_PIPELINE)
    shown = {name: cost for name, cost in steps.items() if not name.startswith("of which")}
    outside = shown[_EMPTY] + shown[_MESSAGES]
    rest = {_WITHIN: pipeline - (sum(shown.values()) - outside), _AROUND: whole - outside - pipeline}
    rows = [
        [name, f"{cost:,.1f}", f"{cost / whole:.0%}", f"{cost / calibration.scale:,.1f}"]
        for name, cost in {**steps, **rest, _WHOLE: whole, f"of which {_PIPELINE}": pipeline}.items()
    ]
    plotted = {name: max(0.0, cost) for name, cost in {**shown, **rest}.items()}
    return Section(
        "Where a signature's time goes",
        "CPU microseconds of the signer for each signature, ES256, one call each, 64 at once. Each step is measured "
        "alone, in process, the best of many rounds; the empty call and the whole are means under load in processes of "
        "their own, all threads and the kernel's work for them included. The last column is scaled by the calibration, "
        "an estimate.",
        [Table("", ("step", "us", "share", "estimate, scaled"), rows)],
        plots=[Plot("steps", "Where a signature's time goes", partial(stacked, label="CPU us", values=plotted))],
    )


async def _cost(call: Callable[[], Awaitable[object]], rounds: int, *, at_once: int = 1) -> float:
    """Measure CPU microseconds of this whole process for one of many calls, the best of several rounds."""

    async def again_and_again() -> None:
        for _ in range(_CALLS // at_once):
            await call()

    found = float("inf")
    for _ in range(rounds + 1):
        before = time.process_time()
        await asyncio.gather(*(again_and_again() for _ in range(at_once)))
        found = min(found, time.process_time() - before)
    return found / _CALLS * 1e6


def _at_once(call: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def called() -> object:
        return call()

    return called


async def _steps(bench: Bench, rounds: int) -> Mapping[str, float]:
    catalogue, claim = resolved(), created_claim().sig_structure
    usable = entry()
    authenticator = JwtAuthenticator(
        issuer=bench.issuer.name,
        audience="byok-signer",
        keys=FileKeys(bench.folder / "jwks.json"),
        clock=lambda: datetime.now(UTC),
    )
    caller, token = await authenticator.authenticate(bench.token()), bench.token()
    await authenticator.authenticate(token)
    handle = usable.key.handle
    config = KmsConfig(
        installation="benchmark", endpoint=bench.kms.url, key_endpoints=frozenset(), ca_file=bench.folder / "ca.crt"
    )
    kms = AwsKms(config, chain=lambda: Credentials("AKIABENCHMARK", "s" * 40))
    try:
        sign = partial(kms.sign, handle, usable.algorithm, message=claim, timeout=30.0)
        await asyncio.gather(*(sign() for _ in range(AT_ONCE)))
        answer, checked = await sign(), check_claim(claim, usable.policy)
        demand = _demand(handle, caller)
        quotas = Quotas(per_second=UNLIMITED, replicas=lambda: 1, clock=time.monotonic)
        verify = partial(signatures.verify, usable.chain.public_key, usable.algorithm, answer.signature, message=claim)
        steps: list[tuple[str, Callable[[], Awaitable[object]], int]] = [
            ("token, remembered", lambda: authenticator.authenticate(token), 1),
            ("authorize, twice", _at_once(partial(_authorize_twice, catalogue, caller)), 1),
            ("guard", _at_once(partial(_guard, claim, usable)), 1),
            ("identity and flight", _flight(caller, handle, answer), AT_ONCE),
            ("breaker", _at_once(partial(_break, Breaker(clock=time.monotonic), handle)), 1),
            ("quota", lambda: quotas.acquire(demand, timeout=1.0), 1),
            ("KMS client: SigV4, HTTP, TLS", sign, AT_ONCE),
            ("of which SigV4", _at_once(_sigv4()), 1),
            ("verification of the signature", _at_once(verify), 1),
            (_MESSAGES, _at_once(_messages(claim, Signed(usable, answer, checked, _AUDIT_ID))), 1),
        ]
        found = {name: await _cost(call, rounds, at_once=at_once) for name, call, at_once in steps}
        async with pipeline_alone(bench, authenticator, kms) as sign_claim:
            found[_PIPELINE] = await _cost(sign_claim, rounds, at_once=AT_ONCE)
    finally:
        await kms.close()
    for kind, name in ((Kind.INTENT, "audit: intent, durable"), (Kind.OUTCOME, "audit: outcome, durable")):
        found[name] = await _audit(bench.folder / f"steps-{kind.name}.jsonl", kind, rounds)
    return {name: found[name] for name in sorted(found, key=_ORDER.index)}


_ORDER = [
    "token, remembered",
    _MESSAGES,
    "authorize, twice",
    "guard",
    "identity and flight",
    "breaker",
    "quota",
    "audit: intent, durable",
    "KMS client: SigV4, HTTP, TLS",
    "of which SigV4",
    "verification of the signature",
    "audit: outcome, durable",
    _PIPELINE,
]


def _authorize_twice(catalogue: Catalogue, caller: Caller) -> None:
    access = OwnNamespaceAccess()
    for _ in range(2):
        reference, right = right_to_sign(caller, "photo")
        if right.name is None:
            raise AssertionError("a recipe has a name")
        allowed = access.recall(caller, right).allowed
        authorize(catalogue, caller, right.name, reference.version, allowed=allowed)


def _demand(handle: KeyHandle, caller: Caller) -> Demand:
    quota = QuotaKey(ACCOUNT, handle.arn.region, family_of(entry().algorithm))
    return Demand(quota=quota, key=handle.name, limit=None, namespace=caller.namespace)


def _guard(claim: bytes, usable: SigningEntry) -> None:
    check_claim(claim, usable.policy)
    payload_of_message(usable.key.name, usable.algorithm, claim)


def _flight(caller: Caller, handle: KeyHandle, answer: SignAnswer) -> Callable[[], Awaitable[object]]:
    """Make flights that land at once, each of another identity."""
    flights, numbers = Flights(clock=time.monotonic), itertools.count()

    async def make(commit: Callable[[], None]) -> Made:
        commit()
        return answer, _AUDIT_ID

    async def fly() -> Made:
        identity = Identity(
            caller=caller.username,
            recipe_namespace="media",
            recipe_name="photo",
            recipe_hash="0" * 64,
            key_arn=handle.arn.text,
            signed=next(numbers).to_bytes(32, "big"),
            guarded=True,
        )
        if flights.made(identity) is not None or flights.flying(identity) is not None:
            raise AssertionError("every identity is new")
        return await flights.start(identity, make, time.monotonic() + _PATIENCE).join()

    return fly


def _break(breaker: Breaker, handle: KeyHandle) -> None:
    breaker.check(handle)
    breaker.enter(handle)
    breaker.succeeded(handle)


def _sigv4() -> Callable[[], HeaderLines]:
    destination = Destination(
        "kms", "eu-central-1", "kms.eu-central-1.amazonaws.com", "application/x-amz-json-1.1", "TrentService.Sign"
    )
    credentials, signer = Frozen("AKIABENCHMARK", "s" * 40, None), RequestSigner()
    return lambda: signer.sign(destination, credentials, _BODY, now=time.time())


def _messages(claim: bytes, signed: Signed) -> Callable[[], bytes]:
    recipe_hash = entry().recipe.hash
    request = pb.SignClaimRequest(recipe="photo", expected_recipe_hash=recipe_hash, claim=claim).SerializeToString()

    def both() -> bytes:
        pb.SignClaimRequest.FromString(request)
        return signed_response(signed).SerializeToString()

    return both


async def _audit(path: Path, kind: Kind, rounds: int) -> float:
    sink = FileAuditSink(path)
    # Every outcome of a chain settles another intent, so that the sink may hold on to those that are open.
    numbers = itertools.count(1)
    try:
        return await _cost(lambda: sink.append(_event(kind, next(numbers))), rounds, at_once=AT_ONCE)
    finally:
        await sink.close()


def _event(kind: Kind, number: int) -> AuditEvent:
    usable, request_id = entry(), f"{number:032x}"
    settled: dict[str, Any] = {}
    if kind is Kind.OUTCOME:
        settled = {
            "intent": number,
            "outcome": Outcome.SIGNED,
            "attempts": (Attempt(request_id, Outcome.SIGNED),),
        }
    return AuditEvent(
        kind=kind,
        request_id=request_id,
        caller="system:serviceaccount:media:job",
        recipe="media/photo@1",
        recipe_hash=usable.recipe.hash,
        key=str(usable.key.name),
        key_arn=usable.key.handle.arn.text,
        algorithm=usable.algorithm,
        manifest=f"urn:c2pa:{request_id}",
        claim_sha256=f"{number:064x}",
        guarded=True,
        **settled,
    )


@contextmanager
def _empty_server(bench: Bench, target: Target) -> Iterator[Target]:
    command = [sys.executable, "-m", "benchmarks.empty_server", f"{bench.folder}/tls.crt", f"{bench.folder}/tls.key"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, cwd=_ROOT, env={**os.environ, "PYTHONPATH": str(_ROOT)}
    )
    try:
        if process.stdout is None:
            raise AssertionError("its output was asked for")
        port = int(process.stdout.readline())
        yield replace(target, address=f"localhost:{port}", pids={"signer": process.pid})
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
