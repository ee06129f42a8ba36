"""Probes under way: so many at once, one of a key at a time, a key's newest request in place of an older one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_operator.observations import Probe, ProbeFailure

_LOG = logging.getLogger(__name__)
FLOW_SECONDS = 5.0
"""Without an answer for so long, while some are wanted, probes do not flow."""


@dataclass(frozen=True)
class ProbeRequest:
    """What a signer is asked to prove."""

    name: ObjectName
    uid: str
    generation: int
    least_privilege: bool
    """Also prove that the signer may do nothing more."""
    reverify: str | None
    """Value of the annotation byok.dev/reverify that this answers."""


Ask = Callable[[ProbeRequest], Awaitable[Probe | ProbeFailure]]
Found = Callable[[ProbeRequest, Probe | ProbeFailure], None]
Observe = Callable[[str, float], None]
"""Told of each probe: `ok` or the reason for which there was none, and the seconds that it took."""


@dataclass(frozen=True)
class Waiting:
    """How long somebody has waited for a probe, by the clock given."""

    wanted_at: float
    started_at: float | None
    """None while it waits for its turn."""


class Prober:
    """Has probes made by `ask`, and tells what came of them by `found`; `clock` gives seconds that never go back."""

    def __init__(self, ask: Ask, found: Found, *, clock: Callable[[], float], observe: Observe) -> None:
        self._ask = ask
        self._found = found
        self._clock = clock
        self._observe = observe
        self._turns: asyncio.Queue[ObjectName] = asyncio.Queue()
        self._wanted: dict[ObjectName, ProbeRequest] = {}
        self._waiting: dict[ObjectName, Waiting] = {}
        self._flowed_at = clock()

    def waiting(self, name: ObjectName) -> Waiting | None:
        """Say since when a key's probe is wanted or under way; None if it is neither."""
        return self._waiting.get(name)

    @property
    def is_idle(self) -> bool:
        """Whether no probe is wanted or under way."""
        return not self._waiting

    @property
    def is_flowing(self) -> bool:
        """Whether signers answer one probe after the other, so that turns come soon."""
        return self._clock() - self._flowed_at < FLOW_SECONDS

    def request(self, request: ProbeRequest) -> bool:
        """Have a key probed in its turn; False if it is being probed just now, and left alone until that is over."""
        name = request.name
        if name in self._waiting and name not in self._wanted:
            return False
        self._wanted[name] = request
        if name not in self._waiting:
            if not self._waiting:
                self._flowed_at = self._clock()
            self._waiting[name] = Waiting(self._clock(), None)
            self._turns.put_nowait(name)
        return True

    def forget(self, name: ObjectName) -> None:
        """Have a key not probed any more that is gone."""
        if self._wanted.pop(name, None) is not None:
            del self._waiting[name]

    async def work(self) -> None:
        """Make probes, one after the other, for ever; run as many of these as probes may be made at once."""
        while True:
            name = await self._turns.get()
            request = self._wanted.pop(name, None)
            if request is not None:
                self._waiting[name] = Waiting(self._waiting[name].wanted_at, self._clock())
                await self._probe(request)

    async def _probe(self, request: ProbeRequest) -> None:
        asked_at, began = datetime.now(UTC), self._clock()
        try:
            result = await self._ask(request)
        except Exception:  # noqa: BLE001 - a bug that one key brings out must not end the probes of all others
            _LOG.exception("a probe broke off", extra={"key": str(request.name)})
            result = ProbeFailure(asked_at, Reason.Internal.name, "the operator could not make the probe; see its logs")
        if isinstance(result, Probe):
            self._flowed_at = self._clock()
        self._observe(result.reason if isinstance(result, ProbeFailure) else "ok", self._clock() - began)
        del self._waiting[request.name]
        self._found(request, result)
