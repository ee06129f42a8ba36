"""Busy and full signers: what waiting helps is asked again, the same, later and later, until the deadline."""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import AsyncSignerClient, ClientSettings, SignerClient, SignerError, Verdict
from tests.support.fake_signer import FakeSigner

GENERATED = {"ai_generated": True}
PATIENCE = 60
BUSY = [Reason.CallerLimited, Reason.KeyRateLimited, Reason.KmsThrottled, Reason.QuotaExceeded, Reason.ShuttingDown]


@pytest.fixture
def patient(settings: ClientSettings) -> ClientSettings:
    return replace(settings, timeout=PATIENCE)


def restart(signer: FakeSigner) -> None:
    """Let the limits take effect."""
    signer.stop()
    signer.start(None)


@pytest.mark.parametrize("reason", BUSY)
def test_a_busy_signer_is_asked_again_after_its_delay_and_then_later_each_time(
    reason: Reason, signer: FakeSigner, patient: ClientSettings, photo: Path
) -> None:
    signer.failures.extend([Refusal(reason, "busy", retry_after=0.1)] * 3)
    with SignerClient(patient) as client:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    waited = [later - earlier for earlier, later in itertools.pairwise(signer.times)]
    assert all(seconds >= least for seconds, least in zip(waited, (0.1, 0.2, 0.4), strict=True))


@pytest.mark.parametrize("reason", BUSY)
def test_a_signer_that_stays_busy_is_given_up_at_the_deadline(
    reason: Reason, signer: FakeSigner, settings: ClientSettings, photo: Path
) -> None:
    before = photo.read_bytes()
    signer.failures.extend([Refusal(reason, "busy", retry_after=0.05)] * 1000)
    with SignerClient(replace(settings, timeout=3)) as client, pytest.raises(SignerError) as caught:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert caught.value.reason is reason
    assert 2 <= len(signer.times) <= 8  # 0.05 s, 0.1 s, 0.2 s, ...
    assert photo.read_bytes() == before


async def test_every_attempt_sends_the_same_claim(signer: FakeSigner, patient: ClientSettings, photo: Path) -> None:
    # By its bytes the signer knows a claim again that it has signed, and asks KMS for no second signature.
    signer.held = held = threading.Event()
    async with AsyncSignerClient(patient) as client:
        signing = asyncio.create_task(client.sign(photo, recipe="photo", metadata=GENERATED))
        assert await asyncio.to_thread(signer.asked.wait, PATIENCE)
        signer.held = None
        await asyncio.to_thread(restart, signer)
        held.set()
        await signing
    assert len(signer.claims) >= 2
    assert len({(claim.claim, claim.expected_recipe_hash) for claim in signer.claims}) == 1


def test_a_server_with_no_room_for_another_call_is_asked_again(
    signer: FakeSigner, patient: ClientSettings, photo: Path
) -> None:
    signer.calls_at_once = 1
    restart(signer)
    outputs = [photo.with_name(f"{number}.jpg") for number in range(12)]

    def sign(output: Path) -> None:
        client.sign(photo, recipe="photo", metadata=GENERATED, output=output)

    with SignerClient(patient) as client, ThreadPoolExecutor(len(outputs)) as workers:
        assert len(list(workers.map(sign, outputs))) == len(outputs)
        assert {client.verify(output).state for output in outputs} == {Verdict.VALID}


def test_a_message_beyond_the_servers_limit_is_not_sent_twice(
    signer: FakeSigner, patient: ClientSettings, photo: Path
) -> None:
    signer.message_limit = 1000
    restart(signer)
    with SignerClient(patient) as client, pytest.raises(SignerError, match="larger than the signer takes") as caught:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert caught.value.reason is Reason.ClaimRefused


def test_a_server_that_stays_full_is_said_so_at_the_deadline(
    signer: FakeSigner, patient: ClientSettings, photo: Path
) -> None:
    signer.calls_at_once = 1
    restart(signer)
    signer.held = threading.Event()
    with SignerClient(patient) as holding, ThreadPoolExecutor(1) as worker:
        output = photo.with_name("out.jpg")
        first = worker.submit(holding.sign, photo, recipe="photo", metadata=GENERATED, output=output)
        assert signer.asked.wait(PATIENCE)
        with SignerClient(replace(patient, timeout=10)) as client, pytest.raises(SignerError) as caught:
            client.recipe("photo")
        signer.held.set()
        first.result()
    assert caught.value.reason is Reason.SignerUnreachable
    assert "has too much to do: Concurrent RPC limit exceeded" in caught.value.message


def test_an_attempt_that_had_no_time_left_does_not_hide_why_there_was_one(
    signer: FakeSigner, settings: ClientSettings, photo: Path
) -> None:
    # The second attempt is held until the deadline.
    signer.failures.append(Refusal(Reason.QuotaExceeded, "busy", retry_after=0.01))
    with SignerClient(replace(settings, timeout=3)) as client:
        client.recipe("photo")
        signer.held, signer.held_after = threading.Event(), 1
        with pytest.raises(SignerError) as caught:
            client.sign(photo, recipe="photo", metadata=GENERATED)
    assert (caught.value.reason, len(signer.claims)) == (Reason.QuotaExceeded, 2)
