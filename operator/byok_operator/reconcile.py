"""Observe, plan, apply: one object at a time, again whenever something that it depends on has changed."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from byok_api.conditions import Condition
from byok_api.fields import Model
from byok_api.inventory import KEY, RECIPE, Inventory
from byok_api.objects import Identity
from byok_api.recipe_rules import RecipeStanding
from byok_api.references import ObjectName
from byok_api.statuses import ByokKeyStatus, SigningRecipeStatus
from byok_operator.apply import Applied, StatusWriter
from byok_operator.events import EventWriter
from byok_operator.keys import Keys
from byok_operator.means import Means
from byok_operator.metrics import Metrics
from byok_operator.observations import RecipeObservation
from byok_operator.queue import WorkQueue
from byok_operator.recipe_plan import plan_recipe
from byok_operator.statuses import read_status
from byok_operator.store import Seen, Store
from byok_operator.transitions import Event
from byok_service.kubernetes import ApiUnavailable, KubernetesError

_LOG = logging.getLogger(__name__)
_LONGEST_ASKED = 60.0
"""Seconds that the API server may ask a retry to wait."""


@dataclass(frozen=True)
class Desk:
    """What reconciling works with."""

    inventory: Inventory
    store: Store
    keys: Keys
    writer: StatusWriter
    events: EventWriter
    queue: WorkQueue[Identity]
    metrics: Metrics


class Reconciler:
    """Works off the queue, for as long as `leading` says that this process may write."""

    def __init__(self, desk: Desk, *, means: Means, leading: Callable[[], bool]) -> None:
        self._desk = desk
        self._means = means
        self._leading = leading

    async def work(self) -> None:
        """Reconcile what is due, one after the other, for ever; several of these may run at once."""
        queue = self._desk.queue
        while True:
            identity = await queue.get()
            try:
                await self._attempt(identity)
            finally:
                queue.done(identity)

    async def _attempt(self, identity: Identity) -> None:
        kind, name = identity
        began = self._means.seconds()
        try:
            outcome = await self._reconcile(identity)
        except KubernetesError as error:
            outcome, asked = "refused", 0.0
            if isinstance(error, ApiUnavailable):
                outcome, asked = "unavailable", min(error.retry_after or 0.0, _LONGEST_ASKED)
            delay = self._desk.queue.retry(identity, at_least=asked)
            _LOG.warning(
                "status could not be written",
                extra={"kind": kind, "object": str(name), "cause": str(error), "again_in": round(delay, 1)},
            )
        except Exception:  # noqa: BLE001 - a bug that one object brings out must not stop the work on all others
            outcome = "failed"
            delay = self._desk.queue.retry(identity)
            _LOG.exception(
                "reconciling broke off", extra={"kind": kind, "object": str(name), "again_in": round(delay, 1)}
            )
        else:
            if outcome == Applied.CONFLICT:
                self._desk.queue.retry(identity)
            else:
                self._desk.queue.succeeded(identity)
        self._desk.metrics.reconciled(kind, outcome, self._means.seconds() - began)

    async def _reconcile(self, identity: Identity) -> str:
        seen = self._desk.store.seen(identity)
        if seen is None:
            self._forget(identity)
            return Applied.GONE
        if identity[0] == KEY:
            return await self._key(identity[1], seen)
        return await self._recipe(identity[1], seen)

    def _forget(self, identity: Identity) -> None:
        self._desk.writer.forget(identity)
        self._desk.queue.succeeded(identity)
        self._desk.metrics.object_gone(*identity)
        if identity[0] == KEY:
            self._desk.keys.forget(identity[1])

    async def _key(self, name: ObjectName, seen: Seen) -> str:
        keys = self._desk.keys
        before = keys.ready(name)
        look = keys.look(name, seen)
        if look is None:
            return Applied.GONE
        if look.again_in is not None:
            self._desk.queue.add((KEY, name), look.again_in)
        if look.plan is None:
            return "waiting"
        if _says_else(before, keys.ready(name)):
            self._desk.queue.add_all((RECIPE, recipe) for recipe in self._desk.inventory.recipes_of(name))
        status = look.plan.status
        self._desk.metrics.key_planned(name, status.conditions, expires=look.expires, verified=look.verified)
        outcome = await self._apply((KEY, name), seen, status, look.plan.events)
        if outcome is Applied.WRITTEN:
            shown = read_status(ByokKeyStatus, seen)
            keys.written(name, status, shown.recipes if shown else None)
        return outcome

    async def _recipe(self, name: ObjectName, seen: Seen) -> str:
        standing = self._desk.inventory.recipe(name)
        if standing is None:
            return Applied.GONE
        key = standing.key if isinstance(standing, RecipeStanding) else None
        ready = self._desk.keys.ready(key) if key is not None else None
        observed = RecipeObservation(
            name=name,
            uid=seen.uid,
            generation=seen.generation,
            standing=standing,
            status=read_status(SigningRecipeStatus, seen),
            key_ready=ready,
        )
        plan = plan_recipe(observed, self._means.now())
        if plan.is_provisional and ready is None:
            # Its key wakes it as soon as it is planned.
            return "waiting"
        self._desk.metrics.recipe_planned(name, plan.status.conditions)
        return await self._apply((RECIPE, name), seen, plan.status, plan.events)

    async def _apply(self, identity: Identity, seen: Seen, status: Model, events: tuple[Event, ...]) -> Applied:
        if not self._leading():
            # Whoever leads now will look at it.
            return Applied.UNCHANGED
        content = json.loads(status.model_dump_json(by_alias=True, exclude_none=True))
        outcome = await self._desk.writer.write(identity, seen, content)
        if outcome is Applied.WRITTEN:
            self._desk.metrics.status_written(identity[0])
            for event in events:
                self._desk.events.tell(identity, seen.uid, event)
        return outcome


def _says_else(before: Condition | None, now: Condition | None) -> bool:
    return now is not None and (before is None or (before.status, before.reason) != (now.status, now.reason))
