"""The memory that whoever fills it fastest does not get for itself."""

from hypothesis import given
from hypothesis import strategies as st

from byok_signer.fair_cache import FairCache


def filled(limit: int, **sources: int) -> FairCache[str, int]:
    cache: FairCache[str, int] = FairCache(limit)
    for source, count in sources.items():
        for number in range(count):
            cache.put(source, f"{source}{number}", number)
    return cache


def test_what_was_put_is_found_until_it_is_forgotten() -> None:
    cache = filled(3, a=1)
    assert cache.get("a0") == 0
    cache.pop("a", "a0")
    cache.pop("a", "a0")
    assert (cache.get("a0"), len(cache)) == (None, 0)


def test_a_flood_from_one_source_displaces_only_its_own() -> None:
    cache = filled(10, quiet=2, other=1, flood=10_000)
    assert (cache.get("quiet0"), cache.get("quiet1"), cache.get("other0")) == (0, 1, 0)
    assert cache.get("flood9999") == 9999
    assert len(cache) == 10


def test_a_newcomer_displaces_the_oldest_of_whoever_has_most() -> None:
    cache = filled(10, quiet=1, flood=9)
    cache.put("newcomer", "n", 1)
    assert (cache.get("flood0"), cache.get("flood1"), cache.get("quiet0"), cache.get("n")) == (None, 1, 0, 1)


def test_what_is_put_again_counts_as_new() -> None:
    cache = filled(2, a=2)
    cache.put("a", "a0", 5)
    cache.put("a", "a2", 2)
    assert (cache.get("a0"), cache.get("a1"), cache.get("a2")) == (5, None, 2)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9), st.booleans()), max_size=200))
def test_the_memory_is_bounded_and_a_source_below_its_share_loses_nothing(moves: list[tuple[str, int, bool]]) -> None:
    cache, alive = FairCache[str, int](10), dict[str, str]()
    for source, number, puts in moves:
        key = f"{source}{number}"
        if puts:
            cache.put(source, key, number)
            alive[key] = source
        else:
            cache.pop(source, key)
            alive.pop(key, None)
        assert len(cache) <= 10
    for source in "abcde":
        mine = [key for key, whose in alive.items() if whose == source]
        assert len(mine) > 2 or all(cache.get(key) is not None for key in mine)
