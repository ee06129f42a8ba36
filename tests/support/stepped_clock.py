"""A clock that a test moves, and sleepers that wake by it."""

import asyncio

from tests.support.eventually import until


class SteppedClock:
    """Pass it as clock (call it) and as `sleep`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, wake))
        await wake

    @property
    def sleeping(self) -> int:
        self._sleepers = [(due, wake) for due, wake in self._sleepers if not wake.done()]
        return len(self._sleepers)

    async def advance(self, seconds: float, *, sleepers: int, step: float = 0.5) -> None:
        """Let time pass, step by step, each time until so many are asleep again."""
        end = self.now + seconds
        while self.now < end:
            await until(lambda: self.sleeping >= sleepers)
            self.now = min(end, self.now + step)
            for due, wake in self._sleepers:
                if due <= self.now and not wake.done():
                    wake.set_result(None)
        await until(lambda: self.sleeping >= sleepers)
