"""Every fault of KMS and STS against every RPC: what the caller is told, what is recorded, what KMS's own log has.

The table (tests.support.fault_table) says what a fault means; the cases are made of it. An RPC that does not need KMS
does not notice a fault.
"""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import grpc.aio
import pytest
import pytest_asyncio
from grpc import StatusCode

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import AuditEvent, Kind
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.kms.injection import ClockSkew, FaultRule, Hang, Latency, OtherSignature, Reset, WrongKeyId
from tests.support.emulator import Aws, running_emulator
from tests.support.fault_table import ANYWHERE, ASSUME, SHORT, SIGN, TABLE, Row
from tests.support.faults import FaultBench, fault_bench, unaccounted
from tests.support.refusals import status_in, told_by
from tests.support.signer import DEADLINE, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_ASKED = frozenset(
    {
        Reason.KmsThrottled,
        Reason.KmsUnavailable,
        Reason.KmsDeadlineExceeded,
        Reason.SignerCredentialsInvalid,
        Reason.SignerClockSkewed,
    }
)
"""What a probe calls unknown: it says nothing about the key."""


@dataclass(frozen=True)
class Answer:
    """What a caller is told."""

    code: StatusCode
    reason: Reason | None = None
    waits: bool = False


OK = Answer(StatusCode.OK)
TOO_LATE = Answer(StatusCode.DEADLINE_EXCEEDED)
"""Without a reason: the caller's own clock may be the first to say so, and knows none."""


def refusal(reason: Reason, *, waits: bool) -> Answer:
    code = reason.facts.status
    return TOO_LATE if code is TOO_LATE.code else Answer(code, reason, waits)


@dataclass(frozen=True)
class Case:
    """A fault, where it happens, and who meets it."""

    fault: str
    at: str | None
    """An operation of KMS or STS; None for all."""
    rpc: str
    number: int

    def __str__(self) -> str:
        return f"{self.rpc}-{self.at or 'anywhere'}-{self.fault.replace(' ', '-')}"

    @property
    def name(self) -> str:
        """Of its key, recipe and job."""
        return f"case-{self.number}" if self.at else "local"

    @property
    def row(self) -> Row:
        return TABLE[self.fault][1]

    @property
    def rule(self) -> FaultRule:
        fault = TABLE[self.fault][0]
        if isinstance(fault, ClockSkew):
            return FaultRule(fault=fault, service="sts" if self.at == ASSUME else "kms")  # no clock is one operation's
        return FaultRule(fault=fault, operation=self.at, times=self.row.times)

    @property
    def expected(self) -> Answer:
        row = self.row
        if row.reason is None or self.at not in row.shows:
            return OK
        return refusal(row.reason, waits=row.waits)

    @property
    def probed(self) -> Answer:
        # A dry run answers neither KeyId nor signature.
        answers_an_error = self.at == SIGN and isinstance(TABLE[self.fault][0], WrongKeyId | OtherSignature)
        # A report is no refusal: nobody is told to wait.
        return OK if answers_an_error else dataclasses.replace(self.expected, waits=False)


@dataclass(frozen=True)
class Calling:
    """A call to be made, with a key, recipe and job of one name."""

    bench: FaultBench
    name: str
    metadata: tuple[tuple[str, str], ...]
    recipe_hash: str
    claim: bytes
    deadline: float = DEADLINE

    async def sign(self, claim: bytes, deadline: float = DEADLINE) -> pb.SignClaimResponse:
        request = pb.SignClaimRequest(recipe=self.name, expected_recipe_hash=self.recipe_hash, claim=claim)
        return await self.bench.signer.SignClaim(request, metadata=self.metadata, timeout=deadline)

    def check(self, signed: pb.SignClaimResponse) -> Answer:
        chain = self.bench.key.chain
        signatures.verify(chain.public_key, SigningAlgorithm.ES256, signed.signature, message=self.claim)
        return OK


async def sign_claim(calling: Calling) -> Answer:
    return calling.check(await calling.sign(calling.claim, calling.deadline))


async def sign_digest(calling: Calling) -> Answer:
    request = pb.SignDigestRequest(
        recipe=calling.name,
        expected_recipe_hash=calling.recipe_hash,
        digest=sha256(calling.claim).digest(),
        evidence=calling.claim,
    )
    signed = await calling.bench.signer.SignDigest(request, metadata=calling.metadata, timeout=calling.deadline)
    return calling.check(signed)


