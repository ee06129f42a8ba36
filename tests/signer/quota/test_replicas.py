"""How many signers share a quota."""

import asyncio
import logging
import socket

import pytest

from byok_service.names import resolve_tcp
from byok_signer.quota import Replicas

HOST = "byok-signer-peers.byok-system.svc"


class Names:
    """A name server that answers, fails or hangs as a test says."""

    def __init__(self, *addresses: str) -> None:
        self.answer: tuple[str, ...] | Exception | None = addresses
        self.asked: list[str] = []
        self.changed = asyncio.Condition()

    async def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        async with self.changed:
            self.changed.notify_all()
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or ()


async def count_after(replicas: Replicas, names: Names, looks: int) -> int:
    """Wait for that many more look-ups to be over."""
    wanted = len(names.asked) + looks + 1
    async with asyncio.timeout(10), names.changed:
        await names.changed.wait_for(lambda: len(names.asked) >= wanted)
    return replicas()


async def test_without_a_host_the_number_is_fixed() -> None:
    replicas = Replicas(3, host=None)
    await replicas.start()
    assert replicas() == 3
    await replicas.close()


@pytest.mark.parametrize(
    ("addresses", "count"),
    [
        (["10.0.0.1"], 1),
        (["10.0.0.1", "10.0.0.2", "10.0.0.1"], 2),
        (["fd00::1", "fd00::2"], 2),
        pytest.param(["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"], 2, id="two pods with an address of each kind"),
        pytest.param(["10.0.0.1", "fd00::1", "fd00::2"], 2, id="one of which has only one so far"),
    ],
)
async def test_signers_are_counted_by_their_addresses(addresses: list[str], count: int) -> None:
    replicas = Replicas(7, host=HOST, resolve=Names(*addresses))
    await replicas.start()
    assert replicas() == count
    await replicas.close()


async def test_they_are_counted_again_and_again() -> None:
    names = Names("10.0.0.1")
    replicas = Replicas(1, host=HOST, resolve=names, every=0.001)
    await replicas.start()
    names.answer = ("10.0.0.1", "10.0.0.2")
    assert await count_after(replicas, names, 1) == 2
    await replicas.close()
    assert set(names.asked) == {HOST}


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), OSError("out"), ()])
async def test_while_they_cannot_be_counted_the_last_count_stands(failure: Exception | tuple[str, ...]) -> None:
    names = Names("10.0.0.1", "10.0.0.2")
    replicas = Replicas(1, host=HOST, resolve=names, every=0.001)
    await replicas.start()
    names.answer = failure
    assert await count_after(replicas, names, 2) == 2
    names.answer = ("10.0.0.1",)
    assert await count_after(replicas, names, 1) == 1
    await replicas.close()


async def test_a_failure_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names = Names()
    names.answer = OSError("no answer")
    replicas = Replicas(2, host=HOST, resolve=names, every=0.001)
    await replicas.start()
    await count_after(replicas, names, 3)
    names.answer = ("10.0.0.1", "10.0.0.2")
    await count_after(replicas, names, 3)
    await replicas.close()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "signers could not be counted; the last count stands"),
        ("INFO", "signers counted"),
    ]


async def test_a_name_server_that_hangs_does_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_signer.quota.replicas._LOOK_TIMEOUT", 0.01)
    names = Names()
    names.answer = None
    replicas = Replicas(4, host=HOST, resolve=names)
    await replicas.start()
    assert replicas() == 4
    await replicas.close()


async def test_there_is_always_one_signer() -> None:
    assert Replicas(0, host=None)() == 1


async def test_closing_before_the_start_does_nothing() -> None:
    await Replicas(1, host=HOST, resolve=Names()).close()


async def test_the_system_looks_names_up() -> None:
    assert set(await resolve_tcp("localhost")) & {"127.0.0.1", "::1"}


async def test_a_name_that_there_is_not_is_an_error() -> None:
    with pytest.raises(OSError, match=r"."):
        await resolve_tcp("no-such-host.invalid")


async def test_a_name_that_cannot_be_one_is_an_error() -> None:
    with pytest.raises(UnicodeError):
        await resolve_tcp("a" * 64 + ".example")


async def test_a_look_up_that_nobody_waits_for_any_more_does_no_harm() -> None:
    looking = asyncio.create_task(resolve_tcp("localhost"))
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert await resolve_tcp("localhost")
