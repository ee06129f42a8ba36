"""At any time at most one operator leads, and soon one does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from byok_operator.lease import Clock, Elector, LeadershipLostError, Timing, View, released, taken
from byok_service.kubernetes import KubernetesApi
from tests.support.eventually import until
from tests.support.fake_api_server import Body, FakeApiServer
from tests.support.stepped_clock import SteppedClock

LEASES = "coordination.k8s.io/leases"
LEASE = ("byok-system", "byok-operator")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lease(holder: str, **spec: object) -> Body:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": LEASE[0], "name": LEASE[1]},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, **spec},
    }


@pytest.mark.parametrize(
    ("body", "age", "free"),
    [
        (None, 0.0, True),
        (lease(""), 0.0, True),
        (lease("me"), 0.0, True),
        (lease("other"), 14.9, False),
        (lease("other"), 15.0, True),
        (lease("other", leaseDurationSeconds=60), 59.0, False),
        (lease("other", leaseDurationSeconds=60), 60.0, True),
        (lease("other", leaseDurationSeconds=10**9), 15.0, True),
        (lease("other", leaseDurationSeconds="x"), 14.9, False),
        (lease("other", renewTime="2000-01-01T00:00:00.000000Z"), 14.9, False),
        ({"spec": 5}, 0.0, True),
    ],
)
def test_a_lease_is_free_if_nobodys_or_seen_unchanged_for_its_duration(
    body: Body | None, age: float, *, free: bool
) -> None:
    assert View(body, 100.0).is_free_for("me", 100.0 + age, Timing()) is free


def test_a_lease_that_is_renewed_looks_young_again_and_one_that_is_not_grows_old() -> None:
    view = View(None, 0.0).seen(lease("other", renewTime="1"), 5.0)
    assert view.since == 5.0
    assert view.seen(lease("other", renewTime="1"), 9.0).since == 5.0
    assert view.seen(lease("other", renewTime="2"), 9.0).since == 9.0


def test_renewing_keeps_the_time_of_taking_and_taking_counts_the_change_of_hands() -> None:
    first = taken(View(None, 0.0), "me", NOW, Timing())
    assert first["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }
    renewed = taken(View(first, 0.0), "me", NOW.replace(minute=1), Timing())["spec"]
    assert (renewed["acquireTime"], renewed["leaseTransitions"]) == (first["spec"]["acquireTime"], 0)
    assert taken(View(first, 0.0), "other", NOW.replace(minute=1), Timing())["spec"]["leaseTransitions"] == 1
    assert released(View(first, 0.0), NOW)["spec"]["holderIdentity"] == ""


class Operator:
    """An elector and what a process would do with it."""

    def __init__(self, api: KubernetesApi, identity: str, clock: SteppedClock) -> None:
        self.loss = ""
        self.elector = Elector(api, LEASE[0], identity=identity, clock=Clock(clock, clock.sleep))
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.elector.acquire()
        try:
            await self.elector.hold()
        except LeadershipLostError as error:
            self.loss = str(error)

    @property
    def leads(self) -> bool:
        return self.elector.leading

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def api(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    yield api
    await api.close()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def leader(api: KubernetesApi, clock: SteppedClock) -> AsyncIterator[Operator]:
    operator = Operator(api, "leader", clock)
    await until(lambda: operator.leads)
    yield operator
    await operator.end()


@pytest.fixture
async def follower(api: KubernetesApi, clock: SteppedClock, leader: Operator) -> AsyncIterator[Operator]:
    assert leader.leads
    operator = Operator(api, "follower", clock)
    await until(lambda: clock.sleeping == 2)
    yield operator
    await operator.end()


def holder(server: FakeApiServer) -> str:
    name: str = server.objects[LEASES][LEASE]["spec"]["holderIdentity"]
    return name


async def test_who_holds_the_lease_keeps_it(
    leader: Operator, follower: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    await clock.advance(60, sleepers=2)
    assert (leader.leads, follower.leads, holder(server)) == (True, False, "leader")


async def test_a_leader_that_stops_hands_over_at_once(
    leader: Operator, follower: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    await leader.end()
    await leader.elector.release()
    assert (leader.leads, holder(server)) == (False, "")
    await clock.advance(3, sleepers=1)
    assert follower.leads
    assert server.objects[LEASES][LEASE]["spec"]["leaseTransitions"] == 1


async def test_a_frozen_leader_is_followed_by_one_only_after_it_no_longer_leads(
    leader: Operator, follower: Operator, clock: SteppedClock
) -> None:
    # As SIGSTOP leaves it: time goes by and its loop does not run.
    leader.task.cancel()
    frozen_at = clock.now
    while not follower.leads:
        assert clock.now - frozen_at < 20
        await clock.advance(0.5, sleepers=1)
        assert not (leader.leads and follower.leads)
    assert clock.now - frozen_at >= 15 - 2
    assert not leader.leads


async def test_a_leader_whose_lease_is_another_ones_is_told_so(
    leader: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    server.put(LEASES, lease("follower"))
    await clock.advance(3, sleepers=0)
    await until(lambda: bool(leader.loss))
    assert not leader.leads
    assert leader.loss == "lost the Lease byok-system/byok-operator; its holder, as last seen: follower"


async def test_a_leader_without_api_server_gives_up_before_another_could_follow(
    leader: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    await server.stop()
    started = clock.now
    while not leader.loss:
        await clock.advance(0.5, sleepers=0)
        # It is refused in real time, in which the clock stands.
        await until(lambda: clock.sleeping == 1 or leader.task.done())
    assert 8.0 <= clock.now - started <= 14.0


async def test_an_api_server_that_was_away_for_a_moment_costs_no_leadership(
    leader: Operator, follower: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    await server.stop()
    await clock.advance(5, sleepers=2)
    await server.start()
    await clock.advance(20, sleepers=2)
    assert (leader.leads, follower.leads) == (True, False)


async def test_a_request_that_hangs_does_not_prolong_leadership(
    leader: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    server.hangs = True
    await clock.advance(11, sleepers=0, step=2.5)
    assert not leader.leads
    # Requests time out in real time.
    await until(lambda: bool(leader.loss), 30.0)


async def test_a_renewal_whose_answer_was_lost_still_counts(
    leader: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    server.put(LEASES, lease("leader", renewTime="later"))
    await clock.advance(30, sleepers=1)
    assert leader.leads


async def test_a_lease_that_is_deleted_is_made_again(
    leader: Operator, clock: SteppedClock, server: FakeApiServer
) -> None:
    server.remove(LEASES, *LEASE)
    await clock.advance(30, sleepers=1)
    assert (leader.leads, holder(server)) == (True, "leader")


@pytest.mark.parametrize("status", [403, 409, 429, 500])
async def test_a_candidate_that_is_refused_tries_again(
    api: KubernetesApi, server: FakeApiServer, clock: SteppedClock, status: int
) -> None:
    server.answers = [web.json_response({}, status=status) for _ in range(3)]
    operator = Operator(api, "only", clock)
    await clock.advance(12, sleepers=1)
    assert operator.leads
    await operator.end()


async def test_of_many_candidates_one_leads(api: KubernetesApi, clock: SteppedClock) -> None:
    operators = [Operator(api, f"operator-{index}", clock) for index in range(5)]
    await clock.advance(30, sleepers=5)
    assert sum(operator.leads for operator in operators) == 1
    for operator in operators:
        await operator.end()
