"""Equal requests share one signature: those under way are joined, those just answered are repeated."""

import asyncio
from collections.abc import Callable

import pytest

from byok_api.audit import AuditId
from byok_api.references import KeyArn
from byok_signer.flights import LIMIT, Flight, Flights, Made
from byok_signer.kms.port import SignAnswer
from byok_signer.work import Identity

KEY = KeyArn("arn:aws:kms:eu-central-1:111122223333:key/4ccbd4a5-6b8e-4a9c-9c5e-0d2f3c1b7a10")

DUE = 60.0


def identity(signed: bytes = b"digest") -> Identity:
    return Identity("system:serviceaccount:media:job", "media", "photo", "0" * 64, KEY.text, signed, guarded=True)


class Maker:
    """Makes signatures when it is let, and counts them."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.commits = False
        self.error: Exception | None = None

    async def __call__(self, commit: Callable[[], None]) -> Made:
        self.begun += 1
        if self.commits:
            commit()
        await self.gate.wait()
        if self.error:
            raise self.error
        return SignAnswer(b"signature", b"", KEY, "request", ()), AuditId("writer", self.begun)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flights(clock: Clock) -> Flights:
    return Flights(clock=clock)


async def made_at_once(flights: Flights, which: Identity) -> Made:
    maker = Maker()
    maker.gate.set()
    return await flights.start(which, maker, DUE).join()


async def test_those_who_join_a_flight_get_its_signature(flights: Flights) -> None:
    maker = Maker()
    first = asyncio.create_task(flights.start(identity(), maker, DUE).join())
    await asyncio.sleep(0)
    flight = flights.flying(identity())
    assert flight is not None
    second = asyncio.create_task(flight.join())
    maker.gate.set()
    assert await first is await second
    assert maker.begun == 1


async def test_a_signature_is_remembered_for_thirty_seconds(flights: Flights, clock: Clock) -> None:
    made = await made_at_once(flights, identity())
    clock.now = 29.9
    assert flights.made(identity()) is made
    clock.now = 30.0
    assert flights.made(identity()) is None


@pytest.mark.parametrize(
    "other",
    [
        identity()._replace(caller="system:serviceaccount:media:other"),
        identity()._replace(recipe_name="other"),
        identity()._replace(recipe_namespace="other"),
        identity()._replace(recipe_hash="1" * 64),
        identity()._replace(key_arn="arn:aws:kms:eu-west-1:111122223333:key/1"),
        identity()._replace(signed=b"other"),
        identity()._replace(guarded=False),
    ],
)
async def test_a_request_that_differs_in_anything_shares_nothing(flights: Flights, other: Identity) -> None:
    await made_at_once(flights, identity())
    assert flights.made(other) is None


async def test_a_failure_is_told_to_all_and_not_remembered(flights: Flights) -> None:
    maker = Maker()
    maker.error = ValueError("no")
    flight = flights.start(identity(), maker, DUE)
    waiting = [asyncio.create_task(flight.join()) for _ in range(3)]
    maker.gate.set()
    assert [str(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == ["no"] * 3
    assert (flights.made(identity()), flights.flying(identity())) == (None, None)


async def test_one_who_gives_up_leaves_the_others_their_signature(flights: Flights) -> None:
    maker = Maker()
    flight = flights.start(identity(), maker, DUE)
    stays, goes = asyncio.create_task(flight.join()), asyncio.create_task(flight.join())
    await asyncio.sleep(0)
    goes.cancel()
    maker.gate.set()
    assert (await stays)[1].sequence == 1


async def test_a_flight_that_all_have_left_is_called_off_and_cannot_be_joined(flights: Flights) -> None:
    flight = flights.start(identity(), Maker(), DUE)
    only = asyncio.create_task(flight.join())
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait([only])
    assert flights.flying(identity()) is None
    await flights.landed()
    assert flight.task.cancelled()


async def test_a_committed_flight_goes_on_when_all_have_left(flights: Flights) -> None:
    maker = Maker()
    maker.commits = True
    only = asyncio.create_task(flights.start(identity(), maker, DUE).join())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait([only])
    assert flights.flying(identity()) is not None
    maker.gate.set()
    await flights.landed()
    assert flights.made(identity()) is not None


async def test_the_oldest_signatures_are_forgotten_first(clock: Clock) -> None:
    flights = Flights(clock=clock, limit=2)
    for name in (b"1", b"2", b"3"):
        await made_at_once(flights, identity(name))
    assert [flights.made(identity(name)) is None for name in (b"1", b"2", b"3")] == [True, False, False]


def test_a_whole_quota_of_thirty_seconds_is_remembered() -> None:
    assert LIMIT >= 30 * 1000


@pytest.mark.parametrize("error", [None, ValueError("no")], ids=["made", "failed"])
async def test_who_asks_in_the_very_moment_that_a_flight_ends_finds_its_end(
    flights: Flights, error: Exception | None
) -> None:
    async def look() -> tuple[Made | None, Flight | None]:
        return flights.made(identity()), flights.flying(identity())

    maker = Maker()
    maker.error = error
    waiting = asyncio.create_task(flights.start(identity(), maker, DUE).join())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The flight's last step is the next thing that runs, and this look the one after it.
    maker.gate.set()
    made, flying = await asyncio.create_task(look())
    assert (made is None, flying) == (error is not None, None)
    await asyncio.wait([waiting])
    assert waiting.exception() is error
