"""The keys of the cluster that the signer runs in, and who issues its tokens."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest

from byok_api.errors import Reason, Refusal
from byok_sandbox.issuer import ServiceAccount
from byok_service.kubernetes import ApiError, ApiUnavailable, KubernetesApi
from byok_signer.jwks import REFETCH_SECONDS, REFRESH_SECONDS, ClusterKeys, JwksError, cluster_issuer
from tests.support.pki import NOW
from tests.support.reviewing_cluster import ReviewingCluster, reviewing_cluster

HOUR = 3600.0


class World:
    """A cluster, its keys as the signer reads them, and a clock that the test turns."""

    def __init__(self, cluster: ReviewingCluster, api: KubernetesApi) -> None:
        self.cluster = cluster
        self.api = api
        self.now = 0.0
        self.keys = ClusterKeys(api, clock=lambda: self.now)

    @property
    def key_id(self) -> str:
        """Of the key that the cluster signs with."""
        token = self.cluster.issuer.mint(ServiceAccount("media", "job"), now=NOW)
        key_id: str = jwt.get_unverified_header(token)["kid"]
        return key_id


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with reviewing_cluster() as cluster:
        api = await KubernetesApi.connect(cluster.kubeconfig(tmp_path))
        world = World(cluster, api)
        yield world
        await world.keys.close()
        await api.close()


async def test_the_clusters_keys_are_read_once_and_again_after_five_minutes(world: World) -> None:
    assert await world.keys.find(world.key_id) is not None
    assert await world.keys.find(world.key_id) is not None
    assert world.cluster.asked["jwks"] == 1
    world.now = REFRESH_SECONDS + 1
    await world.keys.find(world.key_id)
    await world.keys.find("unknown")
    assert world.cluster.asked["jwks"] == 2


async def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(world: World) -> None:
    old = world.key_id
    await world.keys.find(old)
    world.cluster.issuer.rotate()
    world.cluster.issuer.withdraw()
    world.now = REFETCH_SECONDS
    assert await world.keys.find(world.key_id) is not None
    assert await world.keys.find(old) is None


async def test_made_up_key_ids_cause_one_question_in_ten_seconds(world: World) -> None:
    for number in range(100):
        assert await world.keys.find(f"made-up-{number}") is None
    assert world.cluster.asked["jwks"] == 1


async def test_keys_are_kept_however_long_the_api_server_is_away(world: World) -> None:
    await world.keys.find(world.key_id)
    await world.cluster.stop()
    for world.now in (HOUR, 24 * HOUR, 1000 * HOUR):
        assert await world.keys.find(world.key_id) is not None


@pytest.mark.parametrize("status", [403, 500])
async def test_keys_that_were_never_read_are_an_outage_that_passes(world: World, status: int) -> None:
    world.cluster.status = status
    with pytest.raises(Refusal) as caught:
        await world.keys.find(world.key_id)
    assert (caught.value.reason, caught.value.retry_after) == (Reason.IssuerUnavailable, 2.0)
    world.cluster.status = 200
    world.now = 2.0
    assert await world.keys.find(world.key_id) is not None


async def test_the_issuer_is_the_one_that_the_cluster_names(world: World) -> None:
    assert await cluster_issuer(world.api) == world.cluster.issuer.name


@pytest.mark.parametrize(
    "document",
    ["", "nonsense", "[]", "{}", '{"issuer":7}', '{"issuer":""}', "[" * 100_000, json.dumps({"issuer": "x" * 1025})],
)
async def test_a_cluster_that_names_no_issuer_is_told_apart_from_one_that_is_away(world: World, document: str) -> None:
    world.cluster.discovery = document
    with pytest.raises(JwksError, match="names no issuer"):
        await cluster_issuer(world.api)


async def test_an_issuer_that_cannot_be_read_is_told_as_it_is(world: World) -> None:
    world.cluster.status = 403
    with pytest.raises(ApiError):
        await cluster_issuer(world.api)
    await world.cluster.stop()
    with pytest.raises(ApiUnavailable):
        await cluster_issuer(world.api)
