"""Reconciling, from what the API server has to what is written there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from byok_api.references import ObjectName
from byok_operator.observations import Outcome, ProbeFailure
from byok_operator.transitions import Event, EventType
from tests.support.eventually import until
from tests.support.fake_api_server import FakeApiServer
from tests.support.observed import DENIED, health
from tests.support.reconciling import COLLECTIONS, Operator, answering, key_spec, manifest, operator_on, recipe_spec


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


@pytest.fixture
async def operator(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[Operator]:
    async with operator_on(server, tmp_path) as running:
        yield running


async def _key_and_recipe(operator: Operator) -> None:
    operator.apply("ByokKey", "media/key", key_spec())
    operator.apply("SigningRecipe", "media/photo", recipe_spec())
    await operator.settled()


async def test_a_key_and_its_recipe_become_ready_by_one_write_each(operator: Operator) -> None:
    operator.apply("SigningRecipe", "media/photo", recipe_spec())
    operator.apply("ByokKey", "media/key", key_spec())
    await operator.settled()
    assert operator.says("ByokKey", "media/key") == "True/Verified"
    assert operator.says("SigningRecipe", "media/photo") == "True/Verified"
    assert len(operator.writes()) == 2
    assert operator.status("ByokKey", "media/key")["recipes"] == 1


async def test_from_cold_every_object_is_written_once_and_after_a_restart_none(
    server: FakeApiServer, tmp_path: Path
) -> None:
    for number in range(40):
        server.put(COLLECTIONS["SigningRecipe"], manifest("SigningRecipe", f"media/r{number}", recipe_spec()))
    server.put(COLLECTIONS["ByokKey"], manifest("ByokKey", "media/key", key_spec()))
    async with operator_on(server, tmp_path) as first:
        await first.settled()
        assert len(first.writes()) == 41
        assert {first.says("SigningRecipe", f"media/r{number}") for number in range(40)} == {"True/Verified"}
    server.requests.clear()
    async with operator_on(server, tmp_path) as second:
        await second.settled()
        assert second.writes() == []
        assert second.signers.requests == []


async def test_a_recipe_says_at_once_that_its_key_is_deleted(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.delete("ByokKey", "media/key")
    await operator.settled()
    assert operator.says("SigningRecipe", "media/photo") == "False/KeyMissing"


async def test_a_child_says_at_once_that_its_parent_is_deleted_and_that_it_is_back(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.apply("SigningRecipe", "media/child", {"version": 1, "extends": "photo@1"})
    await operator.settled()
    assert operator.says("SigningRecipe", "media/child") == "True/Verified"
    operator.delete("SigningRecipe", "media/photo")
    await operator.settled()
    assert operator.says("SigningRecipe", "media/child", "ParentResolved") == "False/RecipeInvalid"
    operator.apply("SigningRecipe", "media/photo", recipe_spec())
    await operator.settled()
    assert operator.says("SigningRecipe", "media/child") == "True/Verified"


async def test_a_key_that_kms_refuses_fails_its_recipes_too(operator: Operator) -> None:
    operator.signers.answer = answering(sign=DENIED)
    await _key_and_recipe(operator)
    assert operator.says("ByokKey", "media/key", "SignGranted") == "False/KeyAccessDenied"
    assert operator.says("SigningRecipe", "media/photo") == "False/KeyAccessDenied"


async def test_a_replicas_word_reaches_key_and_recipes_without_waiting_for_a_probe(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.signers.answer = answering(sign=DENIED)
    name = operator.signers.requests[0].name
    operator.signers.health[name] = [health(Outcome.FAILED, datetime.now(UTC))]
    operator.wake_key()
    await operator.settled()
    assert operator.says("SigningRecipe", "media/photo") == "False/KeyAccessDenied"


def _lose_the_grant(operator: Operator) -> None:
    operator.late = 6  # so that no probe was made a moment ago
    operator.signers.answer = lambda request: replace(answering(sign=DENIED)(request), at=operator.now())
    name = operator.signers.requests[0].name
    operator.signers.health[name] = [health(Outcome.FAILED, operator.now(), message="in the replica's words")]
    operator.wake_key()


async def test_one_loss_of_a_key_is_one_write_in_the_words_of_the_probe(operator: Operator) -> None:
    await _key_and_recipe(operator)
    before = len(operator.writes())
    operator.signers.gate.clear()
    _lose_the_grant(operator)
    await until(lambda: len(operator.signers.requests) == 2)
    assert operator.says("ByokKey", "media/key") == "True/Verified"
    operator.signers.gate.set()
    await until(lambda: operator.says("SigningRecipe", "media/photo") == "False/KeyAccessDenied")
    await operator.settled()
    assert len(operator.writes()) - before == 2
    assert DENIED.message in str(operator.status("ByokKey", "media/key"))


async def test_a_replicas_word_waits_two_seconds_for_a_probe_that_hangs(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.signers.gate.clear()
    _lose_the_grant(operator)
    await until(lambda: len(operator.signers.requests) == 2)
    operator.late += 2.5
    operator.wake_key()
    await until(lambda: operator.says("ByokKey", "media/key") == "False/KeyAccessDenied")
    assert "in the replica's words" in str(operator.status("ByokKey", "media/key"))
    operator.signers.gate.set()


async def test_a_new_generation_is_probed_and_written_once(operator: Operator) -> None:
    await _key_and_recipe(operator)
    before = len(operator.writes())
    operator.apply("ByokKey", "media/key", key_spec(description="new"))
    await operator.settled()
    assert operator.signers.requests[-1].generation == 2
    assert operator.status("ByokKey", "media/key")["observedGeneration"] == 2
    assert len(operator.writes()) - before == 1


async def test_an_edit_while_a_probe_is_under_way_is_probed_too(operator: Operator) -> None:
    operator.signers.gate.clear()
    operator.apply("ByokKey", "media/key", key_spec())
    await until(lambda: len(operator.signers.requests) == 1)
    operator.apply("ByokKey", "media/key", key_spec(description="new"))
    operator.signers.gate.set()
    await operator.settled()
    assert [request.generation for request in operator.signers.requests] == [1, 2]
    assert operator.says("ByokKey", "media/key") == "True/Verified"


async def test_a_key_made_again_while_its_probe_is_under_way_is_probed_too(operator: Operator) -> None:
    operator.signers.gate.clear()
    operator.apply("ByokKey", "media/key", key_spec())
    await until(lambda: len(operator.signers.requests) == 1)
    operator.delete("ByokKey", "media/key")
    second = operator.apply("ByokKey", "media/key", key_spec())
    operator.signers.gate.set()
    await operator.settled()
    assert [request.uid for request in operator.signers.requests][1:] == [second["metadata"]["uid"]]
    assert operator.says("ByokKey", "media/key") == "True/Verified"


async def test_a_probe_that_takes_long_does_not_keep_a_key_without_status(operator: Operator) -> None:
    operator.signers.gate.clear()
    operator.apply("ByokKey", "media/key", key_spec())
    await until(lambda: bool(operator.signers.requests))
    operator.late = 5
    operator.store.changed("ByokKey", "MODIFIED", operator.server.put(*_touched(operator)))
    await operator.settled()
    assert operator.says("ByokKey", "media/key") == "Unknown/Validating"
    operator.signers.gate.set()
    await until(lambda: operator.says("ByokKey", "media/key") == "True/Verified")


def _touched(operator: Operator) -> tuple[str, dict[str, object]]:
    return COLLECTIONS["ByokKey"], operator.stored("ByokKey", "media/key")


async def test_an_annotation_has_a_key_probed_again_and_its_value_is_kept(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.apply("ByokKey", "media/key", key_spec(), annotations={"byok.dev/reverify": "monday"})
    await operator.settled()
    assert operator.signers.requests[-1].reverify == "monday"
    assert len(operator.signers.requests) == 2
    assert operator.status("ByokKey", "media/key")["lastHandledReverify"] == "monday"


async def test_a_signer_that_is_away_leaves_a_ready_key_ready_until_it_is_stale(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.signers.answer = lambda _: ProbeFailure(operator.now(), "SignerUnreachable", "no signer answers")
    operator.late = 20 * 60
    operator.wake_key()
    await operator.settled()
    assert operator.says("ByokKey", "media/key") == "True/LastVerified"
    operator.late = 26 * 3600
    operator.wake_key()
    await operator.settled()
    assert operator.says("ByokKey", "media/key").startswith("Unknown/")
    assert operator.says("SigningRecipe", "media/photo").startswith("Unknown/")


async def test_a_key_does_not_wait_out_its_retry_once_a_signer_is_back(operator: Operator) -> None:
    operator.signers.answer = lambda _: ProbeFailure(operator.now(), "SignerUnreachable", "no signer answers")
    await _key_and_recipe(operator)
    assert operator.says("ByokKey", "media/key") == "Unknown/SignerUnreachable"
    operator.signers.answer, operator.signers.came_at = answering(), operator.now()
    operator.late = 10
    operator.wake_key()
    await operator.settled()
    assert operator.says("SigningRecipe", "media/photo") == "True/Verified"


async def test_a_forged_status_is_overwritten(operator: Operator) -> None:
    operator.signers.answer = answering(sign=DENIED)
    await _key_and_recipe(operator)
    forged = operator.stored("ByokKey", "media/key")
    for condition in forged["status"]["conditions"]:
        condition |= {"status": "True", "reason": "Verified"}
    operator.store.changed("ByokKey", "MODIFIED", operator.server.put(COLLECTIONS["ByokKey"], forged))
    await operator.settled()
    assert operator.says("ByokKey", "media/key") == "False/KeyAccessDenied"
    assert operator.says("SigningRecipe", "media/photo") == "False/KeyAccessDenied"


async def test_what_others_added_to_a_status_is_not_fought_over(operator: Operator) -> None:
    await _key_and_recipe(operator)
    foreign = operator.stored("ByokKey", "media/key")
    foreign["status"]["strange"] = "text"  # the fake's apply merges, and so does not remove it
    operator.store.changed("ByokKey", "MODIFIED", operator.server.put(COLLECTIONS["ByokKey"], foreign))
    await operator.settled()
    before = len(operator.writes())
    for _ in range(3):
        operator.wake_key()
        await operator.settled()
    assert len(operator.writes()) == before


async def test_a_write_onto_an_object_that_changed_meanwhile_is_refused_and_made_again(operator: Operator) -> None:
    operator.signers.gate.clear()
    operator.apply("ByokKey", "media/key", key_spec())
    await until(lambda: bool(operator.signers.requests))
    # Nobody tells the operator of this one.
    operator.server.put(COLLECTIONS["ByokKey"], manifest("ByokKey", "media/key", key_spec(state="Deactivated")))
    operator.signers.gate.set()
    await until(lambda: operator.says("ByokKey", "media/key") == "False/KeyDeactivated")
    assert operator.reconciles("ByokKey", "conflict") == 1


async def test_an_object_that_went_unheard_is_forgotten_when_it_is_written(operator: Operator) -> None:
    operator.signers.gate.clear()
    operator.apply("ByokKey", "media/key", key_spec())
    await until(lambda: bool(operator.signers.requests))
    operator.server.remove(COLLECTIONS["ByokKey"], "media", "key")
    operator.signers.gate.set()
    await until(lambda: operator.reconciles("ByokKey", "gone") >= 1)
    assert list(operator.store.identities()) == []


async def test_a_write_that_fails_is_tried_again(operator: Operator) -> None:
    operator.server.answers = [web.json_response({"kind": "Status"}, status=500) for _ in range(3)]
    operator.apply("SigningRecipe", "media/photo", recipe_spec())
    await until(lambda: operator.says("SigningRecipe", "media/photo") == "False/KeyMissing")
    assert operator.reconciles("SigningRecipe", "unavailable") == 3


async def test_a_write_that_the_api_server_puts_off_waits_as_long_as_it_says(operator: Operator) -> None:
    headers = {"Retry-After": "30"}
    operator.server.answers = [web.json_response({"kind": "Status"}, status=429, headers=headers)]
    operator.apply("SigningRecipe", "media/photo", recipe_spec())
    await until(lambda: operator.reconciles("SigningRecipe", "unavailable") == 1)
    await operator.settled()
    assert operator.says("SigningRecipe", "media/photo") == ""


async def test_one_that_does_not_lead_writes_nothing(operator: Operator) -> None:
    operator.leading = False
    await _key_and_recipe(operator)
    assert operator.server.writes() == []


async def test_a_bug_in_one_object_stops_no_other(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> ProbeFailure:
        raise ZeroDivisionError

    operator.signers.answer = broken
    await _key_and_recipe(operator)
    assert operator.says("ByokKey", "media/key") == "Unknown/Internal"
    assert "a probe broke off" in caplog.messages


async def test_an_event_tells_what_has_changed_and_why(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.delete("ByokKey", "media/key")
    await operator.settled()
    await operator.events.flush(5)
    await until(lambda: len(_events(operator)) >= 3)
    (event,) = [event for event in _events(operator) if event["reason"] == "KeyMissing"]
    assert event["type"] == "Warning"
    assert event["regarding"]["name"] == "photo"
    assert event["regarding"]["uid"] == operator.stored("SigningRecipe", "media/photo")["metadata"]["uid"]
    assert "media/key" in event["note"]


def _events(operator: Operator) -> list[dict[str, Any]]:
    return list(operator.server.objects["events.k8s.io/events"].values())


async def test_an_event_that_cannot_be_written_is_logged_and_holds_no_other_up(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.server.answers = [web.json_response({"kind": "Status", "reason": "Forbidden"}, status=403)]
    for reason in ("First", "Second"):
        event = Event(EventType.NORMAL, reason, "note")
        operator.events.tell(("ByokKey", ObjectName("media", "key")), "uid", event)
    await until(lambda: [event["reason"] for event in _events(operator)] == ["Second"])
    assert "an event could not be written" in caplog.messages


async def test_events_beyond_the_room_for_them_are_dropped_and_counted(operator: Operator) -> None:
    event = Event(EventType.NORMAL, "Verified", "note")
    for _ in range(1500):
        operator.events.tell(("ByokKey", ObjectName("media", "key")), "uid", event)
    assert operator.measured("byok_operator_events_dropped_total") == 500


async def test_users_objects_get_no_finalizer_and_no_annotation(operator: Operator) -> None:
    before = operator.apply("ByokKey", "media/key", key_spec())["metadata"]
    await operator.settled()
    after = operator.stored("ByokKey", "media/key")["metadata"]
    assert {**before, "resourceVersion": ""} == {**after, "resourceVersion": ""}


async def test_a_list_each_minute_finds_what_was_deleted_unheard(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.server.remove(COLLECTIONS["ByokKey"], "media", "key")
    await operator.lists.fill_again()
    await operator.settled()
    assert operator.says("SigningRecipe", "media/photo") == "False/KeyMissing"


async def test_recipes_are_counted_at_most_every_half_minute(operator: Operator) -> None:
    await _key_and_recipe(operator)
    await asyncio.sleep(0)
    operator.apply("SigningRecipe", "media/second", recipe_spec())
    await operator.settled()
    assert operator.status("ByokKey", "media/key")["recipes"] in (1, 2)
    operator.late = 31
    operator.wake_key()
    await operator.settled()
    assert operator.status("ByokKey", "media/key")["recipes"] == 2


async def test_a_field_that_this_version_does_not_know_hides_nothing_of_the_status(operator: Operator) -> None:
    await _key_and_recipe(operator)
    before = operator.status("ByokKey", "media/key")["conditions"]
    strange = operator.stored("ByokKey", "media/key")
    strange["status"] |= {"fromTheFuture": {"some": "thing"}, "recipes": "many"}
    operator.late = 100
    operator.store.changed("ByokKey", "MODIFIED", operator.server.put(COLLECTIONS["ByokKey"], strange))
    await operator.settled()
    assert operator.status("ByokKey", "media/key")["recipes"] == 1
    assert operator.status("ByokKey", "media/key")["conditions"] == before


async def test_what_an_owner_decides_does_not_wait_for_signers_that_hang(operator: Operator) -> None:
    await _key_and_recipe(operator)
    operator.signers.gate.clear()
    operator.apply("ByokKey", "media/key", key_spec(state="Deactivated"))
    await until(lambda: len(operator.signers.requests) == 2)
    assert operator.says("ByokKey", "media/key") == "True/Verified"
    operator.late += 2.5
    operator.wake_key()
    await operator.settled()
    assert operator.says("ByokKey", "media/key") == "False/KeyDeactivated"


async def test_keys_whose_turn_does_not_come_are_written_without_their_probe(
    server: FakeApiServer, tmp_path: Path
) -> None:
    for number in range(8):
        arn = f"arn:aws:kms:eu-central-1:111122223333:key/k{number}"
        server.put(COLLECTIONS["ByokKey"], manifest("ByokKey", f"media/k{number}", key_spec(aws={"keyArn": arn})))
    async with operator_on(server, tmp_path) as operator:
        operator.signers.gate.clear()
        await until(lambda: len(operator.signers.requests) == 4)
        operator.late = 5.5
        operator.queue.add_all(operator.store.identities())
        await operator.settled()
        assert {operator.says("ByokKey", f"media/k{number}") for number in range(8)} == {"Unknown/Validating"}
