"""Two electors and a real API server: one leads, the other follows soon after."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from byok_operator.lease import LEASE_NAME, Elector, LeadershipLostError, Timing
from byok_service.kubernetes import LEASES, ApiError, KubernetesApi
from tests.support.eventually import until
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation
from tests.testenv.tap import Tap

TIMING = Timing(duration=3, deadline=2.0, retry=0.4, request=0.8)


@pytest.fixture
def tap(control_plane: ControlPlane) -> Iterator[Tap]:
    with Tap(control_plane.port) as tap:
        yield tap


@pytest.fixture
async def apis(
    control_plane: ControlPlane, installation: Installation, tap: Tap
) -> AsyncIterator[tuple[KubernetesApi, KubernetesApi]]:
    """Two operators' connections, the first one through the tap; there is no Lease."""
    admin = await KubernetesApi.connect(str(control_plane.kubeconfig))
    with suppress(ApiError):
        await admin.delete(LEASES, installation.namespace, LEASE_NAME)
    account = installation.operator_account
    first = await KubernetesApi.connect(str(control_plane.kubeconfig_for(account, api_port=tap.port)))
    second = await KubernetesApi.connect(str(control_plane.kubeconfig_for(account)))
    yield first, second
    for api in (admin, first, second):
        await api.close()


class Operator:
    def __init__(self, api: KubernetesApi, namespace: str, identity: str) -> None:
        self.elector = Elector(api, namespace, identity=identity, timing=TIMING)
        self.lost_at: float | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.elector.acquire()
        with suppress(LeadershipLostError):
            await self.elector.hold()
        self.lost_at = time.monotonic()

    @property
    def leads(self) -> bool:
        return self.elector.leading

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def operators(
    apis: tuple[KubernetesApi, KubernetesApi], installation: Installation
) -> AsyncIterator[tuple[Operator, Operator]]:
    leader = Operator(apis[0], installation.namespace, "first")
    await until(lambda: leader.leads)
    follower = Operator(apis[1], installation.namespace, "second")
    yield leader, follower
    await leader.end()
    await follower.end()


async def test_a_leader_that_stops_hands_over_at_once(
    operators: tuple[Operator, Operator], apis: tuple[KubernetesApi, KubernetesApi], installation: Installation
) -> None:
    leader, follower = operators
    await leader.end()
    await leader.elector.release()
    await until(lambda: follower.leads, 2.0)
    stored = await apis[1].get(LEASES, installation.namespace, LEASE_NAME)
    assert (stored["spec"]["holderIdentity"], stored["spec"]["leaseTransitions"]) == ("second", 1)


async def test_a_leader_that_freezes_is_followed_after_it_no_longer_leads(
    operators: tuple[Operator, Operator],
) -> None:
    leader, follower = operators
    await leader.end()
    frozen_at = time.monotonic()
    await until(lambda: follower.leads)
    assert time.monotonic() - frozen_at >= TIMING.duration - TIMING.retry * 1.5
    assert not leader.leads


async def test_a_leader_that_loses_its_connections_gives_up_before_it_is_followed(
    operators: tuple[Operator, Operator], tap: Tap
) -> None:
    leader, follower = operators
    while not follower.leads:
        # New connections too.
        tap.silence()
        await asyncio.sleep(0.02)
    assert not leader.leads
    await until(lambda: leader.lost_at is not None)


async def test_a_leader_with_a_connection_that_goes_silent_goes_on(
    operators: tuple[Operator, Operator], tap: Tap
) -> None:
    leader, _ = operators
    tap.silence()
    silenced_at = time.monotonic()
    while time.monotonic() - silenced_at < TIMING.deadline * 1.5:
        assert leader.leads
        await asyncio.sleep(0.05)


async def test_an_api_server_that_restarts_ends_with_one_leader(
    operators: tuple[Operator, Operator], control_plane: ControlPlane
) -> None:
    await asyncio.to_thread(control_plane.stop_api_server)
    await asyncio.to_thread(control_plane.start_api_server)
    leader, follower = operators
    # The old one has ended, unless it was back in time.
    await until(lambda: leader.leads != follower.leads, 20.0)


async def test_a_lease_that_is_deleted_is_made_again(
    operators: tuple[Operator, Operator], control_plane: ControlPlane, installation: Installation
) -> None:
    admin = await KubernetesApi.connect(str(control_plane.kubeconfig))
    await admin.delete(LEASES, installation.namespace, LEASE_NAME)
    while not await is_there(admin, installation.namespace):  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.05)
    await until(lambda: sum(operator.leads for operator in operators) == 1)
    await admin.close()


async def is_there(api: KubernetesApi, namespace: str) -> bool:
    try:
        await api.get(LEASES, namespace, LEASE_NAME)
    except ApiError:
        return False
    return True
