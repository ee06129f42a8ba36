"""Time and chance, handed to whatever depends on them."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Means:
    """The time of day, seconds that never go back, and numbers from 0 to 1."""

    now: Callable[[], datetime]
    seconds: Callable[[], float]
    chance: Callable[[], float]

    @classmethod
    def real(cls) -> "Means":
        """Take the machine's own; `seconds` is the time of asyncio's timers."""
        return cls(lambda: datetime.now(UTC), time.monotonic, random.random)
