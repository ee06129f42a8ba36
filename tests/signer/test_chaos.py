"""The signer under thousands of calls that end too early, and itself ended at any moment: what was signed is recorded.

Everything is real but AWS and the disk: a signer process, the emulated KMS below it, a trail in a file. The invariant
of the trail is held against KMS's own log and against the signatures that callers have in their hands. What is called,
and when a signer ends, is made up from SEED; what happens then is up to the machine.
"""

import asyncio
import itertools
import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from byok_api.errors import Reason
from byok_client.cli.app import run
from byok_sandbox.kms.injection import (
    ErrorAnswer,
    Fault,
    FaultRule,
    Garbage,
    Hang,
    Latency,
    OtherSignature,
    Reset,
    Truncate,
    WrongKeyId,
)
from tests.support.chaos import Jobs, Order, Signer, Stage, checked_accounts, orders
from tests.support.emulator import running_emulator
from tests.support.signer import until

SEED = 4
CALLS = 3000
STOPS, KILLS = 3, 8
GROWTH = 100_000
"""Bytes by which a trail grows until the signer is ended, at most: some 80 signatures."""

FAULTS: dict[int, Fault] = {
    2: Latency(seconds=0.005),
    3: Latency(seconds=0.02),
    11: Latency(seconds=0.1),
    23: Reset(after=True),
    29: Reset(),
    31: ErrorAnswer(code="KMSInternalException"),
    37: Truncate(),
    41: Garbage(),
    43: WrongKeyId(),
    47: OtherSignature(),
    53: Hang(after=True),
    101: ErrorAnswer(code="ThrottlingException"),
}
"""By each so-manieth call of Sign that they befall."""
UNANSWERED: dict[int, Fault] = {5: Hang(after=True), 17: Reset(after=True), 31: Truncate()}
"""KMS has signed, and nobody learns of it: whatever an intent or an unknown attempt tells of has happened."""
Byokctl = Callable[..., dict[str, Any]]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    events = tmp_path / "kms-events.jsonl"
    with running_emulator(events_file=events) as aws:
        yield Stage(tmp_path, aws, events, SEED)


