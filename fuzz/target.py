"""What a fuzz target is, and the time that it allows an input.

A target holds nothing of the fuzzer, so that tests can replay what it found without it.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

FINDS = Path(__file__).parent / "finds"
"""A folder for each target, with the inputs that once broke it; tests/signer/guard/test_finds.py replays them."""

Result = TypeVar("Result")

_ROUNDS = 20
_LOOKS = 5


@dataclass(frozen=True)
class Target:
    """Something that must cope with any bytes."""

    name: str
    try_input: Callable[[bytes], None]
    """Raises, whatever it is, if the input shows a fault."""
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    """Changes an input so that it stays well formed for the most part, and so gets beyond the first checks."""
    size_limit: int
    """Bytes of an input."""

    @property
    def finds(self) -> Iterable[Path]:
        """Inputs that once showed a fault."""
        return sorted((FINDS / self.name).glob("*.bin"))


class Fault(Exception):  # noqa: N818 - that of the code under attack
    """An input shows that what always holds does not."""


def demand(holds: object) -> None:
    """Raise Fault unless something holds; the traceback's line says what."""
    if not holds:
        raise Fault


def bounded(work: Callable[[], Result], *, typical: float, times: float) -> Result:
    """Do some work, and raise Fault if it takes more than `times` as much CPU time as the typical (in seconds).

    Only a time that repeats counts: once, anything may have come between.
    """
    took = math.inf
    for _ in range(_LOOKS):
        start = time.thread_time()
        result = work()
        took = min(took, time.thread_time() - start)
        if took <= typical * times:
            return result
    raise Fault(f"{took * 1e6:.0f} us, where {typical * 1e6:.0f} are typical and {times} times that is allowed")


def seconds_of(work: Callable[[], object]) -> float:
    """Measure what some work takes when nothing comes between."""
    took = math.inf
    for _ in range(_ROUNDS):
        start = time.thread_time()
        work()
        took = min(took, time.thread_time() - start)
    return took
