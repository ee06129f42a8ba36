"""Who is told of answers that got lost, and when: before KMS is asked again, and of each once."""

import asyncio
import dataclasses

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.errors import KmsError
from tests.support.scripted_aws import GOOD, KEY, PLACE, kms_on, outcomes
from tests.support.scripted_kms import HANG, Reply, ScriptedServer, error_reply, http, raw_reply

ES256 = SigningAlgorithm.ES256
MULTI = KeyArn(f"{PLACE}:key/mrk-1")
REPLICAS = tuple(KeyArn(f"{PLACE.replace('central', region)}:key/mrk-1") for region in ("west", "north"))
MULTI_KEY = dataclasses.replace(KEY, arn=MULTI, replicas=REPLICAS)

UNANSWERED = "None:unknown"
HUNG_UP, SILENT, BUSY = raw_reply(None), raw_reply(HANG), raw_reply(http(503, b""))
INTERNAL, AWAY = error_reply("KMSInternalException"), error_reply("KeyUnavailableException")
EXPIRED, DENIED = error_reply("ExpiredTokenException"), error_reply("AccessDeniedException")


class Told:
    """Remembers what it was told, and how many requests had come by then; refuses if it is given what with."""

    def __init__(self, server: ScriptedServer, refusal: Exception | None = None) -> None:
        self.of: list[tuple[int, list[str]]] = []
        self._server = server
        self._refusal = refusal

    async def __call__(self, attempts: tuple[Attempt, ...]) -> None:
        self.of.append((len(self._server.received), outcomes(attempts)))
        if self._refusal is not None:
            raise self._refusal


async def sign(kms: AwsKms, told: Told, *, of_many: bool = False) -> tuple[Attempt, ...]:
    key = MULTI_KEY if of_many else KEY
    try:
        return (await kms.sign(key, ES256, message=b"claim", timeout=5, on_lost=told)).attempts
    except KmsError as refusal:
        return refusal.attempts


CASES: dict[str, tuple[tuple[Reply, ...], list[tuple[int, list[str]]], list[str]]] = {
    "nothing lost": ((GOOD,), [], ["req-signed:signed"]),
    "over a fresh connection": ((HUNG_UP, GOOD), [(1, [UNANSWERED])], ["req-signed:signed"]),
    "by a retry": ((BUSY, INTERNAL, GOOD), [(1, ["req-1:unknown"]), (2, ["req-1:unknown"])], ["req-signed:signed"]),
    "to the end": (
        (HUNG_UP,) * 6,
        [(number, [UNANSWERED]) for number in range(1, 6)],
        [UNANSWERED],
    ),
    "answered with a refusal": ((AWAY, EXPIRED, GOOD), [], ["req-1:failed", "req-1:failed", "req-signed:signed"]),
    "lost after a refusal": ((AWAY, BUSY, GOOD), [(2, ["req-1:failed", "req-1:unknown"])], ["req-signed:signed"]),
    "renewed after a loss": ((BUSY, EXPIRED, GOOD), [(1, ["req-1:unknown"])], ["req-1:failed", "req-signed:signed"]),
    "refused after a loss": ((BUSY, DENIED), [(1, ["req-1:unknown"])], ["req-1:failed"]),
    "not asked again": ((raw_reply(http(200, b"garbage")),), [], ["req-1:unknown"]),
}


@pytest.mark.parametrize(("script", "told", "left"), CASES.values(), ids=CASES.keys())
async def test_what_got_lost_is_told_before_kms_is_asked_again_and_the_rest_is_left(
    script: tuple[Reply, ...], told: list[tuple[int, list[str]]], left: list[str]
) -> None:
    async with kms_on(*script, retries=2) as (kms, server):
        listener = Told(server)
        attempts = await sign(kms, listener)
    assert (listener.of, outcomes(attempts)) == (told, left)
    assert len(server.received) == len(script)


async def test_a_digest_is_asked_for_alike() -> None:
    async with kms_on(HUNG_UP, GOOD) as (kms, server):
        told = Told(server)
        await kms.sign_digest(KEY, ES256, digest=bytes(32), timeout=5, on_lost=told)
    assert told.of == [(1, [UNANSWERED])]


async def test_a_replica_is_asked_only_once_the_loss_is_told() -> None:
    async with kms_on(SILENT, BUSY, GOOD, patience=1) as (kms, server):
        told = Told(server)
        attempts = await sign(kms, told, of_many=True)
    assert told.of == [(1, [UNANSWERED]), (2, ["req-1:unknown"])]
    assert outcomes(attempts) == ["req-signed:signed"]


REFUSAL = Refusal(Reason.AuditUnavailable, "the disk is full", retry_after=1.0)


@pytest.mark.parametrize("first", [HUNG_UP, BUSY])
@pytest.mark.parametrize("of_many", [False, True])
async def test_if_the_loss_cannot_be_recorded_kms_is_not_asked_again(first: Reply, *, of_many: bool) -> None:
    async with kms_on(first, GOOD, retries=2) as (kms, server):
        key = MULTI_KEY if of_many else KEY
        with pytest.raises(KmsError, match="the disk is full") as caught:
            await kms.sign(key, ES256, message=b"claim", timeout=5, on_lost=Told(server, REFUSAL))
    assert (caught.value.reason, caught.value.retry_after) == (Reason.AuditUnavailable, 1.0)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["unknown"]
    assert len(server.received) == 1


async def test_a_replicas_loss_that_cannot_be_recorded_ends_the_call_too() -> None:
    async with kms_on(AWAY, HUNG_UP, GOOD, retries=2) as (kms, server):
        with pytest.raises(KmsError) as caught:
            await kms.sign(MULTI_KEY, ES256, message=b"claim", timeout=5, on_lost=Told(server, REFUSAL))
    assert caught.value.reason is Reason.AuditUnavailable
    assert outcomes(caught.value.attempts) == ["req-1:failed", UNANSWERED]
    assert len(server.received) == 2


async def test_what_else_is_raised_over_a_loss_comes_out_as_it_is() -> None:
    async with kms_on(BUSY, GOOD, retries=2) as (kms, server):
        with pytest.raises(ZeroDivisionError):
            await kms.sign(KEY, ES256, message=b"claim", timeout=5, on_lost=Told(server, ZeroDivisionError()))
    assert len(server.received) == 1


async def test_time_that_telling_takes_is_the_callers() -> None:
    async with kms_on(HUNG_UP, GOOD, retries=2, patience=1) as (kms, server):

        async def too_long(_: tuple[Attempt, ...]) -> None:
            await server.wait_for(1)
            await asyncio.sleep(1.1)  # what a slow disk takes, and the call has not

        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=1, on_lost=too_long)
    assert (caught.value.reason, caught.value.attempts) == (Reason.KmsDeadlineExceeded, ())
    assert len(server.received) == 1
