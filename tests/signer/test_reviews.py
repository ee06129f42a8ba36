"""Callers in a cluster: known by their token, and by the API server's word that it still stands by it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from byok_api.errors import Reason, Refusal
from byok_sandbox.issuer import ServiceAccount
from byok_signer import review_desk, reviews, verdicts
from byok_signer.authentication import Authenticator, Caller
from byok_signer.metrics import Metrics
from byok_signer.reviews import AHEAD, LIMIT
from tests.support.doorkeepers import cluster_doorkeepers
from tests.support.eventually import until
from tests.support.reviewing_cluster import TOKEN_REVIEW, ReviewingCluster, reviewing_cluster

JOB = ServiceAccount("media", "job")
STRANGER = ServiceAccount("other", "job")


class World:
    """A cluster, a signer's authenticator in it, and a clock that the test turns."""

    authenticator: Authenticator

    def __init__(self, cluster: ReviewingCluster) -> None:
        self.cluster = cluster
        self.metrics = Metrics()
        self.offset = 0.0
        self.began = datetime.now(UTC)

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.offset)

    def clock(self) -> float:
        # The real time's part lets what waits for an outage to pass see it pass.
        return asyncio.get_running_loop().time() + self.offset

    def token(self, account: ServiceAccount = JOB, *, lifetime: timedelta = timedelta(hours=1)) -> str:
        return self.cluster.issuer.mint(account, now=self.now(), lifetime=lifetime)

    async def refusal_of(self, token: str) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.authenticator.authenticate(token)
        return caught.value

    @property
    def asked(self) -> int:
        return self.cluster.asked[TOKEN_REVIEW]

    @property
    def counted(self) -> str:
        return self.metrics.exposition().decode()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(await stack.enter_async_context(reviewing_cluster()))
        world.cluster.add(JOB)
        doors = await stack.enter_async_context(
            cluster_doorkeepers(
                world.cluster, tmp_path, now=world.now, clock=world.clock, observe=world.metrics.reviewed
            )
        )
        world.authenticator = doors.authenticator
        yield world


async def test_a_caller_is_whom_token_and_api_server_name_with_groups_and_extra(world: World) -> None:
    caller = await world.authenticator.authenticate(world.token())
    assert (caller.username, caller.uid) == (JOB.username, JOB.uid)
    assert caller.groups == ("system:serviceaccounts", "system:serviceaccounts:media", "system:authenticated")
    assert caller.extra == (("authentication.kubernetes.io/pod-name", ("job-0",)),)
    assert 'byok_signer_reviews_total{kind="TokenReview",outcome="allowed"} 1.0' in world.counted


async def test_many_calls_with_one_token_are_one_question(world: World) -> None:
    token = world.token()
    await asyncio.gather(*(world.authenticator.authenticate(token) for _ in range(100)))
    world.offset = AHEAD - 1
    await world.authenticator.authenticate(token)
    assert world.asked == 1


async def test_what_is_no_good_token_is_refused_without_a_question(world: World) -> None:
    claims: dict[str, Any] = jwt.decode(world.token(), options={"verify_signature": False})
    sign = world.cluster.issuer.sign
    bad = ["junk", f"{world.token()[:-8]}AAAAAAAA", sign({**claims, "aud": "vault"}), sign({**claims, "iss": "x"})]
    bad += [sign({**claims, "exp": 1}), world.token(lifetime=timedelta(seconds=-1))]
    for token in bad:
        assert (await world.refusal_of(token)).reason in (Reason.TokenInvalid, Reason.TokenExpired)
    assert world.asked == 0


