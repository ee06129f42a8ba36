"""Signers that are ended at any moment, jobs that call them all the while, and the accounts of both to be compared."""

import asyncio
import itertools
import json
import os
import random
import signal
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import grpc.aio

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, AuditId, ChainStart, Kind, Outcome, RecordError, read_record
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox import ca
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_signer.rpc_status import STATUS_DETAILS_KEY
from tests.support.claims import Parts
from tests.support.emulator import Aws
from tests.support.faults import KmsKey, unaccounted
from tests.support.manifests import key_document, recipe_document, yaml_of
from tests.support.refusals import Told, status_in, told_by
from tests.support.signer import until
from tests.support.signer_process import prepare, recipe_hash
from tests.support.slow_disk import FORKS, Start, run

CONNECTIONS = 4
WORKERS = 12
JOBS = [ServiceAccount("media", f"job-{number}") for number in range(4)]
_RPCS, _SHARES = ("SignClaim", "SignDigest", "SignClaims"), (12, 5, 3)
_STREAMED = 6
"""Claims of a stream, at most."""
_AGAIN = 0.15
"""How many claims are asked for a second time."""

_UNWRITTEN = "Internal error from Core"
"""How grpc.aio says, in place of what the signer has said, that a stream ended before a message was written to it."""


@dataclass(frozen=True)
class Order:
    """A call to be made."""

    rpc: str
    claims: tuple[int, ...]
    deadline: float

    @property
    def job(self) -> int:
        """Whose call it is: a claim that is asked for again is so by the same."""
        return self.claims[0] % len(JOBS)


def orders(chance: random.Random, deadline: Callable[[], float]) -> Iterator[Order]:
    """Make up calls without end."""
    numbers, recent = itertools.count(), deque[int](maxlen=50)
    while True:
        name = chance.choices(_RPCS, _SHARES)[0]
        count = chance.randint(1, _STREAMED) if name == "SignClaims" else 1
        claims = [chance.choice(recent) if recent and chance.random() < _AGAIN else next(numbers) for _ in range(count)]
        recent.extend(claims)
        yield Order(name, tuple(claims), deadline())


@dataclass(frozen=True)
class Given:
    """A signature that a job has received."""

    job: ServiceAccount
    claim: bytes
    answer: pb.SignClaimResponse


class Jobs:
    """Jobs that call a signer until there is no more to call for, or the signer is about to stop or gone."""

    def __init__(self, stage: "Stage", calls: Iterator[Order]) -> None:
        self.stage = stage
        self._calls = calls
        self._hash = recipe_hash()
        self._metadata = [(("authorization", f"Bearer {stage.token(job)}"),) for job in JOBS]
        self.given: list[Given] = []
        self.told: list[Told] = []
        """What was refused by name."""
        self.broken: Counter[grpc.StatusCode] = Counter()
        """How calls ended that nobody answered."""

    async def call_all(self) -> None:
        """Make calls, some at a time."""
        async with AsyncExitStack() as stack:
            stubs: list[rpc.SignerAsyncStub] = []
            for _ in range(CONNECTIONS):
                channel = grpc.aio.insecure_channel(
                    self.stage.flags["listen"], options=(("grpc.use_local_subchannel_pool", 1),)
                )
                stubs.append(rpc.SignerStub(await stack.enter_async_context(channel)))
            await asyncio.gather(*(self._work(stubs[n % CONNECTIONS]) for n in range(WORKERS)))

    async def _work(self, stub: "rpc.SignerAsyncStub") -> None:
        for order in self._calls:
            try:
                await self._call(stub, order)
            except grpc.aio.AioRpcError as error:
                if STATUS_DETAILS_KEY in dict(error.trailing_metadata() or ()):
                    self.told.append(told_by(status_in(error)))
                    gone = self.told[-1].reason is Reason.ShuttingDown
                else:
                    unwritten = error.details() == _UNWRITTEN
                    code = grpc.StatusCode.CANCELLED if unwritten else error.code()
                    self.broken[code] += 1
                    gone = code is grpc.StatusCode.UNAVAILABLE
                if gone:
                    return

    async def _call(self, stub: "rpc.SignerAsyncStub", order: Order) -> None:
        claims, job, metadata = [self.stage.claim(n) for n in order.claims], JOBS[order.job], self._metadata[order.job]
        if order.rpc == "SignClaim":
            request = pb.SignClaimRequest(recipe="photo", expected_recipe_hash=self._hash, claim=claims[0])
            answer = await stub.SignClaim(request, metadata=metadata, timeout=order.deadline)
            self.given.append(Given(job, claims[0], answer))
        elif order.rpc == "SignDigest":
            asked = pb.SignDigestRequest(
                recipe="photo", expected_recipe_hash=self._hash, digest=sha256(claims[0]).digest(), evidence=claims[0]
            )
            answer = await stub.SignDigest(asked, metadata=metadata, timeout=order.deadline)
            self.given.append(Given(job, claims[0], answer))
        else:
            items = [pb.SignClaimsItem(id=str(number), claim=claim) for number, claim in enumerate(claims)]
            message = pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=self._hash, items=items)
            stream = stub.SignClaims(metadata=metadata, timeout=order.deadline)
            with suppress(asyncio.InvalidStateError, grpc.aio.InternalError):  # it has ended already; reading tells how
                await stream.write(message)
                await stream.done_writing()
            async for response in stream:
                for result in response.results:
                    if result.WhichOneof("outcome") == "signed":
                        self.given.append(Given(job, claims[int(result.id)], result.signed))
                    else:
                        self.told.append(told_by(result.error))


