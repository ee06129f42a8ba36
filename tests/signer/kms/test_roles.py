"""Roles are assumed once for each key, with its external id, and again ahead of their end."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest

from byok_api.errors import Reason
from byok_api.references import KeyArn, ObjectName
from byok_signer.kms.errors import Action, KmsError, verdict_for
from byok_signer.kms.port import KeyHandle
from byok_signer.kms.roles import AssumedRoles, RoleIdentity

ROLE = "arn:aws:iam::444455556666:role/media"
ARN = KeyArn("arn:aws:kms:eu-central-1:444455556666:key/k-1")
KEY = KeyHandle(name=ObjectName("team", "photo"), arn=ARN, external_id="byok:prod:team/photo", role_arn=ROLE)


class FakeSts:
    """Answers as STS does: sessions of 900 s from `now`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.bodies: list[bytes] = []
        self.code: str | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, action: Action, _: KeyArn, body: bytes) -> bytes:
        self.bodies.append(body)
        await self.go.wait()
        if self.code is not None:
            raise action.refused(verdict_for(self.code), self.code)
        return session_xml(len(self.bodies), datetime.fromtimestamp(self.now + 900, UTC).isoformat())


def session_xml(number: int, ends: str) -> bytes:
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>"
        f"<SessionToken>token</SessionToken><Expiration>{ends}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


class Bench:
    def __init__(self) -> None:
        self.sts = FakeSts()
        self.roles = AssumedRoles(self.sts, "prod", lambda: self.sts.now)

    async def get(self, key: KeyHandle = KEY) -> str:
        return (await self.identity(key).get()).access_key

    def identity(self, key: KeyHandle = KEY) -> RoleIdentity:
        return RoleIdentity(self.roles, key, ROLE, ARN)


async def test_the_request_carries_external_id_and_session_tags() -> None:
    bench = Bench()
    await bench.get()
    assert {name: values[0] for name, values in parse_qs(bench.sts.bodies[0].decode()).items()} == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "byok-signer@team.photo",
        "ExternalId": "byok:prod:team/photo",
        "DurationSeconds": "900",
        "Tags.member.1.Key": "byok-cluster",
        "Tags.member.1.Value": "prod",
        "Tags.member.2.Key": "byok-namespace",
        "Tags.member.2.Value": "team",
        "Tags.member.3.Key": "byok-key",
        "Tags.member.3.Value": "photo",
    }


async def test_all_who_ask_at_once_share_one_session() -> None:
    bench = Bench()
    assert set(await asyncio.gather(*(bench.get() for _ in range(20)))) == {"ASIA1"}
    assert len(bench.sts.bodies) == 1


async def test_no_two_keys_share_a_session() -> None:
    bench = Bench()
    other = dataclasses.replace(KEY, name=ObjectName("team", "audio"), external_id="byok:prod:team/audio")
    assert [await bench.get(), await bench.get(other), await bench.get()] == ["ASIA1", "ASIA2", "ASIA1"]


async def test_a_session_is_renewed_ahead_of_its_end_while_the_old_one_serves() -> None:
    bench = Bench()
    await bench.get()
    bench.sts.now += 900 - 239
    bench.sts.go.clear()
    assert [await bench.get(), await bench.get()] == ["ASIA1", "ASIA1"]
    await asyncio.sleep(0)
    bench.sts.go.set()
    async with asyncio.timeout(5):
        while await bench.get() == "ASIA1":  # noqa: ASYNC110 - no event tells of work in the background
            await asyncio.sleep(0)
    assert len(bench.sts.bodies) == 2


async def test_a_session_about_to_end_is_not_used() -> None:
    bench = Bench()
    await bench.get()
    bench.sts.now += 900 - 29
    assert await bench.get() == "ASIA2"


async def test_an_outage_of_sts_leaves_the_session_and_a_denial_ends_it() -> None:
    bench = Bench()
    await bench.get()
    bench.sts.now += 700
    bench.sts.code = "InternalFailure"
    for _ in range(5):
        assert await bench.get() == "ASIA1"
        await asyncio.sleep(0)
    assert len(bench.sts.bodies) == 2
    bench.sts.now += 11
    bench.sts.code = "AccessDenied"
    await bench.get()
    await asyncio.sleep(0)
    with pytest.raises(KmsError, match="sts:AssumeRole on") as caught:
        await bench.get()
    assert caught.value.reason is Reason.KeyAccessDenied


async def test_a_session_that_aws_calls_expired_is_replaced_once() -> None:
    bench = Bench()
    stale = await bench.identity().get()
    renewed = [await bench.identity().renew(stale) for _ in range(3)]
    assert [credentials.access_key for credentials in renewed] == ["ASIA2"] * 3


async def test_one_waiter_that_gives_up_does_not_stop_the_others() -> None:
    bench = Bench()
    bench.sts.go.clear()
    waiting = [asyncio.create_task(bench.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    bench.sts.go.set()
    assert await asyncio.gather(*waiting[1:]) == ["ASIA1", "ASIA1"]


GOOD = session_xml(1, "2030-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"{}",
        GOOD.replace(b"SecretAccessKey", b"Other"),
        GOOD.replace(b"ASIA1", b""),
        GOOD.replace(b"token", b"to\r\nken"),
        GOOD.replace(b"2030-01-01T00:00:00Z", b"soon"),
        GOOD.replace(b"00:00:00Z", b"00:00:00"),
        b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 1000 + b'">]><x>' + b"&a;" * 20_000 + b"</x>",
    ],
    ids=["empty", "cut", "JSON", "no secret", "empty id", "odd token", "no time", "no zone", "entities"],
)
async def test_an_answer_that_sts_would_not_give_is_refused(answer: bytes) -> None:
    async def ask(*_: object) -> bytes:
        return answer

    roles = AssumedRoles(ask, "prod")
    with pytest.raises(KmsError) as caught:
        await roles.get(KEY, ROLE, ARN)
    assert caught.value.reason is Reason.KmsAnswerInvalid
