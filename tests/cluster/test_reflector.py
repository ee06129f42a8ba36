"""A real API server's objects are followed without loss, whatever happens to connection and server."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Iterator

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_service import kubernetes
from byok_service.kubernetes import BYOK_KEYS, EXPIRED, SIGNING_RECIPES, ApiError, KubernetesApi, Resource
from byok_signer.cluster import ClusterCatalogue
from byok_signer.decisions import Rules
from byok_signer.entries import Catalogue, SigningEntry
from tests.support.eventually import until
from tests.support.fake_api_server import Body
from tests.support.followers import Follower, running
from tests.support.manifests import key_document, pem_of_identity, recipe_document
from tests.support.pki import certified, new_key
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation
from tests.testenv.tap import Tap

CUTS = 60
PAUSE = float(os.environ.get("BYOK_TEST_CUT_EVERY", "0.1"))
"""Seconds between two cuts of the watch; 1 makes it the minute of a cut every second."""
TAKEN_AWAY_WITHIN = 15.0
"""Seconds: a limit that a loaded machine does not reach; nobody lists again so soon."""
_LIMIT = 30.0
"""Seconds: the same for all else that is waited for."""
CUSTOM_RESOURCE_DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
NOTES = Resource("tests.byok.dev", "v1", "notes")


@pytest.fixture
def tap(control_plane: ControlPlane) -> Iterator[Tap]:
    with Tap(control_plane.port) as tap:
        yield tap


@pytest.fixture
async def api(control_plane: ControlPlane, installation: Installation, tap: Tap) -> AsyncIterator[KubernetesApi]:
    """The signer's, through the tap."""
    kubeconfig = control_plane.kubeconfig_for(installation.signer_account, api_port=tap.port)
    api = await KubernetesApi.connect(str(kubeconfig))
    yield api
    await api.close()


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(str(control_plane.kubeconfig))
    yield api
    await api.close()


def key(namespace: str, name: str, **spec: object) -> Body:
    return key_document(f"{namespace}/{name}", **spec)


async def put(admin: KubernetesApi, body: Body) -> None:
    resource = BYOK_KEYS if body["kind"] == "ByokKey" else SIGNING_RECIPES
    await admin.apply(resource, body, field_manager="test")


async def there(admin: KubernetesApi, namespace: str) -> dict[str, str]:
    found = [item["metadata"] for item in (await admin.list(BYOK_KEYS)).items]
    return {each["name"]: each["resourceVersion"] for each in found if each["namespace"] == namespace}


@pytest.mark.timeout(240)
async def test_a_watch_that_is_cut_again_and_again_loses_nothing(
    api: KubernetesApi, admin: KubernetesApi, tap: Tap, namespace: str
) -> None:
    chance = random.Random(7)  # noqa: S311 - a test's choices
    alive: set[str] = set()
    deleted: list[str] = []
    async with running(Follower(api, namespace=namespace)) as follower:
        await until(lambda: follower.reflector.synced, _LIMIT)
        for index in range(CUTS):
            await asyncio.to_thread(tap.cut)
            await put(admin, key(namespace, f"k{index}"))
            alive.add(f"k{index}")
            if chance.random() < 0.7:
                gone = chance.choice(sorted(alive))
                alive.remove(gone)
                deleted.append(gone)
                await admin.delete(BYOK_KEYS, namespace, gone)
            await asyncio.sleep(PAUSE)
        expected = await there(admin, namespace)
        await until(lambda: follower.versions == expected, _LIMIT)
    assert alive <= follower.names
    if follower.lists == 1:
        assert [name for what, name in follower.heard if what == "deleted"] == deleted


async def test_a_connection_that_says_nothing_is_replaced(
    api: KubernetesApi, admin: KubernetesApi, tap: Tap, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "SILENCE_SECONDS", 1.0)
    async with running(Follower(api, namespace=namespace)) as follower:
        await until(lambda: follower.reflector.synced, _LIMIT)
        tap.silence()
        await put(admin, key(namespace, "unheard"))
        before = tap.accepted
        await until(lambda: tap.accepted > before, _LIMIT)
        tap.resume()
        await until(lambda: "unheard" in follower.names, _LIMIT)


async def test_a_version_from_before_what_is_remembered_is_expired(api: KubernetesApi) -> None:
    with pytest.raises(ApiError) as refused:
        async for _ in api.watch(BYOK_KEYS, "1"):
            pass
    assert refused.value.status == EXPIRED