class Signer:
    """A signer that runs, or has ended."""

    def __init__(self, start: Start) -> None:
        self._log = start.log
        self._process = FORKS.Process(target=run, args=(start,))
        self._process.start()

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def serves(self) -> bool:
        """Tell whether it serves; AssertionError with its log if it has ended."""
        assert self._process.exitcode is None, self.log
        return '"message": "serving"' in self.log

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    async def ended(self) -> int:
        """Wait for its end and return its exit status; negative is the signal that killed it."""
        await until(lambda: self._process.exitcode is not None)
        assert self._process.exitcode is not None
        return self._process.exitcode

    def close(self) -> None:
        if self._process.exitcode is None:
            self._process.kill()
        self._process.join()
        self._process.close()


class Stage:
    """The folder, the key in the emulated KMS and the issuer that signers have in common, one after the other."""

    def __init__(self, folder: Path, aws: Aws, events: Path, seed: int) -> None:
        self.aws = aws
        self.events = events
        """KMS's log."""
        credentials = aws.role("byok-signer")
        self.key = KmsKey.create(aws)
        self.audit = folder / "audit.jsonl"
        self._folder = folder
        self._seed = seed
        self._starts = 0
        self._issuer = Issuer()
        self._parts = Parts.of(self.key.claim())
        self._credentials = {
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        }
        self.flags = prepare(folder, self._issuer) | {"aws-endpoint": aws.emulator.address}
        key = key_document(
            "media/brand",
            aws={"keyArn": self.key.arn},
            certificate={"pem": ca.pem_of(self.key.chain.certificates)},
            signingAlgorithm="ES256",
        )
        (folder / "manifests" / "all.yaml").write_text(yaml_of(key, recipe_document()))

    def token(self, job: ServiceAccount) -> str:
        return self._issuer.mint(job, now=datetime.now(UTC))

    def claim(self, number: int) -> bytes:
        """Make the Sig_structure of one of many claims."""
        self._parts.claim["instanceID"] = f"xmp:iid:{uuid.UUID(int=number)}"
        return self._parts.assembled()

    @contextmanager
    def signer(self) -> Iterator[Signer]:
        """Start a signer; on leaving it is killed if it still runs."""
        self._starts += 1
        log = self._folder / f"log-{self._starts}"
        signer = Signer(Start(self.flags, self._credentials, log, self._synced, self._seed + self._starts))
        try:
            yield signer
        finally:
            signer.close()

    @property
    def written(self) -> int:
        """Bytes of the audit file."""
        return self.audit.stat().st_size if self.audit.exists() else 0

    @property
    def synced(self) -> int:
        """Bytes of it that would outlive a loss of power."""
        return int(self._synced.read_bytes() or 0) if self._synced.exists() else 0

    @property
    def _synced(self) -> Path:
        return self._folder / "synced"

    def lose_power(self, chance: random.Random) -> int:
        """Have the disk forget some or all of what was not synced; return how many lines that tears: 0 or 1."""
        os.truncate(self.audit, chance.randint(self.synced, self.written))
        last = self.audit.read_bytes().splitlines()[-1]
        try:
            read_record(last)
        except RecordError:
            return 1
        return 0

    def signed(self) -> set[str]:
        """Request ids of all signatures that KMS made, by its own log."""
        whole, _, _unfinished = self.events.read_text().rpartition("\n")  # KMS may be writing a line
        events = map(json.loads, whole.splitlines())
        made = [event["requestID"] for event in events if event["eventName"] == "Sign" and "errorCode" not in event]
        assert len(made) == len(set(made))
        return set(made)


@dataclass(frozen=True)
class Accounts:
    """What a trail's records come to."""

    attempts: int
    unknown: int
    open: int
    """Intents without outcome."""


def checked_accounts(stage: Stage, given: Sequence[Given]) -> Accounts:
    """Hold the trail against KMS's log and against what the jobs have: the invariant of the audit trail."""
    events, signed = dict(_events(stage.audit.read_bytes().splitlines())), stage.signed()
    assert unaccounted(signed, list(events.values())) <= 0
    attempts = [attempt for event in events.values() for attempt in event.attempts]
    assert not signed & {attempt.kms_request_id for attempt in attempts if attempt.outcome is Outcome.FAILED}
    for each in given:
        _check_released(each, events, signed, stage.key)
    intents = {name for name, event in events.items() if event.kind is Kind.INTENT}
    settled = {AuditId(name.writer, event.intent) for name, event in events.items() if event.intent is not None}
    unknown = sum(attempt.outcome is Outcome.UNKNOWN for attempt in attempts)
    return Accounts(len(attempts), unknown, len(intents - settled))


def _events(lines: Iterable[bytes]) -> Iterator[tuple[AuditId, AuditEvent]]:
    for line in lines:
        with suppress(RecordError):  # a torn one, which `byokctl audit verify` accounts for
            record = read_record(line)
            if not isinstance(record.event, ChainStart):
                yield record.head.id, record.event


def _check_released(given: Given, events: dict[AuditId, AuditEvent], signed: set[str], key: KmsKey) -> None:
    """Check a signature that somebody has: it is one, its release is recorded, and KMS has made it."""
    answer, audit_id = given.answer, AuditId.parse(given.answer.audit_id)
    signatures.verify(key.chain.public_key, SigningAlgorithm.ES256, answer.signature, message=given.claim)
    assert audit_id in events, f"a signature without record: {audit_id}"
    release = events[audit_id]
    assert (release.kind, release.outcome) == (Kind.OUTCOME, Outcome.SIGNED)
    assert (release.caller, release.claim_sha256) == (given.job.username, answer.claim_sha256)
    made = release if release.repeats is None else events[AuditId(audit_id.writer, release.repeats)]
    assert (made.claim_sha256, made.intent is None) == (release.claim_sha256, False)
    assert Attempt(answer.kms_request_id, Outcome.SIGNED) in made.attempts
    assert answer.kms_request_id in signed
