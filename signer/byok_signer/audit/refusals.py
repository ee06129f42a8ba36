"""How many refusals of one caller are recorded: a caller who is refused all the time must not fill the trail."""

from collections import OrderedDict
from dataclasses import dataclass, replace

from byok_api.audit import AuditEvent


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float
    suppressed: int = 0
    last: AuditEvent | None = None


class RefusalLimiter:
    """A token bucket for each caller; what is not recorded is counted, and the count recorded with what comes next."""

    def __init__(self, *, per_second: float = 1.0, burst: int = 20, callers: int = 10_000) -> None:
        self._per_second = per_second
        self._burst = burst
        self._callers = callers
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def admit(self, event: AuditEvent, *, now: float) -> tuple[AuditEvent, ...]:
        """Take a refusal and return what is to be recorded now; `now` in seconds of any monotonic clock.

        That is the refusal itself with the count of those suppressed before it, or nothing. Where there are more
        callers than are remembered, the one unheard for the longest is forgotten, and what it has suppressed recorded.
        """
        caller = event.caller or ""
        bucket = self._buckets.pop(caller, None) or _Bucket(self._burst, now)
        self._buckets[caller] = bucket
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) * self._per_second)
        bucket.filled = now
        admitted = self._forget()
        if bucket.tokens < 1:
            bucket.suppressed += 1
            bucket.last = event
            return admitted
        bucket.tokens -= 1
        event = replace(event, suppressed=bucket.suppressed)
        bucket.suppressed, bucket.last = 0, None
        return (*admitted, event)

    def drain(self) -> tuple[AuditEvent, ...]:
        """Return, for each caller with suppressed refusals, the last of them with the count of the others."""
        drained = tuple(flushed for bucket in self._buckets.values() for flushed in _flushed(bucket))
        self._buckets.clear()
        return drained

    def _forget(self) -> tuple[AuditEvent, ...]:
        if len(self._buckets) <= self._callers:
            return ()
        _, bucket = self._buckets.popitem(last=False)
        return _flushed(bucket)


def _flushed(bucket: _Bucket) -> tuple[AuditEvent, ...]:
    return (replace(bucket.last, suppressed=bucket.suppressed - 1),) if bucket.last else ()
