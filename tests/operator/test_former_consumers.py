"""Who is no consumer any more loses what the operator gave, and nothing else."""

from typing import Any

import pytest
from aiohttp import web

from tests.support.consumer_keeping import APPLIED, CONFIG_MAPS, HOUR, OURS, Keeping


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
    keeping.cannot_clear("default", "news")
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
    keeping.cannot_clear("default", "media")
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
    keeping.cannot_clear(*(f"a{index}" for index in range(101)))
    keeping.was_served("zeta")
    for _ in range(2):
        await keeping.look()
    assert "zeta" not in keeping.served()
    assert not keeping.keeper.has_news
