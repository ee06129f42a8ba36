"""Consumers' namespaces hold what the list and the bundle say."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.consumers import Consumer, owner_reference, role_binding
from byok_operator.metrics import Metrics
from byok_service.kubernetes import KubernetesApi
from tests.support.fake_api_server import Body, FakeApiServer, Target
from tests.support.observed import NOW

CONFIG_MAPS, BINDINGS = "/configmaps", "rbac.authorization.k8s.io/rolebindings"
OWNERS = "rbac.authorization.k8s.io/clusterroles"
LISTED = (Consumer("media", ("job",)), Consumer("news", ("job", "other")))
OURS = {"app.kubernetes.io/managed-by": "byok-operator"}
APPLIED = [{"manager": "byok-operator", "operation": "Apply"}]


HOUR = 3600.0


class Server(FakeApiServer):
    """With webhooks that nobody answers, in some namespaces, and with finalizers."""

    def __init__(self) -> None:
        super().__init__()
        self.spoiled: set[str] = set()
        self.refuses_changes = False

    async def _answer(self, request: web.Request, target: Target) -> web.Response:
        if request.method != "GET" and target.namespace in self.spoiled:
            message = 'failed calling webhook "quota.example.com": connect: connection refused'
            return web.json_response({"reason": "InternalError", "message": message}, status=500)
        if request.method == "PATCH" and target.namespace == "default" and self.refuses_changes:
            return web.json_response({"reason": "Forbidden", "message": "no consumer"}, status=403)
        stored = self.objects[target.collection].get(target.identity, {})
        if request.method == "DELETE" and stored.get("metadata", {}).get("finalizers"):
            stored["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return web.json_response(stored)
        return await super()._answer(request, target)


class Keeping:
    """A keeper, and the namespaces that there are."""

    def __init__(self, api: KubernetesApi, server: Server) -> None:
        self.api = api
        self.seconds = 0.0
        self.server = server
        self.present = {"media", "default"}
        self.metrics = Metrics(lambda: NOW)
        self.restart(*LISTED)

    def restart(self, *listed: Consumer) -> None:
        self.keeper = ConsumerKeeper(
            self.api, listed, address="signer.svc:8443", namespaces=lambda: self.present, metrics=self.metrics
        )

    async def look(self, bundle: bytes | None = b"CA\n") -> tuple[str, ...]:
        await self.keeper.refresh(bundle, seconds=self.seconds)
        return self.keeper.problems

    def served(self) -> dict[str, list[str]]:
        """Namespaces in which somebody may sign, and who."""
        return {
            namespace: [subject["name"] for subject in body["subjects"]]
            for (namespace, _), body in self.server.objects[BINDINGS].items()
        }

    def was_served(self, namespace: str, **metadata: Any) -> None:  # noqa: ANN401 - of a RoleBinding
        """Leave what an earlier leader gave, and somebody has changed since."""
        body = role_binding(Consumer(namespace, ("job",)), owner_reference("uid-1"))
        body["metadata"] |= {"managedFields": APPLIED, **metadata}
        self.server.put(BINDINGS, body)
        self.present.add(namespace)

    def told(self, namespace: str) -> Body:
        return dict(self.server.objects[CONFIG_MAPS][namespace, "byok-signer"]["data"])

    def count(self, state: str) -> float | None:
        return self.metrics.registry.get_sample_value("byok_operator_consumer_namespaces", {"state": state})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as server:
        server.put(OWNERS, {"metadata": {"name": "byok-operator"}})
        yield server


@pytest.fixture
async def keeping(server: Server, tmp_path: Path) -> AsyncIterator[Keeping]:
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


async def test_who_is_no_consumer_any_more_loses_what_the_operator_gave_and_keeps_the_rest(keeping: Keeping) -> None:
    ours = {"name": "byok-signer", "namespace": "default", "labels": OURS, "managedFields": APPLIED}
    keeping.was_served("default")
    keeping.server.put(CONFIG_MAPS, {"metadata": ours})
    keeping.server.put(CONFIG_MAPS, {"metadata": {**ours, "name": "theirs"}})
    keeping.server.put(CONFIG_MAPS, {"metadata": {**ours, "namespace": "other", "managedFields": []}})
    keeping.present.add("other")
    assert await keeping.look() == ()
    assert keeping.served() == {"media": ["job"]}
    assert set(keeping.server.objects[CONFIG_MAPS]) == {
        ("media", "byok-signer"),
        ("default", "theirs"),
        ("other", "byok-signer"),
    }


@pytest.mark.parametrize("change", [{"managedFields": []}, {"managedFields": [{}]}, {"ownerReferences": []}])
async def test_what_a_tenant_may_change_of_a_role_binding_keeps_it_from_nobody(
    keeping: Keeping, change: dict[str, Any]
) -> None:
    keeping.was_served("default", **change)
    assert await keeping.look() == ()
    assert keeping.served() == {"media": ["job"]}


async def test_a_role_binding_that_finalizers_keep_lets_nobody_sign(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keeping.was_served("default", finalizers=["example.com/stay"])
    assert await keeping.look() == ()
    assert keeping.served() == {"media": ["job"], "default": []}
    assert "emptied, as finalizers keep it" in caplog.messages
    writes = len(keeping.server.writes())
    keeping.seconds += HOUR
    assert await keeping.look() == ()
    assert [method for method, _ in keeping.server.writes()[writes:]] == ["DELETE"]


async def test_one_that_can_be_neither_deleted_nor_emptied_is_named_until_it_is(keeping: Keeping) -> None:
    keeping.was_served("default", finalizers=["example.com/stay"])
    keeping.server.refuses_changes = True
    for _ in range(2):
        (problem,) = await keeping.look()
        assert "default/byok-signer could not be taken away" in problem
    keeping.server.refuses_changes = False
    assert await keeping.look() == ()
    assert keeping.served()["default"] == []


async def test_a_config_map_that_finalizers_keep_is_named_until_it_is_gone(keeping: Keeping) -> None:
    ours = {"name": "byok-signer", "namespace": "default", "labels": OURS, "managedFields": APPLIED}
    keeping.server.put(CONFIG_MAPS, {"metadata": {**ours, "finalizers": ["example.com/stay"]}})
    for _ in range(2):
        (problem,) = await keeping.look()
        assert "configmaps default/byok-signer could not be taken away" in problem
    keeping.server.put(CONFIG_MAPS, {"metadata": ours})
    assert await keeping.look() == ()
    assert set(keeping.server.objects[CONFIG_MAPS]) == {("media", "byok-signer")}


async def test_what_could_not_be_taken_away_is_named_and_tried_again(keeping: Keeping) -> None:
    keeping.restart()
    keeping.was_served("default")
    keeping.server.answers.append(web.json_response({"reason": "Forbidden", "message": "no right"}, status=403))
    (problem,) = await keeping.look()
    assert "rolebindings.rbac.authorization.k8s.io default/byok-signer could not be taken away" in problem
    assert await keeping.look() == ()
    assert keeping.served() == {}


async def test_namespaces_that_cannot_be_cleared_are_counted_until_they_are(keeping: Keeping) -> None:
    keeping.restart()
    for namespace in ("default", "news"):
        keeping.was_served(namespace)
    keeping.server.spoiled = {"default", "news"}
    await keeping.look()
    assert keeping.count("uncleared") == 2
    keeping.server.spoiled = {"news"}
    await keeping.look()
    assert keeping.count("uncleared") == 1
    keeping.present.remove("news")
    await keeping.look()
    assert keeping.count("uncleared") == 0


async def test_one_that_could_not_be_cleared_still_counts_while_the_api_server_is_away(keeping: Keeping) -> None:
    keeping.restart()
    for namespace in ("default", "media"):
        keeping.was_served(namespace)
    keeping.server.spoiled = {"default", "media"}
    await keeping.look()
    keeping.server.answers += [web.json_response({"message": "overloaded"}, status=503) for _ in range(20)]
    assert "consumers could not be looked after" in (await keeping.look())[-1]
    assert keeping.count("uncleared") == 2


async def test_a_namespace_is_searched_once_an_hour(keeping: Keeping) -> None:
    await keeping.look()
    keeping.was_served("default")
    keeping.seconds = HOUR - 1
    before = len(keeping.server.requests)
    await keeping.look()
    assert not [path for _, path in keeping.server.requests[before:] if "/default/" in path]
    # Such as one that a backup brought back.
    keeping.seconds = HOUR
    await keeping.look()
    assert keeping.served() == {"media": ["job"]}


async def test_many_namespaces_are_searched_over_several_looks_that_follow_each_other(keeping: Keeping) -> None:
    keeping.present |= {f"n{index}" for index in range(250)}
    keeping.was_served("zeta")
    for left in (2, 1, 0):
        await keeping.look()
        assert keeping.keeper.has_news == bool(left)
        assert ("zeta" in keeping.served()) == bool(left)


async def test_namespaces_that_cannot_be_cleared_do_not_keep_others_from_their_turn(keeping: Keeping) -> None:
    keeping.restart()
    keeping.server.spoiled = {f"a{index}" for index in range(101)}
    for namespace in keeping.server.spoiled:
        keeping.was_served(namespace)
    keeping.was_served("zeta")
    for _ in range(2):
        await keeping.look()
    assert "zeta" not in keeping.served()
    assert not keeping.keeper.has_news


async def test_one_bad_namespace_costs_no_other_anything(keeping: Keeping) -> None:
    keeping.restart(Consumer("alpha", ("job",)), Consumer("beta", ("job",)))
    keeping.present |= {"alpha", "beta"}
    for former in ("gamma", "zeta"):
        keeping.was_served(former)
    keeping.server.spoiled = {"alpha", "gamma"}
    problems = await keeping.look()
    assert [words in problem for words, problem in zip(("alpha", "alpha", "gamma"), problems, strict=True)] == [
        True
    ] * 3
    assert "failed calling webhook" in problems[0]
    assert keeping.served() == {"beta": ["job"], "gamma": ["job"]}
    assert [keeping.count(state) for state in ("served", "absent", "failed")] == [1, 0, 1]
    assert not keeping.keeper.has_news
    keeping.server.spoiled = set()
    assert await keeping.look() == ()
    assert set(keeping.served()) == {"alpha", "beta"}


async def test_a_consumer_that_fails_holds_a_bundle_up_for_an_hour_unless_all_fail(keeping: Keeping) -> None:
    keeping.present.add("news")
    keeping.server.spoiled = {"media"}
    for seconds, known in ((0, None), (HOUR - 1, None), (HOUR, b"CA\n")):
        keeping.seconds = seconds
        await keeping.look()
        assert keeping.keeper.known == known
    assert keeping.count("failed") == 1
    keeping.server.spoiled |= {"news"}
    for after in (0, 2 * HOUR):
        keeping.seconds += after
        await keeping.look(b"ANOTHER\n")
        assert keeping.keeper.known is None


async def test_a_consumer_that_was_served_meanwhile_is_waited_for_anew(keeping: Keeping) -> None:
    keeping.present.add("news")
    for seconds, spoiled in ((0, {"media"}), (10, set()), (HOUR, {"media"})):
        keeping.seconds, keeping.server.spoiled = seconds, spoiled
        await keeping.look(f"{seconds}".encode())
        assert (keeping.keeper.known is None) == bool(spoiled)


async def test_who_is_no_consumer_holds_no_bundle_up(keeping: Keeping) -> None:
    keeping.was_served("default")
    keeping.server.spoiled = {"default"}
    assert len(await keeping.look()) == 1
    assert keeping.keeper.known == b"CA\n"


async def test_an_owner_that_somebody_adds_is_left_and_nothing_is_applied_again(keeping: Keeping) -> None:
    await keeping.look()
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "theirs"}
    for collection in (CONFIG_MAPS, BINDINGS):
        body = keeping.server.objects[collection]["media", "byok-signer"]
        ours = body["metadata"]["ownerReferences"]
        keeping.server.put(collection, {**body, "metadata": {**body["metadata"], "ownerReferences": [theirs, *ours]}})
    writes = keeping.server.writes()
    assert await keeping.look() == ()
    assert keeping.server.writes() == writes


@pytest.mark.parametrize(
    ("message", "reason", "expected"),
    [
        (
            "cannot change roleRef",
            "Invalid",
            "kubectl -n media delete rolebindings byok-signer",
        ),
        ("denied by a policy", "Forbidden", "denied by a policy; it is tried again"),
        ("unable to create new content in namespace media because it is being terminated", "Forbidden", ""),
    ],
)
async def test_what_is_refused_is_named_with_what_to_do(
    keeping: Keeping, message: str, reason: str, expected: str
) -> None:
    await refuse(keeping, BINDINGS, reason, message)
    problems = await keeping.look()
    assert len(problems) == bool(expected)
    assert expected in "".join(problems)


async def test_a_config_map_that_is_immutable_is_named_with_what_to_do(keeping: Keeping) -> None:
    await refuse(keeping, CONFIG_MAPS, "Invalid", "field is immutable when `immutable` is set")
    (problem,) = await keeping.look()
    assert "kubectl -n media delete configmaps byok-signer" in problem


async def refuse(keeping: Keeping, collection: str, reason: str, message: str) -> None:
    """Have the next look's write of an object refused."""
    await keeping.look()
    answers = [keeping.server.objects[OWNERS]["", "byok-operator"]]
    if collection == CONFIG_MAPS:
        answers.append(keeping.server.objects[BINDINGS]["media", "byok-signer"])
    keeping.server.answers += [web.json_response(answer) for answer in answers]
    keeping.server.answers.append(web.json_response({"reason": "NotFound", "message": "not found"}, status=404))
    keeping.server.answers.append(web.json_response({"reason": reason, "message": message}, status=422))


async def test_an_api_server_that_is_away_is_left_in_peace_until_the_next_look(keeping: Keeping) -> None:
    keeping.present |= {f"n{index}" for index in range(10)}
    keeping.server.answers.append(web.json_response(keeping.server.objects[OWNERS]["", "byok-operator"]))
    keeping.server.answers += [web.json_response({"message": "overloaded"}, status=503) for _ in range(20)]
    problems = await keeping.look()
    assert "consumers could not be looked after" in problems[-1]
    # The owner, and three attempts.
    assert len(keeping.server.answers) == 17
    assert not keeping.keeper.has_news
    assert [keeping.count(state) for state in ("served", "absent", "failed")] == [0, 1, 1]


async def test_an_api_server_that_is_away_is_asked_again(keeping: Keeping) -> None:
    await keeping.server.stop()
    (problem,) = await keeping.look()
    assert "it is tried again" in problem
    await keeping.server.start()
    assert await keeping.look() == ()


async def test_consumers_are_counted_by_what_became_of_them(keeping: Keeping) -> None:
    await keeping.look()
    assert [keeping.count(state) for state in ("served", "absent", "failed")] == [1, 1, 0]
