"""What becomes of requests: retries, stale connections, deadlines, cancellation, and what is told of each of them."""

import asyncio
import contextlib
import dataclasses
import threading

import pytest
from botocore.credentials import Credentials

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.errors import KmsError
from byok_signer.kms.http1 import ANSWER_LIMIT
from byok_signer.kms.port import KeyHandle
from tests.support.scripted_aws import GOOD, KEY, PRIVATE_KEY, SESSION, STATIC, kms_on, outcomes
from tests.support.scripted_kms import HANG, Reply, error_reply, http, raw_reply, read_request, scripted_server
from tests.testenv.ports import refusing_port

ES256 = SigningAlgorithm.ES256


async def test_a_refused_connection_is_an_outage_of_which_no_request_is_recorded() -> None:
    with refusing_port() as port:
        config = KmsConfig(installation="test", endpoint=f"http://127.0.0.1:{port}", retries=1)
        kms = AwsKms(config, chain=lambda: STATIC)
        with pytest.raises(KmsError, match=r"no connection to 127\.0\.0\.1") as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=5)
        await kms.close()
    assert (caught.value.reason, caught.value.attempts) == (Reason.KmsUnavailable, ())


async def test_an_outage_is_tried_again_and_every_request_is_recorded() -> None:
    async with kms_on(error_reply("KMSInternalException"), raw_reply(http(503, b"")), GOOD, retries=2) as (kms, _):
        answer = await kms.sign(KEY, ES256, message=b"claim", timeout=5)
    signatures.verify(PRIVATE_KEY.public_key(), ES256, answer.signature, message=b"claim")
    assert outcomes(answer.attempts) == ["req-1:unknown", "req-1:unknown", "req-signed:signed"]


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException", "DisabledException"])
async def test_an_answer_is_final_unless_it_is_an_outage(code: str) -> None:
    async with kms_on(error_reply(code), GOOD, retries=2) as (kms, server):
        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=5)
    assert len(server.received) == 1
    assert outcomes(caught.value.attempts) == ["req-1:failed"]
    assert caught.value.request_id == "req-1"


async def test_a_connection_that_went_stale_is_replaced_once() -> None:
    async with kms_on(GOOD, raw_reply(None), GOOD) as (kms, server):
        await kms.sign(KEY, ES256, message=b"first", timeout=5)
        answer = await kms.sign(KEY, ES256, message=b"second", timeout=5)
    assert outcomes(answer.attempts) == ["None:unknown", "req-signed:signed"]
    assert server.connections == 2


