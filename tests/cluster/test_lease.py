"""Two electors and a real API server: one leads, the other follows soon after."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from byok_operator.lease import LEASE_NAME, Elector, LeadershipLostError, Timing
from byok_service.kubernetes import LEASES, ApiError, KubernetesApi
from tests.support.eventually import until
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation
from tests.testenv.tap import Tap

TIMING = Timing(duration=9, deadline=6.0, retry=0.4, request=0.8)
LONG = Timing(duration=60, deadline=40.0, retry=4.0, request=10.0)
WITHIN = 30.0
"""Seconds: a limit that a loaded machine does not reach; far from both durations."""


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
    await remove_lease(admin, installation.namespace)
    account = installation.operator_account
    first = await KubernetesApi.connect(str(control_plane.kubeconfig_for(account, api_port=tap.port)))
    second = await KubernetesApi.connect(str(control_plane.kubeconfig_for(account)))
    yield first, second
    # Operators of other tests would wait until it runs out.
    await remove_lease(admin, installation.namespace)
    for api in (admin, first, second):
        await api.close()


async def remove_lease(admin: KubernetesApi, namespace: str) -> None:
    with suppress(ApiError):
        await admin.delete(LEASES, namespace, LEASE_NAME)


class Operator:
    def __init__(self, api: KubernetesApi, namespace: str, identity: str, timing: Timing) -> None:
        self.elector = Elector(api, namespace, identity=identity, timing=timing)
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
def timing() -> Timing:
    return TIMING


@pytest.fixture
async def operators(
    apis: tuple[KubernetesApi, KubernetesApi], installation: Installation, timing: Timing
) -> AsyncIterator[tuple[Operator, Operator]]:
    leader = Operator(apis[0], installation.namespace, "first", timing)
    await until(lambda: leader.leads, WITHIN)
    follower = Operator(apis[1], installation.namespace, "second", timing)
    yield leader, follower
    await leader.end()
    await follower.end()


async def spec_of(api: KubernetesApi, installation: Installation) -> dict[str, Any]:
    """Read what the Lease says."""
    spec: dict[str, Any] = (await api.get(LEASES, installation.namespace, LEASE_NAME))["spec"]
    return spec


# Longer than the limit: nobody who waits until it runs out is in time. And a leader that has just taken it is not in
# the middle of a renewal, which would be in the way of giving it up.
@pytest.mark.parametrize("timing", [LONG], ids=["long"])
async def test_a_leader_that_stops_hands_over_at_once(
    operators: tuple[Operator, Operator], apis: tuple[KubernetesApi, KubernetesApi], installation: Installation
) -> None:
    leader, follower = operators
    await leader.end()
    await leader.elector.release()
    await until(lambda: follower.leads, WITHIN)
    stored = await spec_of(apis[1], installation)
    assert (stored["holderIdentity"], stored["leaseTransitions"]) == ("second", 1)


async def test_a_leader_that_freezes_is_followed_after_it_no_longer_leads(
    operators: tuple[Operator, Operator], apis: tuple[KubernetesApi, KubernetesApi], installation: Installation
) -> None:
    leader, follower = operators
    await leader.end()
    left = await spec_of(apis[1], installation)
    assert left["holderIdentity"] == "first"
    await until(lambda: follower.leads, WITHIN)
    assert not leader.leads
    taken = await spec_of(apis[1], installation)
    frozen = datetime.fromisoformat(taken["acquireTime"]) - datetime.fromisoformat(left["renewTime"])
    assert frozen >= timedelta(seconds=TIMING.duration)


async def test_a_leader_that_loses_its_connections_gives_up_before_it_is_followed(
    operators: tuple[Operator, Operator], tap: Tap
) -> None:
    leader, follower = operators
    while not follower.leads:
        # New connections too.
        tap.silence()
        await asyncio.sleep(0.02)
    assert not leader.leads
    await until(lambda: leader.lost_at is not None, WITHIN)


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
    await until(lambda: leader.leads != follower.leads, WITHIN)


async def test_a_lease_that_is_deleted_is_made_again(
    operators: tuple[Operator, Operator], control_plane: ControlPlane, installation: Installation
) -> None:
    admin = await KubernetesApi.connect(str(control_plane.kubeconfig))
    await admin.delete(LEASES, installation.namespace, LEASE_NAME)
    while not await is_there(admin, installation.namespace):  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.05)
    await until(lambda: sum(operator.leads for operator in operators) == 1, WITHIN)
    await admin.close()


async def is_there(api: KubernetesApi, namespace: str) -> bool:
    try:
        await api.get(LEASES, namespace, LEASE_NAME)
    except ApiError:
        return False
    return True
