"""A token bucket in the form that needs no refilling: the generic cell rate algorithm (ITU-T I.371, annex A).

All that it knows is the moment when it would be full again. A token is there as long as that lies no further ahead than
`slack`; taking it moves that moment on by one interval. So nothing is rounded or summed up while it is left alone, and
the moment when the next token is there is known exactly.
"""

import math

_GRAIN = 1e-6
"""Part of an interval that is forgiven, so that the sum of many intervals, rounded, is still their multiple."""


class Bucket:
    """Yields `rate` tokens a second, and up to 1 + `slack` * `rate` at once after a pause; moments are seconds.

    In any stretch of w seconds it yields at most `rate` * (w + `slack`) + 1 tokens.
    """

    __slots__ = ("_full_at", "_interval", "_slack", "rate")

    def __init__(self, rate: float, *, slack: float) -> None:
        self._full_at = -math.inf
        self.rate = rate
        self._interval = 1 / rate
        self._slack = slack + _GRAIN / rate

    @property
    def interval(self) -> float:
        """Seconds for a token."""
        return self._interval

    @property
    def free_at(self) -> float:
        """When the next token is there, or has been since."""
        return self._full_at - self._slack

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        full_at = self._full_at
        if now < full_at - self._slack:
            return False
        self._full_at = max(now, full_at) + self._interval
        return True

    def give_back(self) -> None:
        """Put back a token that was taken and not used."""
        self._full_at -= self._interval

    def drain(self, until: float) -> None:
        """Have no token before `until`."""
        self._full_at = max(self._full_at, until + self._slack)

    def change(self, rate: float, *, slack: float, now: float) -> None:
        """Go on at another rate with the tokens that are there, and with the room that there is more for."""
        slack += _GRAIN / rate
        more_room = max(0.0, slack * rate - self._slack * self.rate)
        missing = max(0.0, 1 + slack * rate - self.tokens(now) - more_room)
        self.rate = rate
        self._interval = 1 / rate
        self._slack = slack
        self._full_at = now + missing / rate

    def pace(self, factor: float) -> None:
        """Let each token from now on take 1 / `factor` times as long."""
        self._interval = 1 / (self.rate * factor)

    def tokens(self, now: float) -> float:
        """Count the tokens that are there, in fractions."""
        missing = max(0.0, self._full_at - now)
        return max(0.0, (self._slack - missing) / self._interval + 1)

    def is_full(self, now: float) -> bool:
        """Tell whether it is as good as new."""
        return now >= self._full_at


class Appointments:
    """Tells those who are refused when to come back, each one interval after the one before.

    If all were told the moment when the queue has room, they would come back together, and be refused together, ever
    more of them. Told one after the other, those who come back are never more than the bucket yields.
    """

    __slots__ = ("_last",)

    LIMIT = 10.0
    """Seconds that nobody is put off beyond: by then everything may be different."""

    def __init__(self) -> None:
        self._last = -math.inf

    def make(self, now: float, *, free_at: float, interval: float) -> float:
        """Return seconds to wait, for one who cannot be served before `free_at`, with one more served each interval."""
        self._last = min(max(self._last + interval, free_at, now), now + self.LIMIT)
        return self._last - now

    def are_over(self, now: float) -> bool:
        """Tell whether everyone has come back."""
        return now >= self._last
