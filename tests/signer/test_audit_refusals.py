from dataclasses import replace

from byok_api.audit import AuditEvent, Kind
from byok_signer.audit import RefusalLimiter


def refusal(caller: str, reason: str = "KeyNotAllowed") -> AuditEvent:
    return AuditEvent(kind=Kind.REFUSAL, caller=caller, reason=reason)


def test_a_burst_is_recorded_and_then_only_counted() -> None:
    limiter = RefusalLimiter(per_second=1, burst=3)
    admitted = [limiter.admit(refusal("a"), now=0.0) for _ in range(10)]
    assert admitted == [(refusal("a"),)] * 3 + [()] * 7


def test_the_count_of_the_suppressed_goes_with_the_next_recorded_one() -> None:
    limiter = RefusalLimiter(per_second=1, burst=1)
    for _ in range(5):
        limiter.admit(refusal("a"), now=0.0)
    assert limiter.admit(refusal("a"), now=1.0) == (replace(refusal("a"), suppressed=4),)
    assert limiter.admit(refusal("a"), now=2.0) == (refusal("a"),)


def test_callers_do_not_share_a_limit() -> None:
    limiter = RefusalLimiter(per_second=1, burst=1)
    assert [limiter.admit(refusal(caller), now=0.0) for caller in "abc"] == [(refusal(caller),) for caller in "abc"]


def test_time_fills_no_more_than_a_burst() -> None:
    limiter = RefusalLimiter(per_second=1, burst=2)
    limiter.admit(refusal("a"), now=0.0)
    assert [len(limiter.admit(refusal("a"), now=1000.0)) for _ in range(4)] == [1, 1, 0, 0]


def test_draining_records_the_last_suppressed_with_the_count_of_the_others() -> None:
    limiter = RefusalLimiter(per_second=1, burst=1)
    for reason in ("First", "Second", "Third"):
        limiter.admit(refusal("a", reason), now=0.0)
    limiter.admit(refusal("b"), now=0.0)
    assert limiter.drain() == (replace(refusal("a", "Third"), suppressed=1),)
    assert limiter.drain() == ()


def test_a_forgotten_callers_suppressed_refusals_are_recorded() -> None:
    limiter = RefusalLimiter(per_second=1, burst=1, callers=2)
    for caller in ("a", "a", "a", "b"):
        limiter.admit(refusal(caller), now=0.0)
    assert limiter.admit(refusal("c"), now=0.0) == (replace(refusal("a"), suppressed=1), refusal("c"))


def test_every_refusal_is_recorded_or_counted() -> None:
    limiter = RefusalLimiter(per_second=2, burst=3, callers=5)
    recorded = [
        event for number in range(1000) for event in limiter.admit(refusal(f"c{number * 7 % 11}"), now=number / 50)
    ]
    recorded += limiter.drain()
    assert sum(1 + event.suppressed for event in recorded) == 1000
