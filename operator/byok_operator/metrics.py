"""What the operator counts and measures, for Prometheus; it takes plain values and asks nobody.

Labels hold kinds, outcomes, conditions and names of objects that are there: series go when their object does.
"""

import itertools
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from byok_api.conditions import ByokKeyConditionType, Condition, ConditionStatus
from byok_api.references import ObjectName

# A plan takes a millisecond, a status write some, a probe up to its deadline of seconds.
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_NAMED = 100
"""Keys that are named for not being Ready: when KMS is away, they are all."""
_State = tuple[tuple[str, str], ...]


@dataclass(eq=False)
class _Objects(Collector):
    """What was planned last of each object, counted as it changes: a scrape must not walk thousands of statuses."""

    now: Callable[[], datetime]
    tally: Tally[tuple[str, str, str]] = field(default_factory=Tally)
    states: dict[tuple[str, ObjectName], _State] = field(default_factory=dict)
    # Nearly all objects are in one of a few states: each is kept once.
    known: dict[_State, _State] = field(default_factory=dict)
    expiries: dict[ObjectName, datetime] = field(default_factory=dict)
    verified: dict[ObjectName, datetime] = field(default_factory=dict)
    signer: dict[str, datetime] = field(default_factory=dict)

    def put(self, kind: str, name: ObjectName, state: _State) -> None:
        for condition, status in self.states.pop((kind, name), ()):
            self.tally[kind, condition, status] -= 1
        for condition, status in state:
            self.tally[kind, condition, status] += 1
        if state:
            self.states[kind, name] = self.known.setdefault(state, state)

    def collect(self) -> Iterator[Metric]:
        objects = GaugeMetricFamily(
            "byok_operator_objects", "Objects by what a condition says.", labels=("kind", "condition", "status")
        )
        for labels, count in self.tally.items():
            objects.add_metric(labels, count)
        yield objects
        now = self.now()
        yield _by_key(
            "certificate_expiry_seconds",
            "Seconds until a key's certificate chain expires; negative once it has.",
            {name: (end - now).total_seconds() for name, end in self.expiries.items()},
        )
        yield _by_key(
            "verification_age_seconds",
            "Seconds since a key was last proven to sign.",
            {name: (now - moment).total_seconds() for name, moment in self.verified.items()},
        )
        certificates = GaugeMetricFamily(
            "byok_operator_signer_certificate_expiry_seconds",
            "Seconds until the self-managed CA or serving certificate of the signer expires; negative once it has.",
            labels=("certificate",),
        )
        for name, end in self.signer.items():
            certificates.add_metric((name,), (end - now).total_seconds())
        yield certificates


@dataclass(eq=False)
class _Readiness(Collector):
    """What Ready says of each key: counted of all, and told by name of those of which it is not True."""

    tally: Tally[tuple[str, str]] = field(default_factory=Tally)
    """By status and reason."""
    said: dict[ObjectName, tuple[str, str]] = field(default_factory=dict)
    not_ready: dict[ObjectName, tuple[str, str]] = field(default_factory=dict)
    """Who has been it longest comes first, so that the same are named each time."""

    def put(self, name: ObjectName, ready: Condition | None) -> None:
        before = self.said.pop(name, None)
        if before is not None:
            self.tally[before] -= 1
        if ready is not None:
            said = self.said[name] = (ready.status.value, ready.reason)
            self.tally[said] += 1
        if ready is None or ready.status is ConditionStatus.TRUE:
            self.not_ready.pop(name, None)
        else:
            self.not_ready[name] = self.said[name]

    def collect(self) -> Iterator[Metric]:
        keys = GaugeMetricFamily("byok_operator_keys", "Keys by what Ready says.", labels=("ready", "reason"))
        for labels, count in self.tally.items():
            keys.add_metric(labels, count)
        yield keys
        named = GaugeMetricFamily(
            "byok_operator_key_not_ready",
            f"1 for a key of which Ready is not True; the {_NAMED} that have been it longest.",
            labels=("key", "ready", "reason"),
        )
        for name, said in itertools.islice(self.not_ready.items(), _NAMED):
            named.add_metric((str(name), *said), 1)
        yield named


