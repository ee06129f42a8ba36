"""One look at a ByokKey: what is known of it, whether a signer is to be asked, what its status is to be."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from byok_api.conditions import ByokKeyConditionType, Condition, ConditionStatus
from byok_api.inventory import KEY, Inventory
from byok_api.key_rules import KeyStanding
from byok_api.objects import Identity
from byok_api.references import ObjectName
from byok_api.statuses import ByokKeyStatus
from byok_operator.evidence import verified_at
from byok_operator.key_plan import KeyPlan, plan_key
from byok_operator.means import Means
from byok_operator.metrics import Metrics
from byok_operator.observations import KeyObservation, Probe, ProbeFailure, ReplicaHealth
from byok_operator.probing import FLOW_SECONDS, Prober, ProbeRequest
from byok_operator.schedule import (
    Occasion,
    Timetable,
    asks_for_least_privilege,
    attempted,
    begin,
    look_again_at,
    occasion_of,
    probe_due_at,
)
from byok_operator.statuses import read_status
from byok_operator.store import Seen
from byok_operator.transitions import by_type

PATIENCE_WITH_PROBE = 2.0
"""Seconds that a status waits for a probe under way which will say more: so it is written once and not twice."""
PATIENCE_WITH_TURN = 120.0
"""Seconds that it waits for the probe's turn, where thousands of keys are new at once and signers answer."""


class Signers(Protocol):
    """Whom to ask about keys."""

    async def run(self) -> None:
        """Keep track of who there is to ask, for ever."""

    async def ask(self, request: ProbeRequest) -> Probe | ProbeFailure:
        """Have a key probed by one of the signers."""

    def health_of(self, name: ObjectName) -> Iterable[ReplicaHealth]:
        """List what each replica that is connected sees of a key while it signs."""

    @property
    def came_at(self) -> datetime | None:
        """When a replica was last heard of that was not before."""


@dataclass
class _Desk:
    """What this process remembers of one key, beside what the API server has."""

    uid: str
    timetable: Timetable | None = None
    asked: Occasion | None = None
    """What the probe is made on that is wanted or under way."""
    answered: bool = False
    """Whether a probe has ended that the timetable does not know of yet."""
    probe: Probe | None = None
    failure: ProbeFailure | None = None
    recipes_written: datetime | None = None


@dataclass(frozen=True)
class KeyLook:
    """What came of a look at a key."""

    plan: KeyPlan | None
    """None: nothing is to be written before a probe has ended, or patience with it."""
    again_in: float | None
    """Seconds until the next look, if nothing is heard before; None: no need."""
    expires: datetime | None = None
    """When the key's certificate chain does."""
    verified: datetime | None = None
    """When the key was last known to sign."""


