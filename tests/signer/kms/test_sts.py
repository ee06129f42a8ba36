"""Whose quota a call is charged to is asked once, and never costs a signature."""

import asyncio
import dataclasses

import pytest

from byok_api.references import KeyArn
from byok_signer.kms import sts
from tests.support.scripted_aws import KEY, kms_on
from tests.support.scripted_kms import HANG, http, raw_reply

FOREIGN = dataclasses.replace(KEY, arn=KeyArn("arn:aws:kms:eu-central-1:444455556666:key/k-1"))
DENIED = raw_reply(http(403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"))


def told(arn: str) -> bytes:
    result = f"<GetCallerIdentityResult><Arn>{arn}</Arn></GetCallerIdentityResult>"
    return http(200, f"<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>".encode())


SESSION = told("arn:aws:sts::777788889999:assumed-role/byok-signer/pod")


async def test_it_is_asked_once_for_all_calls() -> None:
    async with kms_on(raw_reply(SESSION)) as (kms, server):
        accounts = await asyncio.gather(*(kms.calling_account(FOREIGN, timeout=5) for _ in range(20)))
        accounts.append(await kms.calling_account(FOREIGN, timeout=5))
        assert (await kms.grantee(KEY, timeout=5)).principal == "arn:aws:iam::777788889999:role/byok-signer"
    assert set(accounts) == {"777788889999"}
    assert [request.body for request in server.received] == [b"Action=GetCallerIdentity&Version=2011-06-15"]


@pytest.mark.parametrize(
    "arn", ["arn:aws-cn:iam::777788889999:user/x", "arn:aws:iam::777788889999:root", "arn:aws:sts::777788889999:a/b"]
)
async def test_every_kind_of_identity_has_an_account(arn: str) -> None:
    async with kms_on(raw_reply(told(arn))) as (kms, _):
        assert await kms.calling_account(FOREIGN, timeout=5) == "777788889999"


async def test_where_sts_does_not_tell_it_is_the_keys_account_and_no_call_waits_again() -> None:
    async with kms_on(DENIED, raw_reply(HANG)) as (kms, server):
        for _ in range(3):
            assert await kms.calling_account(FOREIGN, timeout=5) == "444455556666"
    assert len(server.received) == 1


async def test_sts_is_asked_again_later_while_no_call_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sts, "_ASK_AGAIN", 0.0)
    async with kms_on(DENIED, raw_reply(SESSION)) as (kms, server):
        assert await kms.calling_account(FOREIGN, timeout=5) == "444455556666"
        assert await kms.calling_account(FOREIGN, timeout=5) == "444455556666"
        await server.wait_for(2)
        async with asyncio.timeout(10):
            # No event tells of work in the background.
            while await kms.calling_account(FOREIGN, timeout=5) != "777788889999":  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.01)


async def test_an_sts_that_is_silent_costs_a_call_its_own_time_at_most() -> None:
    async with kms_on(raw_reply(HANG)) as (kms, _):
        assert await kms.calling_account(FOREIGN, timeout=0.05) == "444455556666"


@pytest.mark.parametrize("answer", [b"<x/>", b"no XML", told("no ARN")])
async def test_what_sts_would_not_say_is_not_believed(answer: bytes) -> None:
    async with kms_on(raw_reply(answer if answer.startswith(b"HTTP") else http(200, answer))) as (kms, _):
        assert await kms.calling_account(FOREIGN, timeout=5) == "444455556666"
