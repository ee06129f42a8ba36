"""Rights in a cluster: what the API server is asked, and for how long its answer counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_sandbox.issuer import ServiceAccount
from byok_service.kubernetes import KubernetesApi
from byok_signer import review_desk, verdicts
from byok_signer.access import AHEAD, LIMIT, Decision, OwnNamespaceAccess, ReviewedAccess, Right
from byok_signer.authentication import Caller
from byok_signer.metrics import Metrics
from byok_signer.review_desk import ReviewDesk
from tests.support.eventually import until
from tests.support.reviewing_cluster import ACCESS_REVIEW, ReviewingCluster, reviewing_cluster

JOB = ServiceAccount("media", "job")
CALLER = Caller(
    JOB.username,
    "media",
    "job",
    JOB.uid,
    None,
    datetime(2030, 1, 1, tzinfo=UTC),
    groups=("system:serviceaccounts",),
    extra=(("authentication.kubernetes.io/pod-name", ("job-0",)),),
)
PHOTO = Right("sign", "signingrecipes", ObjectName("presets", "photo"))


class World:
    """A cluster, access by its word, and a clock that the test turns."""

    def __init__(self, cluster: ReviewingCluster, api: KubernetesApi) -> None:
        self.cluster = cluster
        self.metrics = Metrics()
        self.offset = 0.0
        self.desk = ReviewDesk(api, clock=lambda: time.monotonic() + self.offset, observe=self.metrics.reviewed)
        self.access = ReviewedAccess(self.desk)

    async def check(self, right: Right = PHOTO, caller: Caller = CALLER) -> Decision:
        return await self.access.check(caller, right)

    @property
    def asked(self) -> int:
        return self.cluster.asked[ACCESS_REVIEW]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(reviewing_cluster())
        api = await KubernetesApi.connect(cluster.kubeconfig(tmp_path))
        stack.push_async_callback(api.close)
        world = World(cluster, api)
        stack.push_async_callback(world.desk.close)
        cluster.grant(JOB, "presets/photo")
        yield world


async def test_the_api_server_is_told_who_asks_for_what(world: World) -> None:
    decision = await world.check()
    assert (decision.allowed, decision.id) == (True, "audit-1")
    assert world.cluster.specs == [
        {
            "user": "system:serviceaccount:media:job",
            "uid": JOB.uid,
            "groups": ["system:serviceaccounts"],
            "extra": {"authentication.kubernetes.io/pod-name": ["job-0"]},
            "resourceAttributes": {
                "group": "byok.dev",
                "version": "v1alpha1",
                "resource": "signingrecipes",
                "verb": "sign",
                "namespace": "presets",
                "name": "photo",
            },
        }
    ]


async def test_a_right_to_all_objects_names_none(world: World) -> None:
    world.cluster.grant(JOB, verb="probe")
    assert (await world.check(Right("probe", "byokkeys", None))).allowed
    assert world.cluster.specs[0]["resourceAttributes"]["name"] == ""
    assert world.cluster.specs[0]["resourceAttributes"]["namespace"] == ""


@pytest.mark.parametrize(
    "right",
    [
        PHOTO._replace(verb="probe"),
        PHOTO._replace(plural="byokkeys"),
        PHOTO._replace(name=ObjectName("presets", "photo-v2")),
        PHOTO._replace(name=ObjectName("media", "photo")),
        PHOTO._replace(name=None),
    ],
)
async def test_each_right_is_asked_for_alone(world: World, right: Right) -> None:
    assert (await world.check()).allowed
    assert not (await world.check(right)).allowed


@pytest.mark.parametrize(
    "other",
    [
        replace(CALLER, uid="another"),
        replace(CALLER, groups=()),
        replace(CALLER, extra=(("authentication.kubernetes.io/pod-name", ("job-1",)),)),
        replace(CALLER, username="system:serviceaccount:media:other"),
    ],
)
async def test_another_identity_is_asked_about_anew(world: World, other: Caller) -> None:
    await world.check()
    await world.check(caller=other)
    assert world.asked == 2


async def test_many_calls_are_one_question_for_twenty_seconds(world: World) -> None:
    await asyncio.gather(*(world.check() for _ in range(100)))
    world.offset = AHEAD - 1
    await world.check()
    assert world.asked == 1


@pytest.mark.parametrize(("age", "allowed"), [(LIMIT - 5, True), (LIMIT, False)])
async def test_a_right_that_was_taken_away_ends_within_thirty_seconds(
    world: World, age: float, *, allowed: bool
) -> None:
    await world.check()
    world.cluster.granted.clear()
    world.offset = age
    assert (await world.check()).allowed is allowed


async def test_a_decision_in_use_is_asked_for_again_beside_the_calls(world: World) -> None:
    before = await world.check()
    world.offset = AHEAD
    world.cluster.gate.clear()
    assert await asyncio.wait_for(world.check(), 1) is before
    world.cluster.gate.set()
    await until(lambda: world.access.recall(CALLER, PHOTO) is not before)


async def test_a_right_that_is_given_works_after_a_moment(world: World) -> None:
    right = PHOTO._replace(verb="certify")
    assert not (await world.check(right)).allowed
    world.cluster.granted.add((JOB.username, "certify", "signingrecipes", "presets/photo"))
    world.offset = verdicts.DENIED_SECONDS
    assert (await world.check(right)).allowed


async def test_known_decisions_outlive_the_api_server_and_denials_do_too_for_a_moment(world: World) -> None:
    denied = PHOTO._replace(verb="certify")
    await world.check()
    await world.check(denied)
    await world.cluster.stop()
    world.offset = 1
    assert not (await world.check(denied)).allowed
    for world.offset in range(30, 90):
        assert (await world.check()).allowed
        with pytest.raises(Refusal) as caught:
            await world.check(denied)
        assert caught.value.reason is Reason.ClusterUnavailable


async def test_a_denial_is_never_overridden_by_an_older_decision(world: World) -> None:
    await world.check()
    world.cluster.granted.clear()
    world.offset = LIMIT
    assert not (await world.check()).allowed
    await world.cluster.stop()
    world.offset += verdicts.DENIED_SECONDS
    with pytest.raises(Refusal, match="could not be asked"):
        await world.check()


async def test_rights_taken_from_many_during_an_outage_are_made_sure_of_together(world: World) -> None:
    rights = [PHOTO._replace(name=ObjectName("presets", f"photo-{number}")) for number in range(100)]
    world.cluster.grant(JOB)
    await asyncio.gather(*map(world.check, rights))
    world.cluster.granted.clear()
    world.offset = LIMIT
    await world.cluster.stop()
    assert (await world.check(rights[0])).allowed
    await world.cluster.start()
    world.offset += review_desk.AWAY_SECONDS
    decisions = await asyncio.gather(*map(world.check, rights))
    assert not any(decision.allowed for decision in decisions)
    assert 0 < world.cluster.asked["readyz"] < 60
    assert world.cluster.most_open <= 16


async def test_a_decision_that_is_too_old_is_not_recalled_unless_the_api_server_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_desk, "PATIENCE", 0.1)
    await world.check()
    world.offset = LIMIT
    assert world.access.recall(CALLER, PHOTO) is None
    world.cluster.gate.clear()
    assert (await world.check()).allowed
    assert world.access.recall(CALLER, PHOTO) is not None


async def test_a_review_without_status_is_no_decision(world: World) -> None:
    world.cluster.without_status = True
    with pytest.raises(Refusal, match="could not be asked"):
        await world.check()


@pytest.mark.parametrize(
    ("name", "allowed"), [(ObjectName("media", "x"), True), (ObjectName("other", "x"), False), (None, False)]
)
async def test_without_a_cluster_callers_have_every_right_in_their_own_namespace(
    name: ObjectName | None, *, allowed: bool
) -> None:
    decision = await OwnNamespaceAccess().check(CALLER, Right("probe", "byokkeys", name))
    assert (decision.allowed, decision.id) == (allowed, "")
