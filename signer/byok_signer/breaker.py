"""Keeps calls from KMS that the key's owner has made pointless, until a trial shows that they are not any more.

It is opened by KMS's own answer, for one key, and lets one real call through every ten seconds: so a key whose grant
comes back signs again within that time, and one that does not costs the account's quota next to nothing. It never
refuses for what the owner did not cause: outages and throttling say nothing about the key.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from byok_api.errors import Reason, Refusal
from byok_signer.kms.errors import VERDICTS
from byok_signer.kms.port import KeyHandle

TRIAL_SECONDS = 10.0
"""Between a failure, or the beginning of a trial that was never heard of again, and the next trial."""
LIMIT = 1024
"""Keys that are remembered as failing; beyond that, those that failed longest ago are forgotten."""

# INTERNAL is the installation's own fault; what waiting mends is nobody's.
OWNER_CAUSED = frozenset(
    verdict.reason
    for verdict in VERDICTS.values()
    if verdict.retry_after is None and verdict.reason.facts.status.name != "INTERNAL"
)
"""Reasons that open it."""


@dataclass
class _Open:
    """A key that fails. Not the refusal itself, which holds on to the frames that it passed through."""

    reason: Reason
    message: str
    metadata: Mapping[str, str]
    failed_at: float
    trial_at: float
    """When the next call is let through."""
    is_on_trial: bool = False


class Breaker:
    """What KMS last said of the keys that fail, by handle: one that its owner has edited is another one.

    `clock` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: OrderedDict[KeyHandle, _Open] = OrderedDict()

    def __len__(self) -> int:
        """Count the keys that fail."""
        return len(self._open)

    def check(self, handle: KeyHandle) -> None:
        """Raise what KMS said, unless a call is let through now."""
        if self._open and (state := self._open.get(handle)) is not None:
            now = self._clock()
            if now < state.trial_at:
                raise _refusal(state, now)

    def enter(self, handle: KeyHandle) -> None:
        """Do as `check`, and if the call is let through as a trial, let no other through until it is over."""
        self.check(handle)
        if self._open and (state := self._open.get(handle)) is not None:
            state.trial_at = self._clock() + TRIAL_SECONDS
            state.is_on_trial = True

    def failed(self, handle: KeyHandle, refusal: Refusal) -> None:
        """Take note of a failed call. One that says nothing about the key ends a trial without a result."""
        now = self._clock()
        if refusal.reason in OWNER_CAUSED:
            self._open[handle] = _Open(refusal.reason, refusal.message, refusal.metadata, now, now + TRIAL_SECONDS)
            self._open.move_to_end(handle)
            if len(self._open) > LIMIT:
                self._open.popitem(last=False)
        elif (state := self._open.get(handle)) is not None and state.is_on_trial:
            state.is_on_trial = False
            state.trial_at = now

    def succeeded(self, handle: KeyHandle) -> None:
        """Take note that the key works, whenever the call began."""
        if self._open:
            self._open.pop(handle, None)


def _refusal(state: _Open, now: float) -> Refusal:
    before, again = round(now - state.failed_at), max(1, round(state.trial_at - now))
    return Refusal(
        state.reason,
        f"{state.message} KMS was asked {before} s ago and is asked again in {again} s.",
        metadata=state.metadata,
    )
