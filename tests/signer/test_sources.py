"""What the signer waits for when it starts in a cluster, and that it can be told to end meanwhile."""

import asyncio

import pytest

from byok_signer.sources import StoppedError, unless_stopped


async def test_who_is_told_to_end_waits_no_longer() -> None:
    stopping, forever = asyncio.Event(), asyncio.Event()
    waiting = asyncio.ensure_future(unless_stopped(forever.wait(), stopping))
    stopping.set()
    with pytest.raises(StoppedError):
        await waiting


async def test_what_is_waited_for_is_given() -> None:
    assert await unless_stopped(asyncio.sleep(0, "it"), asyncio.Event()) == "it"


async def test_what_fails_meanwhile_is_told() -> None:
    async def fail() -> None:
        raise ValueError("no issuer")

    with pytest.raises(ValueError, match="no issuer"):
        await unless_stopped(fail(), asyncio.Event())
