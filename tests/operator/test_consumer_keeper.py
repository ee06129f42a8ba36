"""Consumers' namespaces hold what the list and the bundle say."""

import pytest
from aiohttp import web

from byok_operator.consumers import Consumer
from tests.support.consumer_keeping import BINDINGS, CONFIG_MAPS, HOUR, LISTED, OWNERS, Keeping


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
