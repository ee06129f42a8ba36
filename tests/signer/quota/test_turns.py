"""Whose turn it is, and who gives way: the exact orders."""

import random

import pytest

from byok_signer.quota.turns import MEMORY, Turns, Waiter


def crowd(turns: Turns, names: str) -> list[Waiter]:
    """Let one waiter come for each letter, which is its namespace."""
    waiters = [Waiter(name, 0) for name in names]
    for waiter in waiters:
        turns.add(waiter)
    return waiters


def served(turns: Turns, count: int) -> str:
    return "".join(waiter.namespace for _ in range(count) if (waiter := turns.take_next()))


def order(turns: Turns) -> str:
    return served(turns, turns.waiting)


@pytest.mark.parametrize(
    ("come", "expected"),
    [
        ("aaaaab", "abaaaa"),
        ("aaaabbbc", "abcababa"),
        ("cba", "cba"),
        ("abababab", "abababab"),
        ("", ""),
    ],
)
def test_namespaces_take_turns_in_the_order_in_which_they_came(come: str, expected: str) -> None:
    turns = Turns()
    crowd(turns, come)
    assert order(turns) == expected
    assert (turns.namespaces, turns.waiting) == (0, 0)


def test_within_a_namespace_the_first_to_come_is_the_first_to_go() -> None:
    turns = Turns()
    first, second, third = crowd(turns, "aaa")
    assert [turns.take_next() for _ in range(3)] == [first, second, third]


def test_a_namespace_that_was_not_served_lately_goes_first() -> None:
    turns = Turns()
    crowd(turns, "aaabbb")
    assert served(turns, 1) == "a"
    crowd(turns, "cd")
    assert order(turns) == "bcdabab"


def test_a_namespace_that_comes_back_keeps_the_place_that_its_last_service_gives_it() -> None:
    turns = Turns()
    crowd(turns, "aaabbbc")
    assert served(turns, 4) == "abca"
    crowd(turns, "c")
    assert order(turns) == "bcab"


def test_who_was_served_is_remembered_while_nobody_waits() -> None:
    turns = Turns()
    crowd(turns, "ab")
    assert order(turns) == "ab"
    crowd(turns, "bac")
    assert order(turns) == "cab"


def test_a_thousand_namespaces_are_remembered() -> None:
    turns = Turns()
    for number in range(MEMORY + 1):
        turns.add(Waiter(str(number), 0))
        turns.take_next()
    crowd(turns, "0x")  # Of 0 it is not remembered any more that it was served.
    assert order(turns) == "0x"
    crowd(turns, "2x")
    assert order(turns) == "2x"
    crowd(turns, "xy")
    assert order(turns) == "yx"


def test_one_who_is_taken_out_is_not_served_and_costs_its_namespace_no_turn() -> None:
    turns = Turns()
    first, *_ = crowd(turns, "aabb")
    turns.remove(first)
    assert turns.waiting == 3
    assert order(turns) == "abb"


@pytest.mark.parametrize(
    ("come", "newcomer", "evicted"),
    [
        pytest.param("aaab", "b", 2, id="the newest of the longest queue"),
        pytest.param("aaab", "a", None, id="nobody for the longest itself"),
        pytest.param("abba", "c", 2, id="of equally long ones, that which reached its length first"),
        pytest.param("baab", "c", 2, id="whatever its name"),
        pytest.param("aab", "b", None, id="nobody where the newcomer's would be as long"),
        pytest.param("ab", "c", None, id="nobody whom it would merely replace"),
        pytest.param("ababa", "c", 4, id="the longest"),
    ],
)
def test_the_longest_queue_gives_way(come: str, newcomer: str, evicted: int | None) -> None:
    turns = Turns()
    waiters = crowd(turns, come)
    assert turns.evict_for(newcomer) is (None if evicted is None else waiters[evicted])
    assert turns.waiting == len(come) - (evicted is not None)


def test_of_equally_long_queues_that_of_the_namespace_served_last_gives_way() -> None:
    turns = Turns()
    crowd(turns, "abcaabbcc")
    assert served(turns, 3) == "abc"
    evicted = [turns.evict_for("d"), turns.evict_for("d"), turns.evict_for("d"), turns.evict_for("d")]
    assert [waiter and waiter.namespace for waiter in evicted] == ["c", "b", "a", "c"]


def test_one_that_was_served_lately_makes_room_for_one_that_was_not_though_its_queue_is_no_longer() -> None:
    turns = Turns()
    crowd(turns, "aa")
    assert served(turns, 1) == "a"
    assert turns.evict_for("a") is None
    assert turns.evict_for("b") is not None


def test_evictions_go_round_until_all_are_as_long_as_the_newcomer() -> None:
    turns = Turns()
    crowd(turns, "aaaabbc")
    evicted = ""
    while waiter := turns.evict_for("d"):
        evicted += waiter.namespace
    assert evicted == "aaba"
    assert order(turns) == "abc"


def test_nothing_is_kept_of_those_who_have_gone() -> None:
    turns, chance = Turns(), random.Random(4)  # noqa: S311 - a test's choices are the same each time
    waiting: list[Waiter] = []
    sizes = []
    for _ in range(20_000):
        if len(waiting) > 20:
            turns.remove(waiting.pop(chance.randrange(len(waiting))))
        waiting += crowd(turns, chance.choice("abcdefgh"))
        sizes.append(sum(len(ranking._heap) for ranking in (turns._next, turns._longest)))  # noqa: SLF001 - shows nowhere
    for waiter in waiting:
        turns.remove(waiter)
    assert turns.take_next() is None
    assert (turns.namespaces, turns.waiting) == (0, 0)
    assert max(sizes) < 2 * (2 * 8 + 18)
