"""An operator in this process: everything but kopf, on a fake API server, with signers that answer as a test says."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from byok_api.inventory import KEY, RECIPE, Inventory
from byok_api.objects import Identity
from byok_api.references import ObjectName
from byok_operator.apply import StatusWriter
from byok_operator.events import EventWriter
from byok_operator.keys import Keys
from byok_operator.lists import Lists
from byok_operator.means import Means
from byok_operator.metrics import Metrics
from byok_operator.observations import Probe, ProbeFailure, ReplicaHealth
from byok_operator.probing import ProbeRequest
from byok_operator.queue import Retries, WorkQueue
from byok_operator.reconcile import Desk, Reconciler
from byok_operator.store import Kind, Store
from byok_service.kubernetes import KubernetesApi
from tests.support.eventually import until
from tests.support.fake_api_server import FakeApiServer
from tests.support.kinds import KEY_ARN
from tests.support.observed import RULES, probe
from tests.support.pki import identity

COLLECTIONS: dict[str, str] = {KEY: "byok.dev/byokkeys", RECIPE: "byok.dev/signingrecipes", "Namespace": "/namespaces"}
Json = dict[str, Any]


class ScriptedSigners:
    """Answers each probe with what `answer` makes of the request; `gate` holds all answers up while it is closed."""

    def __init__(self) -> None:
        self.requests: list[ProbeRequest] = []
        self.answer: Callable[[ProbeRequest], Probe | ProbeFailure] = passed
        self.gate = asyncio.Event()
        self.gate.set()
        self.health: defaultdict[ObjectName, list[ReplicaHealth]] = defaultdict(list)
        self.came_at: datetime | None = None

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def ask(self, request: ProbeRequest) -> Probe | ProbeFailure:
        self.requests.append(request)
        await self.gate.wait()
        return self.answer(request)

    def health_of(self, name: ObjectName) -> list[ReplicaHealth]:
        return self.health[name]


def passed(request: ProbeRequest) -> Probe:
    return probe(datetime.now(UTC), generation=request.generation)


_QUIET_ROUNDS = 3
"""For so long nothing has to happen until everything counts as done."""


class Operator:
    """The parts put together as `byok_operator.__main__` does; `late` seconds are added to all clocks."""

    def __init__(self, server: FakeApiServer, api: KubernetesApi) -> None:
        self.server = server
        self.api = api
        self.signers = ScriptedSigners()
        self.late = 0.0
        self.leading = True
        self.queue: WorkQueue[Identity] = WorkQueue(Retries(first=0.02), clock=time.monotonic, random=lambda: 0.5)
        self.inventory = Inventory(RULES)
        self.store = Store(self.inventory, wake=self.queue.add_all)
        self.lists = Lists(api, self.store, random=lambda: 0.5)
        means = Means(now=self.now, seconds=lambda: time.monotonic() + self.late, chance=lambda: 0.5)
        self.metrics = Metrics(self.now)
        self.keys = Keys(self.inventory, self.signers, wake=self.queue.add_all, means=means, metrics=self.metrics)
        self.events = EventWriter(api, instance="operator-0", dropped=self.metrics.event_dropped)
        writer = StatusWriter(api, self.store)
        desk = Desk(self.inventory, self.store, self.keys, writer, self.events, self.queue, self.metrics)
        self.reconciler = Reconciler(desk, means=means, leading=lambda: self.leading)

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.late, UTC)

    def apply(self, kind: Kind, name: str, spec: Json, **metadata: Any) -> Json:  # noqa: ANN401 - any metadata
        """Have a user apply an object, and the operator hear of it."""
        before = self.server.objects[COLLECTIONS[kind]].get(_parts(name), {})
        kept = {"status": before["status"]} if "status" in before else {}
        stored = self.server.put(COLLECTIONS[kind], manifest(kind, name, spec, **metadata) | kept)
        self.store.changed(kind, "MODIFIED", stored)
        return stored

    def delete(self, kind: Kind, name: str) -> None:
        """Have a user delete an object, and the operator hear of it."""
        found = self.stored(kind, name)
        self.server.remove(COLLECTIONS[kind], *_parts(name))
        self.store.changed(kind, "DELETED", found)

    def stored(self, kind: Kind, name: str) -> Json:
        return self.server.objects[COLLECTIONS[kind]][_parts(name)]

    def status(self, kind: Kind, name: str) -> Json:
        status: Json = self.stored(kind, name).get("status") or {}
        return status

    def says(self, kind: Kind, name: str, condition: str = "Ready") -> str:
        """Put a condition as Status/Reason; empty if it is not there."""
        found = (each for each in self.status(kind, name).get("conditions", ()) if each["type"] == condition)
        return next((f"{each['status']}/{each['reason']}" for each in found), "")

    def writes(self) -> list[str]:
        """List the paths of all statuses that were written."""
        return [path.partition("?")[0] for method, path in self.server.requests if method == "PATCH"]

    def wake_key(self) -> None:
        """Have the key looked at that was probed first."""
        self.queue.add((KEY, self.signers.requests[0].name))

    async def settled(self) -> None:
        """Wait until nothing is due any more, nothing under way, and no probe awaited."""
        await until(lambda: self.queue.depth == 0)
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            before = len(self.server.requests)
            await asyncio.sleep(0.01)
            quiet = quiet + 1 if self.queue.is_idle and before == len(self.server.requests) else 0

    def reconciles(self, kind: str, outcome: str) -> float:
        """Count reconciles of a kind that ended so."""
        labels = {"kind": kind, "outcome": outcome}
        return self.measured("byok_operator_reconcile_seconds_count", **labels)

    def measured(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def operator_on(server: FakeApiServer, folder: Path) -> AsyncIterator[Operator]:
    """Run an operator on what the API server has."""
    api = await KubernetesApi.connect(server.kubeconfig(folder))
    operator = Operator(server, api)
    await operator.lists.fill()
    workers = [asyncio.create_task(operator.reconciler.work()) for _ in range(4)]
    workers += [asyncio.create_task(operator.keys.probe()) for _ in range(4)]
    workers.append(asyncio.create_task(operator.events.run()))
    try:
        yield operator
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await api.close()


def manifest(kind: str, name: str, spec: Json, **metadata: Any) -> Json:  # noqa: ANN401 - any metadata
    namespace, short = _parts(name)
    own = {"name": short, **({"namespace": namespace} if namespace else {}), **metadata}
    version = "v1" if kind == "Namespace" else "byok.dev/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": own, "spec": spec}


def key_spec(**changes: Any) -> Json:  # noqa: ANN401 - any spec
    """Make the spec of a key that can sign."""
    return {"aws": {"keyArn": KEY_ARN}, "certificate": {"pem": identity().chain_pem}, **changes}


def recipe_spec(**changes: Any) -> Json:  # noqa: ANN401 - any spec
    """Make the spec of a recipe of the key `key` of its own namespace."""
    return {"version": 1, "c2pa": {"assertions": ["ai_generated"]}, "keyRef": {"name": "key"}, **changes}


def _parts(name: str) -> tuple[str, str]:
    namespace, _, short = name.rpartition("/")
    return namespace, short


def answering(**changes: Any) -> Callable[[ProbeRequest], Probe]:  # noqa: ANN401 - any fields of a probe
    """Answer with a probe of which some things are otherwise."""
    return lambda request: replace(passed(request), **changes)