async def test_the_request_that_replaces_a_stale_ones_goes_over_a_new_connection() -> None:
    both = asyncio.Barrier(2)

    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up at the next: what a kept connection looks like when it went stale."""
        numbers.append(len(numbers))
        with contextlib.suppress(asyncio.IncompleteReadError):
            request = await read_request(reader)
            if len(numbers) <= 2:
                await both.wait()
            writer.write(GOOD(request) or b"")
            await read_request(reader)
        writer.close()

    numbers: list[int] = []
    server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
    config = KmsConfig(installation="test", endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    kms = AwsKms(config, chain=lambda: STATIC)
    await asyncio.gather(*(kms.sign(KEY, ES256, message=b"x", timeout=5) for _ in range(2)))
    answer = await kms.sign(KEY, ES256, message=b"claim", timeout=5)
    await kms.close()
    server.close()
    assert outcomes(answer.attempts) == ["None:unknown", "req-signed:signed"]
    assert len(numbers) == 3


async def test_cancelled_calls_leave_the_pool_usable() -> None:
    async with kms_on(GOOD, *[raw_reply(HANG)] * 8, GOOD) as (kms, server):
        await kms.sign(KEY, ES256, message=b"first", timeout=5)
        calls = [asyncio.create_task(kms.sign(KEY, ES256, message=b"x", timeout=5)) for _ in range(8)]
        await server.wait_for(9)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        answer = await kms.sign(KEY, ES256, message=b"last", timeout=5)
    signatures.verify(PRIVATE_KEY.public_key(), ES256, answer.signature, message=b"last")


async def test_connections_are_kept() -> None:
    async with kms_on(GOOD) as (kms, server):
        for _ in range(5):
            await kms.sign(KEY, ES256, message=b"claim", timeout=5)
    assert server.connections == 1


async def test_the_callers_deadline_ends_all_retries() -> None:
    async with kms_on(raw_reply(HANG), retries=5, patience=1) as (kms, server):
        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=2.5)
    assert caught.value.reason is Reason.KmsDeadlineExceeded
    assert caught.value.retry_after is None
    assert 1 <= len(server.received) <= len(caught.value.attempts) <= 3
    assert {attempt.outcome for attempt in caught.value.attempts} == {"unknown"}


async def test_a_retry_that_could_not_end_in_time_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_signer.kms.calls._PAUSE", 10.0)
    async with kms_on(raw_reply(http(503, b"")), retries=5) as (kms, server):
        began = asyncio.get_running_loop().time()
        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=5)
        assert asyncio.get_running_loop().time() - began < 5
    assert (caught.value.reason, len(server.received)) == (Reason.KmsUnavailable, 1)


async def test_one_request_gets_all_the_time_that_the_caller_gives_unless_that_is_limited() -> None:
    for timeout, patience, reason in ((1.0, 9.0, Reason.KmsDeadlineExceeded), (9.0, 1.0, Reason.KmsUnavailable)):
        async with kms_on(raw_reply(HANG), patience=patience) as (kms, server):
            began = asyncio.get_running_loop().time()
            with pytest.raises(KmsError) as caught:
                await kms.sign(KEY, ES256, message=b"claim", timeout=timeout)
            assert 0.99 < asyncio.get_running_loop().time() - began < 5
        assert (caught.value.reason, len(server.received)) == (reason, 1)


async def test_credentials_that_do_not_come_use_up_the_callers_time_only() -> None:
    search = threading.Event()

    def chain() -> Credentials:
        search.wait(10)
        return STATIC

    async with scripted_server(GOOD) as server:
        kms = AwsKms(KmsConfig(installation="test", endpoint=server.url), chain=chain)
        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=0.1)
        search.set()
        await kms.close()
    assert (caught.value.reason, caught.value.attempts) == (Reason.KmsDeadlineExceeded, ())


async def test_without_time_nothing_is_sent() -> None:
    async with kms_on(GOOD) as (kms, server):
        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=0)
    assert (caught.value.reason, server.received) == (Reason.KmsDeadlineExceeded, [])


async def observed(*script: Reply, key: KeyHandle = KEY, dry_run: bool = False) -> list[tuple[str, str]]:
    """What was told of the requests for one call."""
    told: list[tuple[str, str, float]] = []
    async with scripted_server(*script) as server:
        config = KmsConfig(installation="test", endpoint=server.url, retries=0, attempt_timeout=0.5)
        kms = AwsKms(config, chain=lambda: STATIC, observe=lambda *event: told.append(event))
        with contextlib.suppress(KmsError):
            if dry_run:
                await kms.try_sign(key, ES256, timeout=5)
            else:
                await kms.sign(key, ES256, message=b"claim", timeout=5)
        await kms.close()
    assert all(0 < seconds < 5 for _, _, seconds in told)
    return [(operation, outcome) for operation, outcome, _ in told]


OBSERVED = {
    "ok": ((GOOD,), ["ok"]),
    "code": ((error_reply("ThrottlingException"),), ["ThrottlingException"]),
    "code of nobody": ((error_reply("Made-up.Exception"),), ["other"]),
    "no code": ((raw_reply(http(503, b"")),), ["other"]),
    "hung up": ((raw_reply(None), GOOD), ["disconnected", "ok"]),
    "hung up twice": ((raw_reply(None),), ["disconnected", "disconnected"]),
    "silent": ((raw_reply(HANG),), ["no_answer"]),
    "cut": ((raw_reply(http(200, b"{}", length=500)),), ["no_answer"]),
    "too long": ((raw_reply(http(200, b"", length=ANSWER_LIMIT + 1)),), ["too_long"]),
    "expired": ((error_reply("ExpiredTokenException"), GOOD), ["ExpiredTokenException", "ok"]),
}


@pytest.mark.parametrize(("script", "outcomes"), OBSERVED.values(), ids=OBSERVED.keys())
async def test_each_request_is_told_of(script: tuple[Reply, ...], outcomes: list[str]) -> None:
    assert await observed(*script) == [("kms:Sign", outcome) for outcome in outcomes]


async def test_requests_to_sts_and_dry_runs_are_told_of_too() -> None:
    key = dataclasses.replace(KEY, role_arn="arn:aws:iam::111122223333:role/media")
    told = await observed(raw_reply(http(200, SESSION)), error_reply("DryRunOperationException"), key=key, dry_run=True)
    assert told == [("sts:AssumeRole", "ok"), ("kms:Sign", "DryRunOperationException")]


async def test_a_request_that_was_not_sent_or_was_cancelled_is_told_of() -> None:
    told: list[str] = []

    def kms_at(url: str) -> AwsKms:
        config = KmsConfig(installation="test", endpoint=url, retries=0)
        return AwsKms(config, chain=lambda: STATIC, observe=lambda _operation, outcome, _seconds: told.append(outcome))

    async with scripted_server(raw_reply(HANG)) as server:
        kms = kms_at(server.url)
        call = asyncio.create_task(kms.sign(KEY, ES256, message=b"claim", timeout=5))
        await server.wait_for(1)
        call.cancel()
        await asyncio.wait([call])
        await kms.close()
    with refusing_port() as port:
        kms = kms_at(f"http://127.0.0.1:{port}")
        with pytest.raises(KmsError):
            await kms.sign(KEY, ES256, message=b"claim", timeout=5)
        await kms.close()
    assert told == ["cancelled", "not_sent"]