@pytest.mark.timeout(180)
async def test_what_was_deleted_before_the_api_server_restarted_is_gone_and_the_rest_never_was(
    api: KubernetesApi, admin: KubernetesApi, control_plane: ControlPlane, tap: Tap, namespace: str
) -> None:
    for name in ("gone", "stays"):
        await put(admin, key(namespace, name))
    async with running(Follower(api, namespace=namespace)) as follower:
        await until(lambda: {"gone", "stays"} <= follower.names, _LIMIT)
        tap.silence()
        await admin.delete(BYOK_KEYS, namespace, "gone")
        await asyncio.to_thread(control_plane.stop_api_server)
        await asyncio.to_thread(tap.cut)
        tap.resume()
        await asyncio.to_thread(control_plane.start_api_server)
        await until(lambda: "gone" not in follower.names, _LIMIT)
    # Nor was it ever empty: an API server that starts does not know its custom resources at once.
    assert "stays" in follower.names
    assert follower.fewest >= 1


async def test_a_collection_whose_definition_is_deleted_is_empty_and_comes_back(admin: KubernetesApi) -> None:
    await define_notes(admin)
    await until_served(admin)
    await admin.create(NOTES, note("first"), namespace="default")
    async with running(Follower(admin, NOTES)) as follower:
        await until(lambda: follower.names == {"first"}, _LIMIT)
        await admin.delete(CUSTOM_RESOURCE_DEFINITIONS, "", "notes.tests.byok.dev")
        await until(lambda: follower.names == set(), _LIMIT)
        await until_gone(admin)
        await define_notes(admin)
        await until_served(admin)
        await admin.create(NOTES, note("second"), namespace="default")
        await until(lambda: follower.names == {"second"}, _LIMIT)
    await admin.delete(CUSTOM_RESOURCE_DEFINITIONS, "", "notes.tests.byok.dev")


async def define_notes(admin: KubernetesApi) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec = {
        "group": NOTES.group,
        "scope": "Namespaced",
        "names": {"plural": "notes", "singular": "note", "kind": "Note", "listKind": "NoteList"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
    }
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "notes.tests.byok.dev"},
        "spec": spec,
    }
    await admin.create(CUSTOM_RESOURCE_DEFINITIONS, body)


def note(name: str) -> Body:
    return {"apiVersion": NOTES.api_version, "kind": "Note", "metadata": {"name": name}}


async def until_served(admin: KubernetesApi) -> None:
    while not await answers(admin.list(NOTES)):  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.05)


async def until_gone(admin: KubernetesApi) -> None:
    while await answers(admin.get(CUSTOM_RESOURCE_DEFINITIONS, "", "notes.tests.byok.dev")):  # noqa: ASYNC110 - same
        await asyncio.sleep(0.05)


async def answers(request: Awaitable[object]) -> bool:
    try:
        await request
    except ApiError:
        return False
    return True


@pytest.fixture
async def catalogue(api: KubernetesApi) -> AsyncIterator[ClusterCatalogue]:
    made: list[Catalogue] = []
    rules = Rules(installation="test", presets_namespace="byok-system")
    catalogue = ClusterCatalogue(api, rules, changed=made.append)
    task = asyncio.create_task(catalogue.watch())
    await until(lambda: catalogue.synced, _LIMIT)
    yield catalogue
    task.cancel()
    await asyncio.wait([task])


def reason(catalogue: ClusterCatalogue, recipe: ObjectName) -> Reason | str | None:
    entry = catalogue.current().recipes.get(recipe)
    return None if isinstance(entry, SigningEntry) else entry.reason if entry else "not there"


async def test_what_an_owner_takes_away_signs_no_more_at_once(
    catalogue: ClusterCatalogue, admin: KubernetesApi, namespace: str
) -> None:
    recipe = ObjectName(namespace, "photo")
    # A public key of its own, to which no key that another test left behind has a claim.
    own = {"pem": pem_of_identity(certified(new_key(SigningAlgorithm.ES256), SigningAlgorithm.ES256))}
    await put(admin, key(namespace, "brand", certificate=own))
    await put(admin, recipe_document(str(recipe), keyRef={"name": "brand"}))
    await until_answered(catalogue, recipe, None)
    await put(admin, key(namespace, "brand", certificate=own, state="Deactivated"))
    await until_answered(catalogue, recipe, Reason.KeyDeactivated)
    await put(admin, key(namespace, "brand", certificate=own))
    await until_answered(catalogue, recipe, None)
    await admin.delete(BYOK_KEYS, namespace, "brand")
    await until_answered(catalogue, recipe, Reason.KeyMissing)


async def until_answered(catalogue: ClusterCatalogue, recipe: ObjectName, wanted: Reason | None) -> None:
    try:
        await until(lambda: reason(catalogue, recipe) is wanted, TAKEN_AWAY_WITHIN)
    except TimeoutError:
        raise AssertionError(f"{recipe} is answered {reason(catalogue, recipe)}, not {wanted}") from None
