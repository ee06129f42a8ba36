"""The catalogue is what the cluster holds, soon after it does, and never more than that."""

import asyncio
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from byok_api.errors import Reason
from byok_api.objects import Namespace, Unreadable
from byok_api.references import ObjectName
from byok_service.kubernetes import KubernetesApi
from byok_signer.cluster import ClusterCatalogue, Seen, read
from byok_signer.decisions import Rules
from byok_signer.entries import Catalogue, KeyEntry, Refused, SigningEntry
from tests.support.eventually import until
from tests.support.fake_api_server import Body, FakeApiServer
from tests.support.manifests import KEY_ARN, PRESETS, key_document, recipe_document

KEYS, RECIPES, NAMESPACES = "byok.dev/byokkeys", "byok.dev/signingrecipes", "/namespaces"
KEY = ObjectName("media", "brand")
PHOTO = ObjectName("media", "photo")


def namespace(name: str, **labels: str) -> Body:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


class Follower:
    def __init__(self, api: KubernetesApi) -> None:
        self.made: list[Catalogue] = []
        rules = Rules(installation="test", presets_namespace=PRESETS)
        self.catalogue = ClusterCatalogue(api, rules, changed=self.made.append)
        self.task = asyncio.create_task(self.catalogue.watch())

    def reason(self, name: ObjectName = PHOTO) -> Reason | str | None:
        """Why a recipe cannot sign; None if it can."""
        entry = self.catalogue.current().recipes.get(name)
        return None if isinstance(entry, SigningEntry) else entry.reason if entry else "not there"

    async def until_reason(self, reason: Reason | None, name: ObjectName = PHOTO) -> None:
        await until(lambda: self.reason(name) is reason)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        server.put(NAMESPACES, namespace("media"))
        server.put(KEYS, key_document())
        server.put(RECIPES, recipe_document())
        yield server