@pytest.fixture
def byokctl(capsys: pytest.CaptureFixture[str]) -> Byokctl:
    """Run a command that must succeed, and return the document that it prints."""

    def run_in_process(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        status = run([*arguments, "-o", "json"])
        printed = capsys.readouterr()
        assert status == 0, printed
        document: dict[str, Any] = json.loads(printed.out)
        return document

    return run_in_process


def order_faults(stage: Stage, faults: dict[int, Fault]) -> None:
    for every, fault in faults.items():
        stage.aws.emulator.faults.add(FaultRule(fault=fault, operation="Sign", every=every))


def checked_trail(stage: Stage, jobs: Jobs, byokctl: Byokctl) -> dict[str, Any]:
    """Hold a trail against all that is known otherwise, and return what `byokctl audit verify` finds in it."""
    accounts = checked_accounts(stage, jobs.given)
    found = byokctl("audit", "verify", str(stage.audit))
    assert (found["intact"], found["tornLine"]) == (True, None), found
    assert (found["unknownAttempts"], found["intentsWithoutOutcomeCount"]) == (accounts.unknown, accounts.open)
    reconciled = byokctl("audit", "reconcile", str(stage.audit), "--cloudtrail", str(stage.events))
    assert reconciled["agrees"], reconciled
    listed = [reconciled[name]["count"] for name in ("attemptsUnknown", "intentsWithoutOutcome")]
    assert listed == [accounts.unknown, accounts.open]
    return found


async def interrupted(jobs: Jobs, signer: Signer, number: signal.Signals, *, after: int) -> int:
    """Send a signal to a signer under load once its trail has grown by so many bytes; return its exit status."""
    await until(signer.serves)
    written = jobs.stage.written
    calling = asyncio.create_task(jobs.call_all())
    await until(lambda: jobs.stage.written > written + after)
    signer.send(number)
    status = await signer.ended()
    await calling
    return status


@pytest.mark.timeout(300)
async def test_3000_calls_with_short_deadlines_leave_no_signature_without_record(
    stage: Stage, byokctl: Byokctl
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - no secret
    calls = itertools.islice(orders(chance, lambda: chance.uniform(0.001, 0.2)), CALLS)
    jobs = Jobs(stage, calls)
    order_faults(stage, FAULTS)
    with stage.signer() as signer:
        await until(signer.serves)
        await jobs.call_all()
        signer.send(signal.SIGTERM)
        assert await signer.ended() == 0
    assert next(calls, None) is None
    assert checked_trail(stage, jobs, byokctl)["intentsWithoutOutcomeCount"] == 0
    # What is checked would hold of a signer that refuses everything, were it not for this.
    assert 0 < len(jobs.given) < len(stage.signed())
    assert "unforeseen" not in signer.log


async def test_a_signer_told_to_stop_under_load_answers_all_it_began_and_sends_the_others_elsewhere(
    stage: Stage, byokctl: Byokctl
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - no secret
    jobs = Jobs(stage, orders(chance, lambda: 10))
    order_faults(stage, {2: Latency(seconds=0.05), 9: Latency(seconds=0.5)})
    for _ in range(STOPS):
        with stage.signer() as signer:
            assert await interrupted(jobs, signer, signal.SIGTERM, after=chance.randrange(GROWTH)) == 0
        assert stage.written == stage.synced
        assert "unforeseen" not in signer.log
    assert {told.reason for told in jobs.told} == {Reason.ShuttingDown}
    assert all(told.retry_after for told in jobs.told)
    assert set(jobs.broken) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    found = checked_trail(stage, jobs, byokctl)
    assert (found["unknownAttempts"], found["intentsWithoutOutcomeCount"]) == (0, 0)
    assert len(found["chains"]) == STOPS


async def test_a_killed_signer_has_given_out_no_signature_that_a_loss_of_power_takes_from_its_trail(
    stage: Stage, byokctl: Byokctl
) -> None:
    chance, torn = random.Random(SEED), 0  # noqa: S311 - no secret
    jobs = Jobs(stage, orders(chance, lambda: chance.uniform(0.1, 1)))
    order_faults(stage, UNANSWERED)
    for _ in range(KILLS):
        with stage.signer() as signer:
            assert await interrupted(jobs, signer, signal.SIGKILL, after=chance.randrange(GROWTH)) == -signal.SIGKILL
        torn += stage.lose_power(chance)
    with stage.signer() as signer:
        assert await interrupted(jobs, signer, signal.SIGTERM, after=chance.randrange(GROWTH)) == 0
    found = checked_trail(stage, jobs, byokctl)
    assert (len(found["chains"]), found["sealedLines"]) == (KILLS + 1, torn)
    assert jobs.given
    assert found["intentsWithoutOutcomeCount"] > 0


@pytest.mark.parametrize("lost", [1, 4])
async def test_a_signer_killed_while_it_asks_again_has_told_of_every_answer_that_it_lost_before(
    stage: Stage, byokctl: Byokctl, lost: int
) -> None:
    faults = stage.aws.emulator.faults
    faults.add(FaultRule(fault=Reset(after=True), operation="Sign", times=lost))
    faults.add(FaultRule(fault=Hang(after=True), operation="Sign", every=lost + 1))
    jobs = Jobs(stage, iter([Order("SignClaim", claims=(1,), deadline=10)]))
    with stage.signer() as signer:
        await until(signer.serves)
        calling = asyncio.create_task(jobs.call_all())
        await until(lambda: stage.events.exists() and len(stage.signed()) == lost + 1)
        signer.send(signal.SIGKILL)
        assert await signer.ended() == -signal.SIGKILL
        await calling
    stage.lose_power(random.Random(SEED))  # noqa: S311 - no secret
    found = checked_trail(stage, jobs, byokctl)
    assert (found["unknownAttempts"], found["intentsWithoutOutcomeCount"]) == (lost, 1)
