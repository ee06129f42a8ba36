"""The e2e tier's load says of each call how it ended, since "0 failed" is no better than what counts them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from byok_api.errors import Reason, Refusal
from tests.chart.rendering import CHART
from tests.support.e2e_load import Call
from tests.support.eventually import until
from tests.support.fake_signer import FakeSigner

CHECKOUT = Path(__file__).parents[2]
RATE = 100
WITHIN = 30.0


@dataclass(frozen=True)
class Job:
    """The job as a process, which runs."""

    process: "subprocess.Popen[str]"
    outcomes: Path

    def calls(self) -> list[Call]:
        """Those that have ended, as the host reads them."""
        text = self.outcomes.read_text(encoding="ascii") if self.outcomes.exists() else ""
        return [Call.of(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    async def signed(self, more: int) -> None:
        """Wait for so many signatures beyond those that there are."""
        before = len([call for call in self.calls() if not call.reason])
        await until(lambda: len([call for call in self.calls() if not call.reason]) >= before + more, WITHIN)

    def stop(self) -> dict[str, Any]:
        """Have it make no more calls, and give what it tells."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def end(self) -> int:
        """Have it end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WITHIN)


@pytest.fixture
async def job(signer: FakeSigner, token_file: Path, tmp_path: Path) -> AsyncIterator[Job]:
    signer.recipe.assertions = ()
    settings = {
        "BYOK_SIGNER_ADDRESS": signer.address,
        "BYOK_SIGNER_TOKEN_FILE": str(token_file),
        "BYOK_LOAD_RATE": str(RATE),
        "BYOK_LOAD_CALLERS": "4",
        "BYOK_LOAD_RECIPE": "photo",
        "BYOK_LOAD_PICTURE": str(CHART / "files" / "grey.png"),
        "BYOK_LOAD_OUTCOMES": str(tmp_path / "calls.jsonl"),
        "PYTHONPATH": str(CHECKOUT),
    }
    with running(settings) as process:
        started = Job(process, tmp_path / "calls.jsonl")
        await started.signed(1)
        yield started


@contextmanager
def running(settings: dict[str, str]) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, str(CHECKOUT / "tests/support/load_job.py")]
    with subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_each_call_is_told_in_the_file_and_counted_in_the_summary(job: Job, signer: FakeSigner) -> None:
    await job.signed(50)
    told = job.stop()
    calls = job.calls()
    assert (told["calls"], told["succeeded"], told["failed"], told["retried"]) == (len(calls), len(calls), 0, 0)
    # And the one for the claim that all are made of.
    assert len(signer.claims) == len(calls) + 1
    assert len({request.claim for request in signer.claims}) == len(signer.claims)
    assert told["p50"] <= told["p99"] <= told["slowest"] == max(call.took for call in calls)


async def test_it_stays_to_be_read_until_it_is_told_again(job: Job) -> None:
    job.stop()
    assert job.process.poll() is None
    assert job.end() == 0


async def test_it_calls_no_faster_than_it_is_told(job: Job, signer: FakeSigner) -> None:
    await job.signed(RATE)
    # What was missed is made up for, by a tenth of a second at most; four callers may be at it.
    assert signer.times[RATE] - signer.times[1] >= (RATE - 1 - 0.1 * RATE - 4) / RATE


async def test_a_wrong_signature_is_a_failed_call(job: Job, signer: FakeSigner) -> None:
    signer.signature = bytes(64)
    await until(lambda: any(call.reason for call in job.calls()), WITHIN)
    assert {call.reason for call in job.calls() if call.reason} == {"WrongSignature"}
    assert job.stop()["failed"] == len([call for call in job.calls() if call.reason])


async def test_a_call_that_is_refused_is_a_failed_call_with_reason_and_code(job: Job, signer: FakeSigner) -> None:
    signer.failures.append(Refusal(Reason.KeyAccessDenied, "no grant"))
    await until(lambda: any(call.reason for call in job.calls()), WITHIN)
    (failed,) = [call for call in job.calls() if call.reason]
    assert (failed.reason, failed.code, failed.retries) == ("KeyAccessDenied", "UNAVAILABLE", ())
    assert "no grant" in failed.message


async def test_a_call_that_was_tried_again_is_signed_and_tells_why(job: Job, signer: FakeSigner) -> None:
    signer.failures.append(Refusal(Reason.KmsThrottled, "slow down", retry_after=0.05))
    await until(lambda: any(call.retries for call in job.calls()), WITHIN)
    (retried,) = [call for call in job.calls() if call.retries]
    assert (retried.reason, retried.retries) == ("", ("KmsThrottled",))
    told = job.stop()
    assert (told["failed"], told["retried"]) == (0, 1)
