"""Waiting for what is bound to happen."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let others work until a condition holds; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a condition on what has no event to wait for
            await asyncio.sleep(0.005)