class Metrics:
    """The operator's metrics in a registry of their own; `now` is the aware time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._objects = _Objects(now)
        self.registry.register(self._objects)
        self._readiness = _Readiness()
        self.registry.register(self._readiness)
        self._reconciles = self._histogram(
            "reconcile_seconds", "From taking an object up to being done with it.", "kind", "outcome"
        )
        self._probes = self._histogram("probe_seconds", "From asking the signer to its answer.", "outcome")
        self._writes = self._counter("status_writes", "Statuses written.", "kind")
        self._events_dropped = self._counter("events_dropped", "Events for which there was no room.")
        self._leader = self._gauge("leader", "1 while this process is the one that writes, else 0.")
        self._depth = self._gauge("queue_depth", "Objects that are due or being worked on.")
        self._consumers = self._gauge(
            "consumer_namespaces",
            "Namespaces of the installation's list: served, absent, or failed; and others, uncleared of what they had.",
            "state",
        )
        self._age = self._gauge("queue_age_seconds", "For how long the object that waits longest has been due.")

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """Record one reconcile: of `kind`, such as ByokKey; `outcome` is one word of a few."""
        self._reconciles.labels(kind, outcome).observe(seconds)

    def probed(self, outcome: str, seconds: float) -> None:
        """Record one probe: `outcome` is ok or a Reason's name."""
        self._probes.labels(outcome).observe(seconds)

    def status_written(self, kind: str) -> None:
        """Count a status that the API server took."""
        self._writes.labels(kind).inc()

    def event_dropped(self) -> None:
        """Count an event that nobody will read."""
        self._events_dropped.inc()

    def leads(self, *, is_leader: bool) -> None:
        """Say whether this process leads."""
        self._leader.set(is_leader)

    def observe_queue(self, depth: Callable[[], float], age: Callable[[], float]) -> None:
        """Have the queue asked whenever metrics are read: how many are due, and for how many seconds the oldest is."""
        self._depth.set_function(depth)
        self._age.set_function(age)

    def signer_certificates(self, *, ca: datetime, serving: datetime | None) -> None:
        """Say when the self-managed CA and serving certificate of the signer expire."""
        self._objects.signer = {"ca": ca} | ({"serving": serving} if serving else {})

    def consumers(self, states: Mapping[str, int]) -> None:
        """Say how many consumers there are by what became of them: one word of a few."""
        for state, count in states.items():
            self._consumers.labels(state).set(count)

    def recipe_planned(self, name: ObjectName, conditions: Iterable[Condition] | None) -> None:
        """Replace what is said of a recipe."""
        self._objects.put("SigningRecipe", name, _state(conditions))

    def key_planned(
        self,
        name: ObjectName,
        conditions: Iterable[Condition] | None,
        *,
        expires: datetime | None,
        verified: datetime | None,
    ) -> None:
        """Replace what is said of a key: its conditions, when its chain expires, when it was last proven to sign."""
        known = tuple(conditions or ())
        self._objects.put("ByokKey", name, _state(known))
        ready = next((condition for condition in known if condition.type == ByokKeyConditionType.READY), None)
        self._readiness.put(name, ready)
        _keep(self._objects.expiries, name, expires)
        _keep(self._objects.verified, name, verified)

    def object_gone(self, kind: str, name: ObjectName) -> None:
        """Say no more of an object that was deleted."""
        self._objects.put(kind, name, ())
        if kind == "ByokKey":
            self._readiness.put(name, None)
            _keep(self._objects.expiries, name, None)
            _keep(self._objects.verified, name, None)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"byok_operator_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"byok_operator_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"byok_operator_{name}", meaning, labels, registry=self.registry, buckets=_BUCKETS)


def _state(conditions: Iterable[Condition] | None) -> _State:
    return tuple((condition.type, condition.status.value) for condition in conditions or ())


def _keep(moments: dict[ObjectName, datetime], name: ObjectName, moment: datetime | None) -> None:
    if moment is None:
        moments.pop(name, None)
    else:
        moments[name] = moment


def _by_key(name: str, meaning: str, values: Mapping[ObjectName, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"byok_operator_{name}", meaning, labels=("key",))
    for key, value in values.items():
        family.add_metric((str(key),), value)
    return family