@pytest.fixture
async def follower(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[Follower]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    follower = Follower(api)
    await until(lambda: follower.catalogue.synced and server.watching == 3)
    yield follower
    await follower.end()
    await api.close()


async def test_what_is_there_can_sign_once_all_of_it_is_known(follower: Follower) -> None:
    assert follower.reason() is None
    assert len(follower.made) == 1


async def test_until_all_of_it_is_known_nothing_is(server: FakeApiServer, tmp_path: Path) -> None:
    server.hangs = True
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    follower = Follower(api)
    await until(lambda: len(server.requests) == 3)
    assert (follower.catalogue.synced, follower.catalogue.confirmed_at()) == (False, -inf)
    assert follower.catalogue.current() == Catalogue()
    await follower.end()
    await api.close()


async def test_a_key_that_is_deactivated_or_deleted_signs_no_more(follower: Follower, server: FakeApiServer) -> None:
    server.put(KEYS, key_document(state="Deactivated"))
    await follower.until_reason(Reason.KeyDeactivated)
    server.put(KEYS, key_document())
    await follower.until_reason(None)
    server.remove(KEYS, "media", "brand")
    await follower.until_reason(Reason.KeyMissing)


async def test_a_namespace_that_is_no_longer_allowed_signs_no_more(follower: Follower, server: FakeApiServer) -> None:
    news = ObjectName("news", "photo")
    server.put(NAMESPACES, namespace("news", team="press"))
    server.put(RECIPES, recipe_document("news/photo"))
    await follower.until_reason(Reason.KeyNotAllowed, news)
    selector = {"namespaceSelector": {"matchLabels": {"team": "press"}}}
    server.put(KEYS, key_document(allowedConsumers=selector))
    await follower.until_reason(None, news)
    server.put(NAMESPACES, namespace("news"))
    await follower.until_reason(Reason.KeyNotAllowed, news)
    server.put(NAMESPACES, namespace("news", team="press"))
    await follower.until_reason(None, news)
    server.remove(NAMESPACES, "", "news")
    await follower.until_reason(Reason.KeyNotAllowed, news)


async def test_what_changed_while_nobody_watched_counts(follower: Follower, server: FakeApiServer) -> None:
    await server.stop()
    server.remove(KEYS, "media", "brand")
    server.compact()
    assert follower.reason() is None
    await server.start()
    await until(lambda: follower.reason() is Reason.KeyMissing)


async def test_a_change_of_status_costs_nothing(follower: Follower, server: FakeApiServer) -> None:
    before = follower.catalogue.current()
    server.put(KEYS, {**key_document(), "status": {"phase": "Active"}})
    server.put(RECIPES, {**recipe_document(), "status": {"conditions": []}})
    confirmed_at = follower.catalogue.confirmed_at()
    server.put(KEYS, key_document("media/another"))
    await until(lambda: len(follower.made) == 2)
    after = follower.catalogue.current()
    assert after.keys[KEY] is before.keys[KEY]
    assert after.recipes[PHOTO] is before.recipes[PHOTO]
    assert follower.catalogue.confirmed_at() >= confirmed_at


async def test_a_list_with_nothing_new_costs_nothing(follower: Follower, server: FakeApiServer) -> None:
    before, lists = follower.catalogue.current(), len(server.requests)
    server.compact()
    server.cut()
    await until(lambda: len(server.requests) >= lists + 9 and server.watching == 3)
    server.put(KEYS, key_document("media/another"))
    await until(lambda: len(follower.made) == 2)
    assert follower.catalogue.current().recipes[PHOTO] is before.recipes[PHOTO]


async def test_changes_that_come_together_are_taken_in_together(follower: Follower, server: FakeApiServer) -> None:
    for index in range(300):
        server.put(RECIPES, recipe_document(f"media/photo-{index}"))
    await until(lambda: len(follower.catalogue.current().recipes) == 301)
    assert len(follower.made) < 30


@pytest.mark.parametrize("count", [1, 150])
async def test_an_object_that_cannot_be_read_takes_the_place_of_what_was_there(
    follower: Follower, server: FakeApiServer, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    for index in range(count - 1):
        server.put(RECIPES, recipe_document(f"media/photo-{index}"))
    server.put(KEYS, key_document(descripton="typo"))
    server.put(RECIPES, recipe_document("media/photo", version="one"))
    await follower.until_reason(Reason.RecipeInvalid)
    found = follower.catalogue.current().keys[KEY]
    assert isinstance(found, Refused)
    assert (found.reason, "descripton" in found.message) == (Reason.KeyInvalid, True)
    assert "object not taken" in caplog.text
    server.put(KEYS, key_document())
    server.put(RECIPES, recipe_document())
    await follower.until_reason(None)


async def test_what_is_withdrawn_does_not_wait_for_what_else_has_changed(
    follower: Follower, server: FakeApiServer
) -> None:
    server.put(KEYS, key_document("media/gone"))
    server.put(KEYS, key_document("media/dying"))
    await until(lambda: len(follower.catalogue.current().keys) == 3)
    await server.stop()
    before = len(follower.made)
    for index in range(450):
        server.put(KEYS, key_document(f"a/k{index}", aws={"keyArn": f"{KEY_ARN[:-4]}{index:04}"}))
    server.put(KEYS, key_document(state="Deactivated"))
    dying = key_document("media/dying")
    dying["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["example.com/wait"]}
    server.put(KEYS, dying)
    server.remove(KEYS, "media", "gone")
    # What comes is a list, so all of it at once.
    server.compact()
    await server.start()
    await until(lambda: len(follower.catalogue.current().keys) == 452, 20)
    first, *others = follower.made[before:]
    assert (problem_of(first, "brand"), "gone" in {name.name for name in first.keys}) == (Reason.KeyDeactivated, False)
    assert problem_of(first, "dying") is not None
    assert [len(made.keys) for made in (first, *others)] == [2 + 197, 2 + 397, 2 + 450]


def problem_of(catalogue: Catalogue, name: str) -> Reason | None:
    entry = catalogue.keys[ObjectName("media", name)]
    problem = entry if isinstance(entry, Refused) else entry.problem
    return problem.reason if problem else None


async def test_a_key_that_is_being_deleted_signs_no_more_though_a_finalizer_holds_it(
    follower: Follower, server: FakeApiServer
) -> None:
    dying = key_document()
    dying["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["example.com/wait"]}
    server.put(KEYS, dying)
    await until(lambda: follower.reason() is not None)


async def test_an_older_key_that_cannot_be_read_keeps_its_claim(follower: Follower, server: FakeApiServer) -> None:
    # The API server of these tests made them in one second, of which neither has the better claim.
    server.put(KEYS, key_document("evil/brand"))
    server.put(RECIPES, recipe_document("evil/photo", keyRef={"name": "brand"}))
    thiefs = ObjectName("evil", "photo")
    await follower.until_reason(Reason.KeyClaimedElsewhere, thiefs)
    server.put(KEYS, key_document(newField="of a later version"))
    await until(lambda: isinstance(follower.catalogue.current().keys[KEY], Refused))
    assert follower.reason(thiefs) is Reason.KeyClaimedElsewhere
    server.remove(KEYS, "media", "brand")
    await follower.until_reason(None, thiefs)


async def test_a_key_that_is_deleted_and_made_again_is_another_key(follower: Follower, server: FakeApiServer) -> None:
    before = follower.catalogue.current().keys[KEY]
    server.remove(KEYS, "media", "brand")
    uid = server.put(KEYS, key_document())["metadata"]["uid"]
    await until(lambda: uid == uid_of(follower.catalogue.current().keys[KEY]))
    assert uid_of(before) != uid


def uid_of(entry: KeyEntry | Refused) -> str | None:
    assert isinstance(entry, KeyEntry)
    return entry.manifest.metadata.uid


def stored(**metadata: Any) -> Body:  # noqa: ANN401 - any part of metadata
    document = key_document()
    document["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "5"} | metadata
    return document


@pytest.mark.parametrize(
    ("metadata", "same"),
    [
        ({"resourceVersion": "6"}, True),
        ({"annotations": {"a": "b"}}, True),
        ({"generation": 2}, False),
        ({"uid": "v"}, False),
        ({"labels": {"a": "b"}}, False),
        ({"creationTimestamp": "2026-01-01T00:00:00Z"}, False),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, False),
    ],
)
def test_an_object_is_read_again_only_if_anything_that_counts_has_changed(metadata: Body, *, same: bool) -> None:
    before = read("ByokKey", stored(), {})
    assert before is not None
    assert (read("ByokKey", stored(**metadata), {before.identity: before}) is before) is same


@pytest.mark.parametrize("body", [{}, {"metadata": []}, {"metadata": {"name": 5}}, {"metadata": {"namespace": {}}}])
def test_what_has_no_name_is_no_object(body: Body) -> None:
    assert read("ByokKey", body, {}) is None


def test_a_namespace_is_read_for_its_labels() -> None:
    body = namespace("news", team="press") | {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    seen = read("Namespace", body, {})
    assert isinstance(seen, Seen)
    assert isinstance(seen.found, Namespace)
    assert seen.found.labels == {"team": "press", "kubernetes.io/metadata.name": "news"}


def test_a_namespace_that_cannot_be_read_has_no_labels() -> None:
    seen = read("Namespace", {"metadata": {"name": "news", "labels": "none"}}, {})
    assert isinstance(seen, Seen)
    assert isinstance(seen.found, Unreadable)