class Keys:
    """Looks at keys, and has them probed as their timetables say; `wake` is told whose probe has ended."""

    def __init__(
        self,
        inventory: Inventory,
        signers: Signers,
        *,
        wake: Callable[[Iterable[Identity]], None],
        means: Means,
        metrics: Metrics,
    ) -> None:
        self._inventory = inventory
        self._signers = signers
        self._wake = wake
        self._means = means
        self._prober = Prober(signers.ask, self._answered, clock=means.seconds, observe=metrics.probed)
        self._desks: dict[ObjectName, _Desk] = {}
        self._ready: dict[ObjectName, Condition] = {}

    def ready(self, name: ObjectName) -> Condition | None:
        """Give a key's Ready as it was last planned; None if this process has not planned it yet."""
        return self._ready.get(name)

    @property
    def expects_probes(self) -> bool:
        """Whether some are wanted or under way, and signers answer."""
        return not self._prober.is_idle and self._prober.is_flowing

    async def probe(self) -> None:
        """Make the probes that are wanted, one after the other, for ever; several of these may run at once."""
        await self._prober.work()

    def look(self, name: ObjectName, seen: Seen) -> KeyLook | None:
        """Look at a key that was seen; None if the inventory has no such key."""
        now = self._means.now()
        desk = self._desk(name, seen.uid)
        observed = self._observe(name, seen, desk)
        if observed is None:
            return None
        due = self._probe_due_at(desk, observed, now)
        if due is not None and due <= now:
            self._have_probed(desk, observed, now)
        if observed.status is None and observed.probe is None and (patience := self._patience(name, is_open=True)) > 0:
            # Of a new key there is nothing to say yet; to plan that would double what thousands of them cost.
            return KeyLook(None, min(patience, FLOW_SECONDS))
        plan = plan_key(observed, now)
        ready = by_type(plan.status.conditions)[ByokKeyConditionType.READY]
        is_open = plan.is_provisional and ready.status is ConditionStatus.UNKNOWN
        awaits_probe = plan.is_provisional or plan.is_contradicted
        if awaits_probe and (patience := self._patience(name, is_open=is_open)) > 0:
            return KeyLook(None, min(patience, FLOW_SECONDS))
        self._ready[name] = ready
        moments = [due if due is not None and due > now else None, look_again_at(observed, now)]
        later = min((moment for moment in moments if moment is not None), default=None)
        again_in = _seconds(later - now) if later is not None else None
        chain = observed.standing.chain if isinstance(observed.standing, KeyStanding) else None
        return KeyLook(plan, again_in, chain.not_after if chain else None, verified_at(observed, now))

    def written(self, name: ObjectName, status: ByokKeyStatus, before: int | None) -> None:
        """Note that a status was written; `before` is the count of recipes that it had."""
        desk = self._desks.get(name)
        if desk is not None and status.recipes != before:
            desk.recipes_written = self._means.now()

    def forget(self, name: ObjectName) -> None:
        """Drop all about a key that is gone."""
        self._desks.pop(name, None)
        self._ready.pop(name, None)
        self._prober.forget(name)

    def _answered(self, request: ProbeRequest, result: Probe | ProbeFailure) -> None:
        desk = self._desks.get(request.name)
        if desk is None or desk.uid != request.uid:
            # Of a key that was made again meanwhile, and must have a probe of its own.
            self._wake([(KEY, request.name)])
            return
        desk.answered = True
        if isinstance(result, ProbeFailure):
            desk.failure = result
        else:
            desk.probe = replace(result, reverify=request.reverify).succeeding(desk.probe)
            desk.failure = None
        self._wake([(KEY, request.name)])

    def _desk(self, name: ObjectName, uid: str) -> _Desk:
        desk = self._desks.get(name)
        if desk is None or desk.uid != uid:
            self.forget(name)
            desk = self._desks[name] = _Desk(uid)
        return desk

    def _observe(self, name: ObjectName, seen: Seen, desk: _Desk) -> KeyObservation | None:
        standing = self._inventory.key(name)
        if standing is None:
            return None
        return KeyObservation(
            name=name,
            uid=seen.uid,
            generation=seen.generation,
            standing=standing,
            status=read_status(ByokKeyStatus, seen),
            probe=desk.probe,
            probe_failure=desk.failure,
            health=tuple(self._signers.health_of(name)),
            signer_came=self._signers.came_at,
            recipes=len(self._inventory.recipes_of(name)),
            recipes_written=desk.recipes_written,
            reverify=seen.reverify,
        )

    def _probe_due_at(self, desk: _Desk, observed: KeyObservation, now: datetime) -> datetime | None:
        if desk.timetable is None:
            desk.timetable = begin(observed, now, self._means.chance())
        if desk.answered and desk.asked is not None:
            desk.timetable = attempted(
                desk.timetable, observed, asked_for=desk.asked, now=now, chance=self._means.chance()
            )
            desk.answered = False
        return probe_due_at(desk.timetable, observed, now)

    def _have_probed(self, desk: _Desk, observed: KeyObservation, now: datetime) -> None:
        request = ProbeRequest(
            observed.name,
            observed.uid,
            observed.generation,
            least_privilege=asks_for_least_privilege(observed),
            reverify=observed.reverify,
        )
        if self._prober.request(request):
            desk.asked = occasion_of(observed, now)

    def _patience(self, name: ObjectName, *, is_open: bool) -> float:
        """Give the seconds to wait for a key's probe; `is_open`: nothing that matters is decided without it."""
        waiting = self._prober.waiting(name)
        if waiting is None:
            return 0.0
        if waiting.started_at is None and is_open and self._prober.is_flowing:
            until = waiting.wanted_at + PATIENCE_WITH_TURN
        else:
            until = (waiting.started_at if is_open and waiting.started_at else waiting.wanted_at) + PATIENCE_WITH_PROBE
        return until - self._means.seconds()


def _seconds(wait: timedelta) -> float:
    return max(0.0, wait.total_seconds())
