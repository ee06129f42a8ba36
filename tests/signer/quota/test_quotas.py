"""Quotas in an event loop whose time is simulated, so that every moment is exact."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from byok_api.byokkey import RateLimit
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_signer.quota import Demand, Family, QuotaKey, Quotas
from tests.support.simulated_time import run_simulated

ACCOUNT = QuotaKey("111122223333", "eu-west-1", Family.ECC)
KEY = ObjectName("media", "brand")


def demand(
    namespace: str = "media", *, limit: RateLimit | None = None, quota: QuotaKey = ACCOUNT, key: ObjectName = KEY
) -> Demand:
    return Demand(quota=quota, key=key, limit=limit, namespace=namespace)


def limited(per_second: int, burst: int | None = None) -> Demand:
    return demand(limit=RateLimit(signatures_per_second=per_second, burst=burst))


@dataclass
class Desk:
    """Quotas of 100 a second, which are 6 at once, and those who ask for them."""

    replicas: int = 1
    per_second: float = 100
    quotas: Quotas = field(init=False)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.quotas = Quotas(per_second=self.per_second, replicas=lambda: self.replicas, clock=self.loop.time)

    async def ask(self, wanted: Demand | None = None, timeout: float = 1) -> float | Refusal:  # noqa: ASYNC109 - as in Quotas
        """Return how long a token took, or the refusal."""
        begin = self.loop.time()
        try:
            await self.quotas.acquire(wanted or demand(), timeout=timeout)
        except Refusal as refusal:
            return refusal
        return round(self.loop.time() - begin, 6)

    async def take_all(self, wanted: Demand | None = None) -> int:
        """Take what can be had at once."""
        count = 0
        while await self.ask(wanted, timeout=0) == 0:
            count += 1
        return count

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


Script = Callable[[Desk], Awaitable[None]]


def simulated(script: Script) -> Callable[[], None]:
    """Make a test of a script."""

    async def run() -> None:
        await script(Desk())

    def test() -> None:
        run_simulated(run())

    return test


@simulated
async def test_a_token_that_is_there_is_taken_without_a_turn_of_the_loop(desk: Desk) -> None:
    turns: list[int] = []
    desk.loop.call_soon(turns.append, 1)
    await desk.quotas.acquire(demand(), timeout=1)
    assert turns == []


@simulated
async def test_one_and_50_ms_worth_of_tokens_can_be_had_at_once(desk: Desk) -> None:
    assert await desk.take_all() == 6


@simulated
async def test_those_who_wait_get_their_tokens_when_they_come(desk: Desk) -> None:
    await desk.take_all()
    await desk.pass_time(0.1)
    await desk.take_all()
    assert await asyncio.gather(*(desk.ask() for _ in range(4))) == pytest.approx([0.01, 0.02, 0.03, 0.04], abs=1e-4)
    assert desk.quotas.counts.queued == 4


@simulated
async def test_quotas_of_other_accounts_regions_and_families_are_others(desk: Desk) -> None:
    others = [
        QuotaKey("444455556666", "eu-west-1", Family.ECC),
        QuotaKey("111122223333", "us-east-1", Family.ECC),
        QuotaKey("111122223333", "eu-west-1", Family.RSA),
    ]
    assert [await desk.take_all(demand(quota=quota)) for quota in (ACCOUNT, *others)] == [6, 6, 6, 6]


@simulated
async def test_who_comes_when_the_queue_is_full_is_refused_at_once_and_told_when_to_come_back(desk: Desk) -> None:
    await desk.take_all()
    await desk.pass_time(0.01)
    answers = await asyncio.gather(*(desk.ask() for _ in range(13)))
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert len(refused) == 2  # 1 token was there, 10 wait.
    assert {refusal.reason for refusal in refused} == {Reason.QuotaExceeded}
    assert [refusal.retry_after for refusal in refused] == pytest.approx([0.11, 0.12], abs=1e-3)


@simulated
async def test_a_refusal_names_the_share_the_quota_and_the_key(desk: Desk) -> None:
    desk.replicas = 4
    await desk.take_all()
    refusal = await desk.ask(timeout=0)
    assert isinstance(refusal, Refusal)
    assert refusal.message == (
        "key media/brand: this signer's share of account 111122223333's quota for ECC keys in eu-west-1, 25 "
        "signatures a second, is used up: the time to wait for it is over; retry after the given delay"
    )
    assert refusal.metadata == {
        "key": "media/brand",
        "account": "111122223333",
        "region": "eu-west-1",
        "family": "ECC",
    }


@simulated
async def test_nobody_waits_for_longer_than_100_ms_or_than_it_has_time(desk: Desk) -> None:
    await desk.take_all()
    desk.quotas.throttled(ACCOUNT)
    begin = desk.loop.time()
    assert isinstance(await desk.ask(timeout=0.005), Refusal)
    assert desk.loop.time() - begin == pytest.approx(0.005)
    desk.replicas = 50
    assert isinstance(await desk.ask(timeout=60), Refusal)
    assert desk.loop.time() - begin == pytest.approx(0.105)
    assert desk.quotas.counts.queued == 2


@simulated
async def test_one_who_comes_later_and_has_less_time_is_let_go_in_time(desk: Desk) -> None:
    desk.replicas = 4
    await desk.take_all()
    patient = asyncio.create_task(desk.ask())
    await asyncio.sleep(0)
    begin = desk.loop.time()
    assert isinstance(await desk.ask(timeout=0.005), Refusal)
    assert desk.loop.time() - begin == pytest.approx(0.005)
    assert isinstance(await patient, float)


@simulated
async def test_one_who_has_more_waiting_is_told_that_it_made_room(desk: Desk) -> None:
    await desk.take_all()
    loud = [asyncio.create_task(desk.ask(demand("loud"))) for _ in range(10)]
    await asyncio.sleep(0)
    assert await desk.ask(demand("quiet")) == pytest.approx(0.02, abs=1e-4)
    evicted = await loud[-1]
    assert isinstance(evicted, Refusal)
    assert "its queue is full, and loud has more in it than others who ask" in evicted.message
    assert desk.quotas.counts.evicted == 1
    await asyncio.gather(*loud)


@simulated
async def test_a_caller_who_goes_away_leaves_its_place(desk: Desk) -> None:
    await desk.take_all()
    first, second = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == pytest.approx(0.01, abs=1e-4)
    assert desk.quotas.levels()[ACCOUNT].waiting == 0


@simulated
async def test_a_caller_who_goes_away_as_its_token_comes_leaves_the_token(desk: Desk) -> None:
    await desk.take_all()
    first, second = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
    await asyncio.sleep(0)
    desk.quotas.give_back(demand())  # This one is the first's,
    first.cancel()  # who never hears of it.
    assert await second == 0
    with pytest.raises(asyncio.CancelledError):
        await first


@simulated
async def test_a_token_given_back_goes_to_one_who_waits(desk: Desk) -> None:
    await desk.take_all()
    waiting = asyncio.create_task(desk.ask())
    await asyncio.sleep(0)
    desk.quotas.give_back(demand())
    assert await waiting == 0


@simulated
async def test_what_is_given_back_to_a_quota_that_nobody_used_is_no_token(desk: Desk) -> None:
    desk.quotas.give_back(limited(1))
    assert await desk.take_all() == 6


@simulated
async def test_more_replicas_share_at_once(desk: Desk) -> None:
    await desk.take_all()
    desk.replicas = 5
    assert await desk.ask() == pytest.approx(0.05, abs=1e-3)
    assert desk.quotas.levels()[ACCOUNT].rate == 20
    desk.replicas = 0
    assert await desk.ask() == 0
    assert desk.quotas.levels()[ACCOUNT].rate == 100


@simulated
async def test_a_change_of_the_replicas_reaches_those_who_wait(desk: Desk) -> None:
    await desk.take_all()
    waiting = [asyncio.create_task(desk.ask()) for _ in range(3)]
    await asyncio.sleep(0)
    desk.replicas = 2
    assert await asyncio.gather(*waiting) == pytest.approx([0.01, 0.03, 0.05], abs=1e-3)


@simulated
async def test_throttling_slows_the_quota_down_and_no_other(desk: Desk) -> None:
    other = demand(quota=QuotaKey("444455556666", "eu-west-1", Family.ECC))
    assert await desk.ask() == await desk.ask(other) == 0
    desk.quotas.throttled(ACCOUNT)
    assert (desk.quotas.levels()[ACCOUNT].rate, desk.quotas.levels()[other.quota].rate) == (90, 100)
    assert await desk.ask() == pytest.approx(0.02)
    assert desk.quotas.counts.throttled == 1


@simulated
async def test_throttling_of_a_quota_that_nobody_used_is_only_counted(desk: Desk) -> None:
    desk.quotas.throttled(ACCOUNT)
    assert (desk.quotas.counts.throttled, dict(desk.quotas.levels())) == (1, {})


@simulated
async def test_a_key_has_its_own_limit_and_beyond_it_is_refused_at_once(desk: Desk) -> None:
    assert await desk.take_all(limited(4)) == 4
    refusal = await desk.ask(limited(4))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.KeyRateLimited
    assert refusal.retry_after == pytest.approx(0.5)  # The one before was told 0.25.
    assert refusal.message == (
        "key media/brand: its spec.rateLimit of 4 signatures a second, over all signers, is used up; retry after the "
        "given delay"
    )
    assert await desk.ask() == 0


@simulated
async def test_a_key_s_limit_holds_over_time(desk: Desk) -> None:
    taken = 0
    for _ in range(1000):
        taken += await desk.ask(limited(10), timeout=0) == 0
        await desk.pass_time(0.01)
    assert taken == 10 + 10 * 10 - 1  # from 0 to 9.99 s


@pytest.mark.parametrize(("burst", "at_once"), [(None, 4), (1, 1), (2, 2), (6, 6)])
def test_a_burst_is_what_the_owner_says_or_a_second_s_worth(burst: int | None, at_once: int) -> None:
    async def script() -> None:
        assert await Desk(per_second=1000).take_all(limited(4, burst)) == at_once

    run_simulated(script())


@pytest.mark.parametrize(("replicas", "at_once"), [(2, 4), (4, 2), (8, 1), (100, 1)])
def test_a_key_s_limit_is_divided_among_the_replicas_each_of_which_can_sign_once(replicas: int, at_once: int) -> None:
    async def script() -> None:
        desk = Desk(per_second=100_000, replicas=replicas)
        assert await desk.take_all(limited(8)) == at_once
        await desk.pass_time(replicas / 8)
        assert await desk.take_all(limited(8)) == 1

    run_simulated(script())


@simulated
async def test_another_limit_holds_at_once(desk: Desk) -> None:
    assert await desk.take_all(limited(1)) == 1
    assert await desk.take_all(limited(3)) == 2
    assert isinstance(await desk.ask(limited(2)), Refusal)
    assert await desk.ask() == 0


@simulated
async def test_a_token_of_the_key_s_is_given_back_if_the_account_s_quota_refuses(desk: Desk) -> None:
    await desk.take_all()
    assert isinstance(await desk.ask(limited(1), timeout=0), Refusal)
    await desk.pass_time(0.02)
    assert await desk.ask(limited(1)) == 0


@simulated
async def test_a_token_of_the_key_s_is_given_back_by_one_who_goes_away(desk: Desk) -> None:
    await desk.take_all()
    waiting = asyncio.create_task(desk.ask(limited(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await desk.pass_time(0.02)
    assert await desk.ask(limited(1)) == 0


@simulated
async def test_both_tokens_are_given_back(desk: Desk) -> None:
    for _ in range(3):
        assert await desk.ask(limited(1)) == 0
        desk.quotas.give_back(limited(1))
    assert await desk.take_all() == 6


@simulated
async def test_a_tenant_cannot_keep_another_from_its_turn(desk: Desk) -> None:
    async def loud() -> None:
        while True:
            await desk.ask(demand("loud"))
            await asyncio.sleep(0.001)

    callers = [asyncio.create_task(loud()) for _ in range(20)]
    for _ in range(10):
        await desk.pass_time(0.05)
        waited = await desk.ask(demand("quiet"))
        assert isinstance(waited, float)
        assert waited <= 0.03
    for caller in callers:
        caller.cancel()


@simulated
async def test_idle_quotas_and_limits_are_forgotten(desk: Desk) -> None:
    for number in range(1000):
        name = ObjectName("media", f"key{number}")
        account = QuotaKey(f"{number:012}", "eu-west-1", Family.RSA)
        limit = RateLimit(signatures_per_second=10)
        assert await desk.ask(demand(quota=account, key=name, limit=limit)) == 0
        await desk.pass_time(0.2)
    assert len(desk.quotas.levels()) <= 64


@simulated
async def test_quotas_in_use_are_not_forgotten(desk: Desk) -> None:
    accounts = [QuotaKey(f"{number:012}", "eu-west-1", Family.RSA) for number in range(200)]
    for account in accounts:
        assert await desk.take_all(demand(quota=account)) == 6
    assert {isinstance(await desk.ask(demand(quota=account), timeout=0), Refusal) for account in accounts} == {True}


@simulated
async def test_no_timer_is_left_when_nobody_waits(desk: Desk) -> None:
    await desk.take_all()
    await asyncio.gather(*(desk.ask() for _ in range(10)))
    waiting = asyncio.create_task(desk.ask())
    await asyncio.sleep(0)
    desk.quotas.give_back(demand())
    await waiting
    timers = desk.loop._scheduled  # type: ignore[attr-defined] # noqa: SLF001 - of BaseEventLoop
    assert [timer for timer in timers if not timer.cancelled()] == []