async def sign_claims(calling: Calling) -> Answer:
    item = pb.SignClaimsItem(id="1", claim=calling.claim)
    request = pb.SignClaimsRequest(recipe=calling.name, expected_recipe_hash=calling.recipe_hash, items=[item])
    stream = calling.bench.signer.SignClaims(iter([request]), metadata=calling.metadata, timeout=calling.deadline)
    results = [result async for response in stream for result in response.results]
    (result,) = results
    if result.WhichOneof("outcome") == "signed":
        return calling.check(result.signed)
    told = told_by(result.error)
    return refusal(told.reason, waits=told.retry_after is not None)


async def get_recipe(calling: Calling) -> Answer:
    request = pb.GetRecipeRequest(recipe=calling.name)
    recipe = await calling.bench.signer.GetRecipe(request, metadata=calling.metadata, timeout=DEADLINE)
    assert recipe.effective_hash == calling.recipe_hash
    return OK


async def get_public_key(calling: Calling) -> Answer:
    request = pb.GetPublicKeyRequest(recipe=calling.name)
    answer = await calling.bench.signer.GetPublicKey(request, metadata=calling.metadata, timeout=DEADLINE)
    assert answer.key_arn == calling.bench.key.arn
    return OK


async def verify(calling: Calling) -> Answer:
    request = pb.VerifyRequest(recipe=calling.name, claim=calling.claim, signature=b"none")
    answer = await calling.bench.signer.Verify(request, metadata=calling.metadata, timeout=DEADLINE)
    assert not answer.valid
    return OK


async def probe_key(calling: Calling) -> Answer:
    request = pb.ProbeKeyRequest(namespace="media", name=calling.name)
    answer = await calling.bench.probe.ProbeKey(request, metadata=calling.metadata, timeout=calling.deadline)
    # Without its public key a key is not asked to sign, or fails at that as it did before.
    passed = answer.get_public_key.outcome == pb.ProbeResult.PASSED
    result = answer.sign if passed else answer.get_public_key
    if result.outcome == pb.ProbeResult.PASSED:
        return OK
    reason = Reason[result.reason]
    assert (result.outcome == pb.ProbeResult.UNKNOWN) == (reason in NOT_ASKED)
    return refusal(reason, waits=False)


Ask = Callable[[Calling], Awaitable[Answer]]
SIGNING: dict[str, Ask] = {"SignClaim": sign_claim, "SignDigest": sign_digest, "SignClaims": sign_claims}
PROBING: dict[str, Ask] = {"ProbeKey": probe_key}
LOCAL: dict[str, Ask] = {"GetRecipe": get_recipe, "GetPublicKey": get_public_key, "Verify": verify}
RPCS = SIGNING | PROBING | LOCAL


def of(rpcs: dict[str, Ask]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [case for case in CASES if case.rpc in rpcs], ids=str)


def cases() -> Iterator[Case]:
    numbers = itertools.count()
    for fault, (_, row) in TABLE.items():
        for at, rpc in itertools.product(sorted(row.at), SIGNING | PROBING):
            yield Case(fault, at, rpc, next(numbers))
        yield from (Case(fault, ANYWHERE, rpc, 0) for rpc in LOCAL)


CASES = list(cases())
OTHERS = ("stale", "late", "cancelled")
"""Names for the tests that are no cases."""


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultBench]:
    names = [*dict.fromkeys(case.name for case in CASES), *OTHERS]
    assuming = frozenset(case.name for case in CASES if case.at == ASSUME)
    async with fault_bench(tmp_path_factory.mktemp("matrix"), aws, names, assuming) as running:
        yield running


async def calling(bench: FaultBench, name: str) -> Calling:
    metadata = bench.metadata(name)
    request = pb.GetRecipeRequest(recipe=name)
    recipe = await bench.signer.GetRecipe(request, metadata=metadata, timeout=DEADLINE)
    return Calling(bench, name, metadata, recipe.effective_hash, bench.key.claim())


async def calling_for(bench: FaultBench, case: Case) -> Calling:
    return dataclasses.replace(await calling(bench, case.name), deadline=case.row.deadline)


async def answer_of(asked: Awaitable[Answer]) -> Answer:
    try:
        return await asked
    except grpc.aio.AioRpcError as error:
        if error.code() is TOO_LATE.code:
            return TOO_LATE
        told = told_by(status_in(error))
        return Answer(error.code(), told.reason, waits=told.retry_after is not None)


