"""The store: events, lists of our own and answers to our own writes, in whatever order they come."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from byok_api.installation import Rules
from byok_api.inventory import Inventory
from byok_api.key_rules import KeyStanding
from byok_api.objects import Identity, Unreadable
from byok_api.references import ObjectName
from byok_operator.store import Comparison, Kind, Store

_KEY: Identity = ("ByokKey", ObjectName("media", "key"))
_RECIPE: Identity = ("SigningRecipe", ObjectName("media", "photo"))


@dataclass
class Bench:
    """A store, its inventory, and what it wanted looked at again."""

    inventory: Inventory = field(
        default_factory=lambda: Inventory(Rules(installation="test", presets_namespace="byok-system"))
    )
    woken: set[Identity] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = Store(self.inventory, wake=self._wake)

    def _wake(self, identities: Iterable[Identity]) -> None:
        self.woken |= set(identities)

    def woken_since(self) -> set[Identity]:
        woken, self.woken = self.woken, set()
        return woken


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _object(kind: Kind, name: str, version: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any part of an object
    arn = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000001"
    specs: dict[Kind, dict[str, Any]] = {
        "ByokKey": {"aws": {"keyArn": arn}},
        "SigningRecipe": {"version": 1, "c2pa": {"assertions": ["ai_generated"]}, "keyRef": {"name": "key"}},
        "Namespace": {},
    }
    metadata = {"name": name, "uid": f"uid-{name}", "generation": 1, "resourceVersion": str(version)}
    if kind != "Namespace":
        metadata["namespace"] = "media"
    metadata |= changes.pop("metadata", {})
    return {"metadata": metadata, "spec": specs[kind] | changes.pop("spec", {}), **changes}


def test_a_new_key_wakes_itself_and_the_recipes_that_name_it(bench: Bench) -> None:
    bench.store.changed("SigningRecipe", "ADDED", _object("SigningRecipe", "photo", 1))
    bench.woken_since()
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 2))
    assert bench.woken_since() == {_KEY, _RECIPE}
    assert isinstance(bench.inventory.key(_KEY[1]), KeyStanding)


def test_a_deleted_key_wakes_the_recipes_that_name_it(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 1))
    bench.store.changed("SigningRecipe", "ADDED", _object("SigningRecipe", "photo", 2))
    bench.woken_since()
    bench.store.changed("ByokKey", "DELETED", _object("ByokKey", "key", 9))
    assert bench.woken_since() == {_KEY, _RECIPE}
    assert bench.store.seen(_KEY) is None
    assert bench.inventory.key(_KEY[1]) is None


def test_an_event_that_was_heard_already_wakes_nobody(bench: Bench) -> None:
    for _ in range(2):
        bench.woken_since()
        bench.store.changed("ByokKey", None, _object("ByokKey", "key", 5))
    assert bench.woken_since() == set()


def test_an_older_event_does_not_take_the_store_back(bench: Bench) -> None:
    bench.store.changed("ByokKey", "MODIFIED", _object("ByokKey", "key", 5, status={"phase": "Active"}))
    bench.store.changed("ByokKey", "MODIFIED", _object("ByokKey", "key", 4, status={"phase": "Failed"}))
    seen = bench.store.seen(_KEY)
    assert seen is not None
    assert seen.status_json() == b'{"phase":"Active"}'


def test_what_our_own_write_changed_wakes_nobody_and_nor_does_its_echo(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.woken_since()
    answer = _object("ByokKey", "key", 6, status={"phase": "Active"})
    bench.store.written(_KEY, answer)
    bench.store.changed("ByokKey", "MODIFIED", answer)
    assert bench.woken_since() == set()
    seen = bench.store.seen(_KEY)
    assert seen is not None
    assert seen.status_json() == b'{"phase":"Active"}'


def test_a_spec_that_came_with_the_answer_to_our_own_write_is_looked_at(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.woken_since()
    bench.store.written(_KEY, _object("ByokKey", "key", 7, metadata={"generation": 2}, spec={"state": "Deactivated"}))
    assert bench.woken_since() == {_KEY}
    standing = bench.inventory.key(_KEY[1])
    assert isinstance(standing, KeyStanding)
    assert standing.deactivated


def test_the_answer_to_a_write_does_not_bring_back_what_was_deleted_meanwhile(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.store.changed("ByokKey", "DELETED", _object("ByokKey", "key", 7))
    bench.store.written(_KEY, _object("ByokKey", "key", 6))
    assert bench.store.seen(_KEY) is None


def test_the_end_of_an_object_that_was_made_again_is_not_the_end_of_the_new_one(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 9, metadata={"uid": "second"}))
    bench.store.changed("ByokKey", "DELETED", _object("ByokKey", "key", 8))
    seen = bench.store.seen(_KEY)
    assert seen is not None
    assert seen.uid == "second"


def test_a_forged_status_wakes_the_object_alone_and_its_spec_is_not_judged_again(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.store.changed("SigningRecipe", "ADDED", _object("SigningRecipe", "photo", 6))
    before = bench.inventory.key(_KEY[1])
    bench.woken_since()
    bench.store.changed("ByokKey", "MODIFIED", _object("ByokKey", "key", 7, status={"phase": "Active"}))
    assert bench.woken_since() == {_KEY}
    assert bench.inventory.key(_KEY[1]) is before


def test_a_new_value_of_the_reverify_annotation_is_seen(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.woken_since()
    annotated = _object("ByokKey", "key", 6, metadata={"annotations": {"byok.dev/reverify": "now"}})
    bench.store.changed("ByokKey", "MODIFIED", annotated)
    seen = bench.store.seen(_KEY)
    assert seen is not None
    assert seen.reverify == "now"
    assert bench.woken_since() == {_KEY}


def test_an_object_that_cannot_be_read_is_there_all_the_same(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5, spec={"colour": "red"}))
    assert isinstance(bench.inventory.key(_KEY[1]), Unreadable)


def test_labels_of_a_namespace_wake_the_recipes_that_they_concern(bench: Bench) -> None:
    consumers = {"allowedConsumers": {"namespaceSelector": {"matchLabels": {"team": "media"}}}}
    bench.store.changed(
        "ByokKey", "ADDED", _object("ByokKey", "key", 1, metadata={"namespace": "vault"}, spec=consumers)
    )
    borrowed = _object("SigningRecipe", "photo", 2, spec={"keyRef": {"name": "key", "namespace": "vault"}})
    bench.store.changed("SigningRecipe", "ADDED", borrowed)
    bench.woken_since()
    bench.store.changed("Namespace", "ADDED", _object("Namespace", "media", 3, metadata={"labels": {"team": "media"}}))
    assert _RECIPE in bench.woken_since()
    standing = bench.inventory.recipe(_RECIPE[1])
    assert standing is not None
    bench.store.changed("Namespace", "DELETED", _object("Namespace", "media", 4))
    assert _RECIPE in bench.woken_since()


def _listed(bench: Bench, *documents: dict[str, Any]) -> int:
    comparison = Comparison(bench.store, "ByokKey")
    comparison.page(documents)
    return comparison.finish()


def test_a_list_finds_what_is_new_changed_and_gone(bench: Bench) -> None:
    for name in ("old", "key", "same"):
        bench.store.changed("ByokKey", "ADDED", _object("ByokKey", name, 5))
    bench.woken_since()
    assert (
        _listed(bench, *(_object("ByokKey", name, version) for name, version in (("key", 8), ("same", 5), ("new", 6))))
        == 1
    )
    assert {identity[1].name for identity in bench.woken_since()} == {"key", "new", "old"}
    assert {identity[1].name for identity in bench.store.identities()} == {"key", "same", "new"}


def test_a_list_of_one_kind_leaves_the_other_alone(bench: Bench) -> None:
    bench.store.changed("SigningRecipe", "ADDED", _object("SigningRecipe", "photo", 1))
    _listed(bench)
    assert bench.store.seen(_RECIPE) is not None


def test_what_came_while_a_list_was_under_way_is_not_taken_for_deleted(bench: Bench) -> None:
    comparison = Comparison(bench.store, "ByokKey")
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    assert comparison.finish() == 0
    assert bench.store.seen(_KEY) is not None


def test_what_went_while_a_list_was_under_way_is_not_brought_back(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    comparison = Comparison(bench.store, "ByokKey")
    bench.store.changed("ByokKey", "DELETED", _object("ByokKey", "key", 6))
    comparison.page([_object("ByokKey", "key", 5)])
    comparison.finish()
    assert bench.store.seen(_KEY) is None
    assert _listed(bench, _object("ByokKey", "key", 7, metadata={"uid": "second"})) == 0
    assert bench.store.seen(_KEY) is not None


def test_a_list_counts_even_where_versions_began_again_lower_as_after_a_restored_backup(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 500))
    _listed(bench, _object("ByokKey", "key", 20, metadata={"generation": 3}, spec={"state": "Deactivated"}))
    standing = bench.inventory.key(_KEY[1])
    assert isinstance(standing, KeyStanding)
    assert standing.deactivated


def test_the_echo_of_a_write_may_come_before_its_answer(bench: Bench) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.woken_since()
    echo = _object("ByokKey", "key", 6, status={"phase": "Active"})
    with bench.store.expecting(_KEY, {"phase": "Active"}):
        bench.store.changed("ByokKey", "MODIFIED", echo)
    bench.store.written(_KEY, echo)
    assert bench.woken_since() == set()
    seen = bench.store.seen(_KEY)
    assert seen is not None
    assert seen.version == 6


@pytest.mark.parametrize(
    "other",
    [
        {"status": {"phase": "Failed"}},
        {"status": {"phase": "Active"}, "metadata": {"annotations": {"byok.dev/reverify": "now"}}},
        {"status": {"phase": "Active"}, "metadata": {"generation": 2}},
    ],
)
def test_what_is_more_than_an_echo_is_looked_at(bench: Bench, other: dict[str, Any]) -> None:
    bench.store.changed("ByokKey", "ADDED", _object("ByokKey", "key", 5))
    bench.woken_since()
    with bench.store.expecting(_KEY, {"phase": "Active"}):
        bench.store.changed("ByokKey", "MODIFIED", _object("ByokKey", "key", 6, **other))
    assert bench.woken_since() == {_KEY}