WRONG_ANSWERS: dict[str, dict[str, Any]] = {
    "another user": {"user": {"username": STRANGER.username}},
    "another account of the same name": {"user": {"uid": "younger"}},
    "for another audience": {"audiences": ["https://kubernetes.default.svc"]},
    "for no audience that it names": {"audiences": []},
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
async def test_an_answer_that_does_not_fit_the_token_lets_nobody_in(world: World, answer: dict[str, Any]) -> None:
    for name, value in answer.items():
        setattr(world.cluster, name, value)
    assert (await world.refusal_of(world.token())).reason is Reason.TokenInvalid


MALFORMED: dict[str, dict[str, Any]] = {
    "groups of numbers": {"user": {"groups": [1]}},
    "extra in a list": {"user": {"extra": [["a", "b"]]}},
    "audiences as text": {"audiences": "byok-signer"},
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_an_answer_that_is_no_answer_lets_nobody_in(world: World, answer: dict[str, Any]) -> None:
    for name, value in answer.items():
        setattr(world.cluster, name, value)
    assert (await world.refusal_of(world.token())).reason is Reason.ClusterUnavailable


async def test_the_account_of_another_uid_is_another_account(world: World) -> None:
    token = world.token()
    world.cluster.add(ServiceAccount(JOB.namespace, JOB.name))
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid


@pytest.mark.parametrize("age", [LIMIT - 5, LIMIT])
async def test_a_deleted_account_is_refused_once_the_limit_is_reached(world: World, age: float) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    world.cluster.uids.clear()
    world.offset = age
    if age < LIMIT:
        await world.authenticator.authenticate(token)
    else:
        assert "deleted" in (await world.refusal_of(token)).message


async def test_a_deleted_account_in_use_is_found_out_before_the_limit(world: World) -> None:
    token = world.token()
    caller = await world.authenticator.authenticate(token)
    world.cluster.uids.clear()
    world.offset = AHEAD
    await world.authenticator.authenticate(token)
    await until(lambda: 'outcome="denied"' in world.counted)
    assert world.asked == 2
    with pytest.raises(Refusal, match="no longer takes it"):
        world.authenticator.recall(caller)
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid


async def test_tokens_in_use_are_asked_about_again_beside_the_calls(world: World) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    world.cluster.gate.clear()
    world.offset = AHEAD
    # Answered though the API server is not: nobody waits.
    await asyncio.wait_for(world.authenticator.authenticate(token), 1)
    world.cluster.gate.set()
    await until(lambda: world.asked == 2)


async def test_an_expired_token_ends_with_its_expiry_whatever_was_said_of_it(world: World) -> None:
    token = world.token(lifetime=timedelta(seconds=5))
    await world.authenticator.authenticate(token)
    world.offset = 5
    await world.cluster.stop()
    assert (await world.refusal_of(token)).reason is Reason.TokenExpired


async def test_while_the_api_server_is_away_known_callers_go_on_and_unknown_ones_are_told_to_wait(
    world: World,
) -> None:
    token, unknown = world.token(), world.token(STRANGER)
    await world.authenticator.authenticate(token)
    await world.cluster.stop()
    for world.offset in range(20, 80):
        assert (await world.authenticator.authenticate(token)).username == JOB.username
        refusal = await world.refusal_of(unknown)
        assert (refusal.reason, (refusal.retry_after or 0) >= 1) == (Reason.ClusterUnavailable, True)


@pytest.mark.parametrize("how", ["closed", "silent", "failing", "forbidden"])
async def test_an_outage_heals_by_itself(world: World, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token, new = world.token(), world.token(world.cluster.add(STRANGER))
    await world.authenticator.authenticate(token)
    monkeypatch.setattr(review_desk, "PATIENCE", 1.0)
    world.offset = LIMIT
    match how:
        case "closed":
            await world.cluster.stop()
        case "silent":
            world.cluster.gate.clear()
        case "failing":
            world.cluster.status = world.cluster.ready = 500
        case _:
            world.cluster.status = 403
    assert (await world.authenticator.authenticate(token)).username == JOB.username
    assert (await world.refusal_of(new)).reason is Reason.ClusterUnavailable
    world.cluster.gate.set()
    world.cluster.status = world.cluster.ready = 200
    if how == "closed":
        await world.cluster.start()
    asked = world.asked
    async with asyncio.timeout(10):
        while world.asked == asked:
            await world.authenticator.authenticate(token)
            await asyncio.sleep(0.01)
    assert (await world.authenticator.authenticate(new)).username == STRANGER.username


async def test_after_an_outage_a_token_is_asked_about_again_before_it_is_used(world: World) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    await world.cluster.stop()
    world.offset = LIMIT
    await world.authenticator.authenticate(token)
    world.cluster.uids.clear()
    await world.cluster.start()
    world.offset += review_desk.AWAY_SECONDS
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid


async def test_no_older_answer_comes_back_after_a_denial(world: World) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    world.cluster.uids.clear()
    world.offset = LIMIT
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid
    await world.cluster.stop()
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid
    world.offset += verdicts.DENIED_SECONDS
    assert (await world.refusal_of(token)).reason is Reason.ClusterUnavailable


async def restart_without_accounts(world: World, token: str) -> None:
    """Stop the API server and start it again, not ready and without its accounts; the call in between goes on."""
    await world.cluster.stop()
    world.offset = LIMIT
    await world.authenticator.authenticate(token)
    world.cluster.uids.clear()
    world.cluster.ready = 500
    await world.cluster.start()
    world.offset += review_desk.AWAY_SECONDS


async def test_a_denial_by_an_api_server_that_is_still_starting_does_not_count(world: World) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    await restart_without_accounts(world, token)
    for _ in range(10):
        assert (await world.authenticator.authenticate(token)).username == JOB.username
        world.offset += review_desk.TRIAL_SECONDS
    world.cluster.add(JOB)
    world.cluster.ready = 200
    asked = world.asked
    async with asyncio.timeout(10):
        while world.asked == asked:
            assert (await world.authenticator.authenticate(token)).username == JOB.username
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["says so", "does not say"])
async def test_a_denial_counts_a_minute_after_the_api_server_was_away_though_it_is_not_ready(
    world: World, how: str
) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    if how == "does not say":
        world.cluster.ready_gate.clear()
    await restart_without_accounts(world, token)
    # Real time passes besides, and much of it where the question whether it is ready gets no answer.
    while world.offset < LIMIT + review_desk.STARTING_SECONDS - 20:
        assert (await world.authenticator.authenticate(token)).username == JOB.username
        world.offset += 15
    world.offset = LIMIT + review_desk.STARTING_SECONDS
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid


@pytest.mark.parametrize("before", ["answering", "failing", "forbidden"])
async def test_a_denial_counts_at_once_though_the_api_server_is_not_ready_if_it_never_was_silent(
    world: World, before: str
) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    world.offset = LIMIT
    if before != "answering":
        world.cluster.status = 500 if before == "failing" else 403
        assert (await world.authenticator.authenticate(token)).username == JOB.username
        world.offset += review_desk.AWAY_SECONDS
    world.cluster.status, world.cluster.ready = 200, 500
    world.cluster.uids.clear()
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid
    await world.cluster.stop()
    world.offset += verdicts.DENIED_SECONDS
    assert (await world.refusal_of(token)).reason is Reason.ClusterUnavailable


async def test_calls_beyond_the_limit_of_their_namespace_ask_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "WAITING_LIMIT", 1)
    world.cluster.gate.clear()
    first = asyncio.create_task(_authenticate(world, world.token()))
    await until(lambda: world.asked == 1)
    running = asyncio.all_tasks()
    beyond = world.token(ServiceAccount(JOB.namespace, "another"))
    assert (await world.refusal_of(beyond)).reason is Reason.CallerLimited
    assert asyncio.all_tasks() == running
    world.cluster.gate.set()
    await first


async def test_a_no_to_one_question_is_no_outage_for_others(world: World) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    world.cluster.status = 422
    assert (await world.refusal_of(world.token(STRANGER))).reason is Reason.ClusterUnavailable
    world.offset = LIMIT
    assert (await world.refusal_of(token)).reason is Reason.ClusterUnavailable


async def test_a_denial_is_asked_for_again_after_a_moment_only(world: World) -> None:
    token = world.token(STRANGER)
    for _ in range(5):
        assert (await world.refusal_of(token)).reason is Reason.TokenInvalid
    assert world.asked == 1
    world.cluster.add(STRANGER)
    world.offset = verdicts.DENIED_SECONDS
    assert (await world.authenticator.authenticate(token)).username == STRANGER.username


async def test_a_kept_connection_that_has_gone_is_no_outage(world: World) -> None:
    await world.authenticator.authenticate(world.token())
    await world.cluster.stop()
    await world.cluster.start()
    assert (await world.authenticator.authenticate(world.token())).username == JOB.username


async def test_a_caller_who_gives_up_does_not_end_the_question_of_others(world: World) -> None:
    token = world.token()
    world.cluster.gate.clear()
    first, second = (asyncio.create_task(_authenticate(world, token)) for _ in range(2))
    await until(lambda: world.asked == 1)
    first.cancel()
    world.cluster.gate.set()
    assert (await second).username == JOB.username
    assert world.asked == 1


async def _authenticate(world: World, token: str) -> Caller:
    return await world.authenticator.authenticate(token)


async def test_no_message_and_no_log_holds_anything_of_a_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    token = world.token(STRANGER)
    messages = [(await world.refusal_of(token)).message]
    await world.cluster.stop()
    messages.append((await world.refusal_of(world.token())).message)
    for part in (*token.split("."), json.dumps(STRANGER.uid)):
        assert part not in f"{messages} {caplog.text}"


async def test_a_question_shows_nothing_of_its_token(world: World) -> None:
    token = world.token()
    question = reviews._Question(token, await world.authenticator.authenticate(token))  # noqa: SLF001 - none is handed out
    assert not any(part in repr(question) for part in token.split("."))
