"""Consumers' namespaces hold what the list and the bundle say."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.consumers import Consumer
from byok_operator.metrics import Metrics
from byok_service.kubernetes import KubernetesApi
from tests.support.fake_api_server import Body, FakeApiServer
from tests.support.observed import NOW

CONFIG_MAPS, BINDINGS = "/configmaps", "rbac.authorization.k8s.io/rolebindings"
OWNERS = "rbac.authorization.k8s.io/clusterroles"
LISTED = (Consumer("media", ("job",)), Consumer("news", ("job", "other")))
OURS = {"app.kubernetes.io/managed-by": "byok-operator"}
APPLIED = [{"manager": "byok-operator", "operation": "Apply"}]


class Keeping:
    """A keeper, and the namespaces that there are."""

    def __init__(self, api: KubernetesApi, server: FakeApiServer) -> None:
        self.api = api
        self.server = server
        self.present = {"media", "default"}
        self.metrics = Metrics(lambda: NOW)
        self.restart(*LISTED)

    def restart(self, *listed: Consumer) -> None:
        self.keeper = ConsumerKeeper(
            self.api, listed, address="signer.svc:8443", namespaces=lambda: self.present, metrics=self.metrics
        )

    async def look(self, bundle: bytes | None = b"CA\n") -> tuple[str, ...]:
        await self.keeper.refresh(bundle)
        return self.keeper.problems

    def served(self) -> dict[str, list[str]]:
        """Namespaces in which somebody may sign, and who."""
        return {
            namespace: [subject["name"] for subject in body["subjects"]]
            for (namespace, _), body in self.server.objects[BINDINGS].items()
        }

    def told(self, namespace: str) -> Body:
        return dict(self.server.objects[CONFIG_MAPS][namespace, "byok-signer"]["data"])

    def count(self, state: str) -> float | None:
        return self.metrics.registry.get_sample_value("byok_operator_consumer_namespaces", {"state": state})


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        server.put(OWNERS, {"metadata": {"name": "byok-operator"}})
        yield server


@pytest.fixture
async def keeping(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[Keeping]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    yield Keeping(api, server)
    await api.close()


async def test_each_that_is_there_is_served_and_one_that_appears_too(keeping: Keeping) -> None:
    assert await keeping.look() == ()
    assert keeping.served() == {"media": ["job"]}
    assert keeping.told("media") == {"address": "signer.svc:8443", "ca.crt": "CA\n"}
    assert not keeping.keeper.has_news
    keeping.present.add("news")
    assert keeping.keeper.has_news
    await keeping.look()
    assert keeping.served() == {"media": ["job"], "news": ["job", "other"]}
    assert not keeping.keeper.has_news


async def test_all_is_applied_by_name_and_what_is_as_it_should_be_is_not_written(keeping: Keeping) -> None:
    await keeping.look()
    writes = keeping.server.writes()
    assert {method for method, _ in writes} == {"PATCH"}
    assert all(path.endswith("/byok-signer?fieldManager=byok-operator&force=true") for _, path in writes)
    await keeping.look()
    keeping.restart(*LISTED)
    await keeping.look()
    assert keeping.server.writes() == writes


async def test_what_somebody_changed_or_deleted_is_restored(keeping: Keeping) -> None:
    await keeping.look()
    stored = keeping.server.objects[CONFIG_MAPS]["media", "byok-signer"]
    keeping.server.put(CONFIG_MAPS, {**stored, "data": {"address": "elsewhere:1", "ca.crt": "theirs"}})
    keeping.server.remove(BINDINGS, "media", "byok-signer")
    assert await keeping.look() == ()
    assert keeping.told("media")["address"] == "signer.svc:8443"
    assert keeping.served() == {"media": ["job"]}


async def test_another_bundle_or_another_owner_is_told_to_all(keeping: Keeping) -> None:
    await keeping.look()
    keeping.server.remove(OWNERS, "", "byok-operator")
    owner = keeping.server.put(OWNERS, {"metadata": {"name": "byok-operator"}})["metadata"]["uid"]
    await keeping.look(b"CA\nANOTHER\n")
    assert keeping.told("media")["ca.crt"] == "CA\nANOTHER\n"
    for collection in (CONFIG_MAPS, BINDINGS):
        (reference,) = keeping.server.objects[collection]["media", "byok-signer"]["metadata"]["ownerReferences"]
        assert reference["uid"] == owner


async def test_a_bundle_is_known_once_all_that_are_there_have_it(keeping: Keeping) -> None:
    assert keeping.keeper.known is None
    keeping.server.answers.append(web.json_response({"reason": "Forbidden", "message": "no"}, status=403))
    await keeping.look()
    assert keeping.keeper.known is None
    await keeping.look()
    assert keeping.keeper.known == b"CA\n"


async def test_without_a_ca_accounts_are_let_in_already(keeping: Keeping) -> None:
    assert await keeping.look(None) == ()
    assert keeping.served() == {"media": ["job"]}
    assert keeping.server.objects[CONFIG_MAPS] == {}
    assert keeping.count("failed") == 1


async def test_without_an_owner_nothing_is_given_as_nothing_would_take_it_away(keeping: Keeping) -> None:
    keeping.server.remove(OWNERS, "", "byok-operator")
    (problem,) = await keeping.look()
    assert "ClusterRole byok-operator, which owns what consumers are given, cannot be read" in problem
    assert keeping.server.writes() == []


@pytest.mark.parametrize("collection", [CONFIG_MAPS, BINDINGS])
async def test_who_is_no_consumer_any_more_loses_what_the_operator_gave_and_keeps_the_rest(
    keeping: Keeping, collection: str
) -> None:
    ours = {"name": "byok-signer", "namespace": "default", "labels": OURS, "managedFields": APPLIED}
    keeping.server.put(collection, {"metadata": ours})
    keeping.server.put(collection, {"metadata": {**ours, "name": "theirs"}})
    assert await keeping.look() == ()
    assert ("default", "byok-signer") not in keeping.server.objects[collection]
    assert ("default", "theirs") in keeping.server.objects[collection]
    keeping.restart()
    keeping.server.put(collection, {"metadata": {**ours, "managedFields": []}})
    assert await keeping.look() == ()
    assert ("default", "byok-signer") in keeping.server.objects[collection]


async def test_what_could_not_be_taken_away_is_named_and_tried_again(keeping: Keeping) -> None:
    keeping.restart()
    body = {"metadata": {"name": "byok-signer", "namespace": "default", "labels": OURS, "managedFields": APPLIED}}
    keeping.server.put(BINDINGS, body)
    keeping.server.answers.append(web.json_response({"reason": "Forbidden", "message": "no right"}, status=403))
    (problem,) = await keeping.look()
    assert "rolebindings.rbac.authorization.k8s.io default/byok-signer could not be taken away" in problem
    assert await keeping.look() == ()
    assert keeping.served() == {}


async def test_a_namespace_is_searched_once(keeping: Keeping) -> None:
    await keeping.look()
    before = len(keeping.server.requests)
    await keeping.look()
    assert not [path for _, path in keeping.server.requests[before:] if "/default/" in path]


@pytest.mark.parametrize(
    ("message", "reason", "expected"),
    [
        ("roleRef: Invalid value: cannot change roleRef", "Invalid", "kubectl -n media delete rolebinding byok-signer"),
        ("denied by a policy", "Forbidden", "denied by a policy; it is tried again"),
        ("unable to create new content in namespace media because it is being terminated", "Forbidden", ""),
    ],
)
async def test_what_is_refused_is_named_with_what_to_do(
    keeping: Keeping, message: str, reason: str, expected: str
) -> None:
    await keeping.look()
    keeping.server.remove(BINDINGS, "media", "byok-signer")
    refusal = web.json_response({"reason": reason, "message": message}, status=422)
    absent = web.json_response({"reason": "NotFound", "message": "not found"}, status=404)
    owner = web.json_response(keeping.server.objects[OWNERS]["", "byok-operator"])
    keeping.server.answers += [owner, absent, refusal]
    problems = await keeping.look()
    assert len(problems) == bool(expected)
    assert expected in "".join(problems)


async def test_an_api_server_that_is_away_is_asked_again(keeping: Keeping) -> None:
    await keeping.server.stop()
    (problem,) = await keeping.look()
    assert "it is tried again" in problem
    await keeping.server.start()
    assert await keeping.look() == ()


async def test_consumers_are_counted_by_what_became_of_them(keeping: Keeping) -> None:
    await keeping.look()
    assert [keeping.count(state) for state in ("served", "absent", "failed")] == [1, 1, 0]
