"""Changes to values of CBOR and JSON that leave most of them as they were."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

INTERESTING: tuple[object, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    24,
    256,
    2**31,
    2**53,
    2**63,
    2**64,
    -(2**63),
    0.0,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "a",
    "\0",
    "\n",
    "\x1b[2J",
    "\u202e",
    "\ufeff",
    "sha256",
    "__1",
    "a" * 2000,
    [],
    {},
    [[]],
    {"": None},
    [{"a": [{"b": []}]}],
)
"""What code forgets."""
_OF_CBOR_ONLY: tuple[object, ...] = (b"", bytes(32), bytes(48), b"\xff", {1: 2}, {b"a": 1})

Place = tuple[Any, Any]
"""A container, and the key or index in it."""


def changed(value: Any, random: Random, *, binary: bool = True) -> Any:  # noqa: ANN401 - any value
    """Change a copy in one to three places; `binary` lets it hold what JSON does not know."""
    root = [copy.deepcopy(value)]
    for _ in range(random.randint(1, 3)):
        places = list(_places(root))
        random.choice(_CHANGES)(random.choice(places), places, random)
        if random.random() < 0.3:  # noqa: PLR2004 - about one in three
            container, key = random.choice(places)
            _put(container, key, random.choice(INTERESTING + _OF_CBOR_ONLY if binary else INTERESTING))
    return root[0] if root else None


def _places(container: Any) -> Iterator[Place]:  # noqa: ANN401 - any value
    left = [container]
    while left:
        current = left.pop()
        keys = list(current) if isinstance(current, dict) else range(len(current))
        for key in keys:
            yield current, key
            if isinstance(current[key], dict | list):
                left.append(current[key])


def _put(container: Any, key: Any, value: Any) -> None:  # noqa: ANN401 - any value
    # A place found before may be gone.
    if isinstance(container, dict) or (isinstance(key, int) and key < len(container)):
        container[key] = copy.deepcopy(value)


def _get(place: Place) -> Any:  # noqa: ANN401 - any value
    container, key = place
    return container.get(key) if isinstance(container, dict) else container[key] if key < len(container) else None


def _replace(place: Place, _: list[Place], random: Random) -> None:
    _put(*place, random.choice(INTERESTING))


def _remove(place: Place, _: list[Place], __: Random) -> None:
    container, key = place
    if isinstance(container, dict):
        container.pop(key, None)
    elif len(container) > 1:
        del container[min(key, len(container) - 1)]


def _repeat(place: Place, _: list[Place], random: Random) -> None:
    container, _key = place
    if isinstance(container, list):
        container.extend(copy.deepcopy([_get(place)]) * random.choice((1, 1, 1, 2, 20)))


def _transplant(place: Place, places: list[Place], random: Random) -> None:
    _put(*place, _get(random.choice(places)))


def _rename(place: Place, places: list[Place], random: Random) -> None:
    container, key = place
    if isinstance(container, dict) and key in container:
        names = [key for container, key in places if isinstance(container, dict)]
        container[random.choice((*names, f"{key} ", str(key).upper(), ""))] = container.pop(key)


def _edit(place: Place, _: list[Place], random: Random) -> None:
    """Change a text, a byte string or a number a little."""
    match _get(place):
        case str() as text:
            at = random.randint(0, len(text))
            more = random.choice(("", "a", "_", "__2", ".", "/", "\0", "\u0430", "0", ".v2", "A", "%2e", "\U0001f4f7"))
            _put(*place, text[:at] + more + text[at + random.randint(0, 2) :])
        case bytes() as data:
            at = random.randint(0, len(data))
            _put(*place, data[:at] + random.randbytes(random.randint(0, 2)) + data[at + random.randint(0, 2) :])
        case bool() | None:
            _put(*place, random.choice((True, False, None, 1)))
        case int() | float() as number:
            _put(*place, random.choice((number + 1, -number, number * 2, number // 2, float(min(number, 1e9)))))


_CHANGES = (_replace, _remove, _repeat, _transplant, _rename, _edit, _edit, _edit, _edit)
