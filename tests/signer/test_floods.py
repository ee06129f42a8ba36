"""Floods of tokens, and a good caller in the middle of each."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_sandbox.issuer import ServiceAccount
from byok_signer import verdicts
from byok_signer.access import Decision, Right
from byok_signer.authentication import Caller
from byok_signer.metrics import Metrics
from byok_signer.review_turns import AT_ONCE
from byok_signer.reviews import LIMIT
from tests.support.doorkeepers import Doorkeepers, cluster_doorkeepers
from tests.support.reviewing_cluster import ACCESS_REVIEW, TOKEN_REVIEW, ReviewingCluster, reviewing_cluster

JOB = ServiceAccount("media", "job")
FLOOD = ServiceAccount("flood", "job")
JUNK = 10_000


class World:
    """A cluster, and those who ask it."""

    doors: Doorkeepers

    def __init__(self, cluster: ReviewingCluster) -> None:
        self.cluster = cluster
        self.offset = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.offset)

    def clock(self) -> float:
        return time.monotonic() + self.offset

    def token(self, account: ServiceAccount = JOB) -> str:
        return self.cluster.issuer.mint(account, now=self.now())

    async def authenticate(self, token: str) -> Caller:
        return await self.doors.authenticator.authenticate(token)

    async def check(self, caller: Caller, name: str) -> Decision:
        right = Right("sign", "signingrecipes", ObjectName("media", name))
        return await self.doors.access.check(caller, right)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(await stack.enter_async_context(reviewing_cluster()))
        world.cluster.add(JOB)
        world.cluster.add(FLOOD)
        world.cluster.grant(JOB)
        world.doors = await stack.enter_async_context(
            cluster_doorkeepers(world.cluster, folder, now=world.now, clock=world.clock, observe=Metrics().reviewed)
        )
        yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as world:
        yield world


async def reason_of(answer: Awaitable[object]) -> Reason | None:
    try:
        await answer
    except Refusal as refusal:
        return refusal.reason
    return None


def well_formed(world: World) -> Callable[[int], str]:
    """Tokens in which everything is right but the signature; no two are the same."""
    header, payload, signature = world.token().split(".")
    assert len(signature) == 86
    return lambda number: f"{header}.{payload}.{number:086d}"


def formless(_: World) -> Callable[[int], str]:
    return lambda number: f"{number:x}" * 7


def unknown_key(world: World) -> Callable[[int], str]:
    """Tokens of another issuer's keys, each under another key id."""
    claims = jwt.decode(world.token(), options={"verify_signature": False})
    token = jwt.encode(claims, "s" * 32, algorithm="HS256", headers={"kid": "0"}).split(".")
    return lambda number: ".".join([jwt.utils.base64url_encode(b'{"kid":"%d"}' % number).decode(), *token[1:]])


@pytest.mark.parametrize("junk_of", [well_formed, formless, unknown_key])
async def test_ten_thousand_junk_tokens_cost_the_api_server_nothing_and_good_callers_no_call(
    world: World, junk_of: Callable[[World], Callable[[int], str]]
) -> None:
    junk, good = junk_of(world), world.token()
    await world.authenticate(good)
    numbers = itertools.count()

    async def flood() -> None:
        while (number := next(numbers)) < JUNK:
            assert await reason_of(world.authenticate(junk(number))) is Reason.TokenInvalid
            await asyncio.sleep(0)

    floods = [asyncio.create_task(flood()) for _ in range(8)]
    calls = 0
    while not all(task.done() for task in floods):
        calls += (await world.authenticate(good)).username == JOB.username
        assert (await world.authenticate(world.token())).username == JOB.username
        await asyncio.sleep(0)
    await asyncio.gather(*floods)
    assert calls >= 1
    # Of the good ones alone, which are asked about again as time goes by.
    assert calls < world.cluster.asked[TOKEN_REVIEW] <= calls + 10
    assert world.cluster.asked["jwks"] <= 5  # one in ten seconds


async def test_a_flood_of_real_tokens_of_one_namespace_starves_nobody_else(world: World) -> None:
    known = world.token()
    await world.authenticate(known)
    tokens = [world.token(FLOOD) for _ in range(700)]
    flood = [asyncio.create_task(reason_of(world.authenticate(token))) for token in tokens]
    await asyncio.sleep(0)
    newcomer = world.cluster.add(ServiceAccount("sports", "job"))
    world.offset = LIMIT
    before = world.cluster.asked[TOKEN_REVIEW]
    assert (await world.authenticate(known)).username == JOB.username
    assert (await world.authenticate(world.token(newcomer))).namespace == "sports"
    # They came between the flood's: a few of its questions were answered meanwhile, not all.
    assert world.cluster.asked[TOKEN_REVIEW] - before < 200
    reasons = await asyncio.gather(*flood)
    assert set(reasons) <= {None, Reason.CallerLimited, Reason.ClusterUnavailable}
    assert Reason.CallerLimited in reasons
    assert world.cluster.most_open <= AT_ONCE


async def test_a_flood_of_made_up_recipes_starves_nobody_else(world: World) -> None:
    flooding, good = await world.authenticate(world.token(FLOOD)), await world.authenticate(world.token())
    flood = [asyncio.create_task(reason_of(world.check(flooding, f"r{number}"))) for number in range(1000)]
    await asyncio.sleep(0)
    assert (await world.check(good, "photo")).allowed
    assert world.cluster.asked[ACCESS_REVIEW] < 200
    await asyncio.gather(*flood)
    assert world.cluster.most_open <= AT_ONCE


async def test_a_flood_displaces_no_known_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "CACHE_LIMIT", 20)
    async with opened(tmp_path) as world:
        known, flood = world.token(), [world.token(FLOOD) for _ in range(60)]
        for token in (known, *flood):
            await world.authenticate(token)
        await world.cluster.stop()
        assert (await world.authenticate(known)).username == JOB.username
        assert await reason_of(world.authenticate(flood[0])) is Reason.ClusterUnavailable


async def test_a_flood_on_an_api_server_that_hangs_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_signer.review_desk.PATIENCE", 0.5)
    known = world.token()
    await world.authenticate(known)
    world.cluster.gate.clear()
    tokens = [world.token(FLOOD) for _ in range(700)]
    reasons = await asyncio.gather(*(reason_of(world.authenticate(token)) for token in tokens))
    assert set(reasons) <= {Reason.CallerLimited, Reason.ClusterUnavailable}
    assert world.cluster.most_open <= AT_ONCE
    world.offset = LIMIT
    assert (await world.authenticate(known)).username == JOB.username
