"""What KMS said last of each key while this replica signed, for those who watch.

Only answers that say something about the key count, and only for its spec as it stands: what came of a spec that its
owner has edited since is dropped, and so is everything about a key that is gone. A watcher that is slow holds nothing
up: of each key it gets the latest.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_signer.breaker import OWNER_CAUSED
from byok_signer.entries import Catalogue, KeyEntry, Pin
from byok_signer.probe import CheckOutcome

LIMIT = 10_000
"""Keys that are remembered; beyond that, those of which nothing new was said for longest are forgotten."""
REFRESH_SECONDS = 60.0
"""Between two reports that a key which passes was verified again."""
OUTAGE_SECONDS = 10.0
"""For which a key that passed is not called unknown: of thousands of calls a few fail, which says nothing."""
REFUSED_AGAIN_SECONDS = 5.0
"""After which a refusal like the one before is news: meanwhile somebody else may have found that KMS would sign."""
_SWEEP_SECONDS = 1.0
"""Between two looks for keys that are gone."""

_OUTCOMES = {
    **dict.fromkeys((*OWNER_CAUSED, Reason.CertificateMismatch, Reason.KmsAnswerInvalid), CheckOutcome.FAILED),
    **dict.fromkeys(
        (
            Reason.KmsUnavailable,
            Reason.KmsThrottled,
            Reason.KmsDeadlineExceeded,
            Reason.SignerCredentialsInvalid,
            Reason.SignerClockSkewed,
        ),
        CheckOutcome.UNKNOWN,
    ),
}


@dataclass(frozen=True, slots=True)
class KeyHealth:
    """What KMS said last of one key."""

    name: ObjectName
    generation: int
    """Of the spec that was signed with; 0 for an object without one."""
    outcome: CheckOutcome | None
    """None for a key that is gone."""
    reason: Reason | None
    message: str
    since: datetime
    """When the outcome became this one, for this reason; of a refusal, when it was last met, to some seconds."""
    last_verified: datetime | None
    """When a signature was last verified, to the minute."""


@dataclass(slots=True)
class _Known:
    pin: Pin
    health: KeyHealth
    verified_at: float = float("-inf")
    """By the clock, exactly."""
    refresh_at: float = float("-inf")
    """When the next signature that verifies is worth a report."""


class HealthBoard:
    """What is known of all keys, and who is told; for one event loop.

    `clock` gives seconds that never go back.
    """

    def __init__(
        self, catalogue: Callable[[], Catalogue], *, now: Callable[[], datetime], clock: Callable[[], float]
    ) -> None:
        self._catalogue = catalogue
        self._now = now
        self._clock = clock
        self._known: OrderedDict[ObjectName, _Known] = OrderedDict()
        self._watches: set[Watch] = set()
        self._swept: Catalogue | None = None
        self._sweep_at = float("-inf")

    def verified(self, pin: Pin) -> None:
        """Take note that KMS made a signature which the pinned public key verifies."""
        now, known = self._clock(), self._known.get(pin.handle.name)
        if known is not None and known.refresh_at > now and known.pin == pin:
            known.verified_at = now
            return
        self._note(pin, CheckOutcome.PASSED, None)

    def failed(self, pin: Pin, refusal: Refusal) -> None:
        """Take note that a signature was not had from KMS, or not the public key, if that says anything of the key."""
        outcome = _OUTCOMES.get(refusal.reason)
        if outcome is not None and not (outcome is CheckOutcome.UNKNOWN and self._knows_better(pin)):
            self._note(pin, outcome, refusal)

    def sweep(self) -> None:
        """Forget keys that are gone, or whose spec names another key now; at most once a second.

        What is known of a key outlives edits that KMS has no part in.
        """
        now, catalogue = self._clock(), self._catalogue()
        if catalogue is self._swept or now < self._sweep_at:
            return
        self._swept, self._sweep_at = catalogue, now + _SWEEP_SECONDS
        for name, known in list(self._known.items()):
            entry = _entry_for(catalogue, known.pin)
            if entry is None:
                del self._known[name]
            elif known.health.generation != _generation_of(entry):
                known.health = replace(known.health, generation=_generation_of(entry))
            else:
                continue
            self._tell(name)

    def look_up(self, name: ObjectName) -> KeyHealth:
        """Tell what is known of a key, by a health without outcome if nothing is."""
        known = self._known.get(name)
        return known.health if known is not None else KeyHealth(name, 0, None, None, "", self._now(), None)

    @contextmanager
    def watching(self, namespace: str | None) -> "Iterator[Watch]":
        """Watch all keys, or those of a namespace; first of all, all that are known count as changed."""
        self.sweep()
        watch = Watch(self, namespace)
        for name in self._known:
            watch.note(name)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def _knows_better(self, pin: Pin) -> bool:
        """Whether KMS has said of this very spec what an outage does not unsay: a refusal, or a yes a moment ago."""
        known = self._known.get(pin.handle.name)
        if known is None or known.pin != pin:
            return False
        match known.health.outcome:
            case CheckOutcome.FAILED:
                return True
            case CheckOutcome.PASSED:
                return self._clock() < known.verified_at + OUTAGE_SECONDS
            case _:
                return False

    def _note(self, pin: Pin, outcome: CheckOutcome, refusal: Refusal | None) -> None:
        name, entry = pin.handle.name, _entry_for(self._catalogue(), pin)
        if entry is None:
            return
        now, known = self._now(), self._known.get(name)
        health = KeyHealth(
            name=name,
            generation=_generation_of(entry),
            outcome=outcome,
            reason=refusal.reason if refusal else None,
            message=refusal.message if refusal else "",
            since=now,
            last_verified=None if refusal else now,
        )
        if known is not None and _entry_for(self._catalogue(), known.pin) is entry:
            before = known.health
            if _goes_on(before, health):
                health = replace(health, since=before.since)
            if refusal is not None:
                health = replace(health, last_verified=before.last_verified)
            if health == before:
                return
        else:
            known = self._known[name] = _Known(pin, health)
            self._make_room()
        known.pin, known.health = pin, health
        known.refresh_at = float("-inf")
        if refusal is None:
            known.verified_at = self._clock()
            known.refresh_at = known.verified_at + REFRESH_SECONDS
        self._known.move_to_end(name)
        self._tell(name)

    def _make_room(self) -> None:
        if len(self._known) > LIMIT:
            name, _ = self._known.popitem(last=False)
            self._tell(name)

    def _tell(self, name: ObjectName) -> None:
        for watch in self._watches:
            watch.note(name)


class Watch:
    """What one watcher has not been told yet; no more than there are keys."""

    def __init__(self, board: HealthBoard, namespace: str | None) -> None:
        self._board = board
        self._namespace = namespace
        self._changed: dict[ObjectName, None] = {}
        self._stirred = asyncio.Event()
        self.ended = False

    def end(self) -> None:
        """Wait no longer."""
        self.ended = True
        self._stirred.set()

    def note(self, name: ObjectName) -> None:
        """Take note that something new is known of a key."""
        if self._namespace is None or self._namespace == name.namespace:
            self._changed[name] = None
            self._stirred.set()

    def take(self, limit: int) -> list[KeyHealth]:
        """Take what is to be told, `limit` keys at most, as it is known now."""
        names = [name for name, _ in zip(self._changed, range(limit), strict=False)]
        for name in names:
            del self._changed[name]
        if not self._changed and not self.ended:
            self._stirred.clear()
        return [self._board.look_up(name) for name in names]

    async def stirred(self, seconds: float) -> bool:
        """Wait until there is something to tell, or the watch is to end; False if the time is over before."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._stirred.is_set():
            left = until - loop.time()
            if left <= 0:
                return False
            # Nothing tells of keys that are gone.
            self._board.sweep()
            if not self._stirred.is_set():
                await _wait(self._stirred, min(left, _SWEEP_SECONDS))
        return True


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _goes_on(before: KeyHealth, health: KeyHealth) -> bool:
    if (before.outcome, before.reason) != (health.outcome, health.reason):
        return False
    age = (health.since - before.since).total_seconds()
    return health.outcome is not CheckOutcome.FAILED or age < REFUSED_AGAIN_SECONDS


def _entry_for(catalogue: Catalogue, pin: Pin) -> KeyEntry | None:
    """Find the key whose spec, as it stands, is what the pin was made of; a key without certificate has any pin."""
    entry = catalogue.keys.get(pin.handle.name)
    if not isinstance(entry, KeyEntry) or entry.handle != pin.handle:
        return None
    if entry.chain is not None and entry.chain.spki_sha256 != pin.spki_sha256:
        return None
    return entry


def _generation_of(entry: KeyEntry) -> int:
    return entry.manifest.metadata.generation or 0