def check_recorded(case: Case, events: list[AuditEvent]) -> None:
    (event,) = (event for event in events if event.kind is not Kind.INTENT)
    if case.expected == OK:
        attempts, outcome, reason = (case.row.attempts if case.at == SIGN else "s"), "signed", None
    elif case.at == SIGN:
        attempts, reason = case.row.attempts, case.row.reason
        outcome = "unknown" if "u" in attempts else "failed"
    else:
        attempts, outcome, reason = "", None, case.row.reason
    assert event.kind is (Kind.REFUSAL if outcome is None else Kind.OUTCOME)
    assert (event.outcome, event.reason) == (outcome, reason and reason.name)
    told = ["".join(attempt.outcome[0] for attempt in each.attempts) for each in events]
    assert "".join(told) == attempts
    # What got lost is on record before KMS is asked again.
    assert all(each.count("u") <= 1 for each in told)


async def test_a_connection_that_broke_is_replaced_once_and_both_requests_are_recorded(bench: FaultBench) -> None:
    call = await calling(bench, "stale")
    await call.sign(bench.key.claim())
    bench.trail.mark()
    with bench.fault(FaultRule(fault=Reset(), operation=SIGN, times=1)):
        signed = await call.sign(bench.key.claim())
    events = await bench.settled("stale")
    assert [event.kind for event in events] == [Kind.INTENT, Kind.INTENT, Kind.OUTCOME]
    told = [attempt.kms_request_id for event in events for attempt in event.attempts]
    assert told == [None, signed.kms_request_id]


async def test_a_callers_deadline_ends_the_call_of_kms(bench: FaultBench) -> None:
    call = await calling(bench, "late")
    await call.sign(bench.key.claim())
    bench.trail.mark()
    connections, began = bench.aws.emulator.connections, time.monotonic()
    with bench.fault(FaultRule(fault=Hang(), operation=SIGN)):
        assert await answer_of(sign_claim(dataclasses.replace(call, deadline=SHORT))) == TOO_LATE
        (event,) = (event for event in await bench.settled("late") if event.kind is Kind.OUTCOME)
        # KMS may still sign: nobody waits for it, and nobody knows.
        assert (event.outcome, event.reason) == ("unknown", "KmsDeadlineExceeded")
        await until(lambda: bench.aws.emulator.connections < connections)
    assert time.monotonic() - began < 3  # which is what one request to KMS may take


async def test_cancelled_calls_leave_their_connections_to_those_that_follow(bench: FaultBench) -> None:
    call = await calling(bench, "cancelled")
    await call.sign(bench.key.claim())
    bench.trail.mark()
    known, claims = bench.signatures(), [bench.key.claim() for _ in range(200)]
    with bench.fault(FaultRule(fault=Latency(seconds=1), operation=SIGN, times=100)):
        tasks = [asyncio.create_task(call.sign(claim)) for claim in claims[:100]]
        await until(lambda: not bench.aws.emulator.faults.rules())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert any(task.cancelled() for task in tasks)
    await until(lambda: len(bench.signatures() - known) == 100)
    connections = bench.aws.emulator.connections
    await asyncio.gather(*[call.sign(claim) for claim in claims[100:]])
    assert bench.aws.emulator.connections <= max(connections, 100)
    assert len(bench.signatures() - known) == 200
    assert unaccounted(bench.signatures() - known, await bench.settled("cancelled")) <= 0


@of(SIGNING)
async def test_a_signature_is_refused_retried_and_recorded_as_the_table_says(bench: FaultBench, case: Case) -> None:
    call = await calling_for(bench, case)
    if case.at == SIGN:
        await call.sign(bench.key.claim())  # until then KMS is asked for the public key first
    bench.trail.mark()
    known = bench.signatures()
    with bench.fault(case.rule):
        assert await answer_of(RPCS[case.rpc](call)) == case.expected
        # Nobody records the caller who went away before KMS was asked to sign.
        if case.at == SIGN or case.expected != TOO_LATE:
            check_recorded(case, await bench.settled(case.name))
    made = case.row.made if case.at == SIGN else case.expected == OK
    await until(lambda: len(bench.signatures() - known) == made)
    assert unaccounted(bench.signatures() - known, bench.trail.events(case.name)) <= 0


@of(PROBING)
async def test_a_probe_reports_what_the_table_says(bench: FaultBench, case: Case) -> None:
    call = await calling_for(bench, case)
    with bench.fault(case.rule):
        assert await answer_of(probe_key(call)) == case.probed


@of(LOCAL)
async def test_what_does_not_need_kms_does_not_notice(bench: FaultBench, case: Case) -> None:
    call = await calling_for(bench, case)
    with bench.fault(case.rule):
        assert await answer_of(RPCS[case.rpc](call)) == OK


async def test_all_signatures_of_all_cases_are_accounted_for(bench: FaultBench) -> None:
    bench.trail.rewind()
    assert bench.trail.is_intact()
    assert len(bench.signatures()) > len(CASES) / 4
    assert unaccounted(bench.signatures(), bench.trail.events()) <= 0
