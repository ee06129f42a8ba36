from byok_client.recipes import CACHE_SECONDS, CACHE_SIZE, RecipeCache
from tests.support.client_recipes import recipe


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_recipe_is_kept_for_a_while() -> None:
    clock = Clock()
    cache = RecipeCache(clock)
    cache.put("photo", recipe())
    clock.now = CACHE_SECONDS - 0.1
    assert cache.get("photo") == recipe()
    clock.now = CACHE_SECONDS
    assert cache.get("photo") is None


def test_what_was_fetched_again_is_fresh_again() -> None:
    clock = Clock()
    cache = RecipeCache(clock)
    cache.put("photo", recipe())
    clock.now = CACHE_SECONDS
    cache.put("photo", recipe("creator"))
    assert cache.get("photo") == recipe("creator")


def test_the_oldest_leaves_when_it_is_full() -> None:
    cache = RecipeCache(Clock())
    for number in range(CACHE_SIZE + 1):
        cache.put(f"photo-{number}", recipe())
    assert (cache.get("photo-0"), cache.get("photo-1")) == (None, recipe())
