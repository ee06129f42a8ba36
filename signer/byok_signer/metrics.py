"""What the signer counts and measures, for Prometheus.

Labels hold method names, codes, reasons and names of catalogued objects: nothing that a caller can make up, so that no
caller can make the number of series grow.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_signer.quota import Quotas

# A KMS call takes 5-50 ms; the deadline cuts off at seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_Child = TypeVar("_Child")


class _Children(dict[tuple[str, ...], _Child]):
    """A metric's children by label values: a lookup in place of prometheus_client's checks on each `labels`."""

    def __init__(self, labels: Callable[..., _Child]) -> None:
        super().__init__()
        self._labels = labels

    def __missing__(self, values: tuple[str, ...]) -> _Child:
        child = self[values] = self._labels(*values)
        return child

    def begin(self, values: Iterable[str]) -> None:
        """Have children of one label each from the start on: a rate misses the event that makes a counter."""
        for value in values:
            self[value,] = self._labels(value)


class _QuotaMetrics(Collector):
    """Reads this signer's quotas; those in use only, and so no more than there are accounts, Regions and families."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def collect(self) -> Iterator[Metric]:
        labels = ("account", "region", "family")
        rate = GaugeMetricFamily("byok_signer_quota_per_second", "This signer's share of a quota, now.", labels=labels)
        waiting = GaugeMetricFamily("byok_signer_quota_waiting", "Signatures that wait for a quota.", labels=labels)
        for quota, level in self._quotas.levels().items():
            values = (quota.account, quota.region, quota.family.value)
            rate.add_metric(values, level.rate)
            waiting.add_metric(values, level.waiting)
        yield rate
        yield waiting
        asked = CounterMetricFamily("byok_signer_quota", "What became of those who asked.", labels=("outcome",))
        for outcome, count in asdict(self._quotas.counts).items():
            asked.add_metric((outcome,), count)
        yield asked


class Metrics:
    """The signer's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = _Children(self._counter("requests", "Calls answered.", "method", "code").labels)
        self._request_seconds = _Children(
            self._histogram("request_seconds", "From a call's arrival to its answer.", "method").labels
        )
        self._refusals = _Children(
            self._counter("refusals", "Refusals, of calls and of stream items.", "reason").labels
        )
        self._refusals.begin(reason.name for reason in Reason)
        self._unauthenticated = self._counter("unauthenticated", "Calls refused before the caller was known.")
        self._kms_seconds = _Children(
            self._histogram("kms_seconds", "What KMS was asked, retries included.", "operation", "outcome").labels
        )
        self._kms_requests = _Children(
            self._counter("kms_requests", "Requests to KMS and STS, each retry its own.", "operation", "outcome").labels
        )
        self._kms_request_seconds = _Children(
            self._histogram("kms_request_seconds", "From a request to KMS or STS to its answer.", "operation").labels
        )
        self._signatures = _Children(
            self._counter("signatures", "Signatures released, each verified and recorded.", "key", "recipe").labels
        )
        self._repeated = self._counter("signatures_repeated", "Signatures given out again to a caller who asked again.")
        self._checkpoints = _Children(
            self._counter("checkpoints", "Tries to sign the audit chain's head.", "outcome").labels
        )
        self._checkpoint_time = self._gauge(
            "checkpoint_timestamp_seconds", "When the audit chain's head was last signed, unix time; 0 if never."
        )
        self._reviews = _Children(
            self._counter("reviews", "Questions to the API server about callers.", "kind", "outcome").labels
        )
        self._review_seconds = _Children(
            self._histogram("review_seconds", "From such a question to its answer, turns included.", "kind").labels
        )
        self._ready = self._gauge(
            "ready", "1 while this signer serves and all that it needs is there, as /readyz, else 0."
        )
        self._in_flight = self._gauge("in_flight", "Calls being served.")
        self._audit_lag = self._gauge("audit_lag_seconds", "Age of the oldest audit record that is not durable yet.")
        self._objects = self._gauge(
            "catalogue_objects", "Objects that the signer knows: ready, or the reason why not.", "kind", "state"
        )
        self._not_after = self._gauge(
            "certificate_not_after_timestamp_seconds", "When a key's certificate chain expires, unix time.", "key"
        )
        self._tls_not_after = self._gauge(
            "tls_not_after_timestamp_seconds", "When the TLS certificate served expires, unix time; +Inf without one."
        )
        self._tls_not_after.set(math.inf)

    def request_started(self) -> None:
        """Count a call in; `request_finished` counts it out."""
        self._in_flight.inc()

    def request_finished(self, method: str, code: str, seconds: float) -> None:
        """Record an answered call: a method of the service, never a path that a caller wrote, and a gRPC code."""
        self._in_flight.dec()
        self._requests[method, code].inc()
        self._request_seconds[method,].observe(seconds)

    def refused(self, reason: Reason) -> None:
        """Count a refusal."""
        self._refusals[reason.name,].inc()

    def unauthenticated(self) -> None:
        """Count a call that was refused before its caller was known; such a call leaves no audit record."""
        self._unauthenticated.inc()

    def kms_called(self, operation: str, outcome: str, seconds: float) -> None:
        """Record what KMS was asked for one signature: `operation` is Sign, `outcome` ok or a Reason's name."""
        self._kms_seconds[operation, outcome].observe(seconds)

    def kms_requested(self, operation: str, outcome: str, seconds: float) -> None:
        """Record one request to KMS or STS, as `byok_signer.kms.client.Observe` is told of it."""
        self._kms_requests[operation, outcome].inc()
        self._kms_request_seconds[operation,].observe(seconds)

    def signed(self, key: ObjectName, recipe: ObjectName) -> None:
        """Count a signature that left the signer."""
        self._signatures[str(key), str(recipe)].inc()

    def repeated(self) -> None:
        """Count a signature that was given out again."""
        self._repeated.inc()

    def reviewed(self, kind: str, outcome: str, seconds: float) -> None:
        """Record a question about a caller: TokenReview or SubjectAccessReview; allowed, denied or unanswered."""
        self._reviews[kind, outcome].inc()
        self._review_seconds[kind,].observe(seconds)

    def observe_readiness(self, reasons: Callable[[], Sequence[str]]) -> None:
        """Have `reasons` asked, why it is not ready, whenever metrics are read."""
        self._ready.set_function(lambda: not reasons())

    def observe_audit_lag(self, lag: Callable[[], float]) -> None:
        """Have `lag` asked, in seconds, whenever metrics are read."""
        self._audit_lag.set_function(lag)

    def observe_tls(self, not_after: Callable[[], float]) -> None:
        """Have `not_after` asked, in unix time, whenever metrics are read."""
        self._tls_not_after.set_function(not_after)

    def checkpoint_ended(self, outcome: str) -> None:
        """Count a try to sign the audit chain's head: `outcome` is ok or a Reason's name."""
        self._checkpoints[outcome,].inc()
        if outcome == "ok":
            self._checkpoint_time.set_to_current_time()

    def observe_quotas(self, quotas: Quotas) -> None:
        """Have the quotas looked at whenever metrics are read."""
        self.registry.register(_QuotaMetrics(quotas))

    def catalogue_changed(self, objects: Mapping[tuple[str, str], int], not_after: Mapping[ObjectName, float]) -> None:
        """Replace what is said of the catalogue: counts by (kind, ready or reason), certificates' unix ends by key."""
        self._objects.clear()
        for labels, count in objects.items():
            self._objects.labels(*labels).set(count)
        self._not_after.clear()
        for key, end in not_after.items():
            self._not_after.labels(str(key)).set(end)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"byok_signer_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"byok_signer_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"byok_signer_{name}", meaning, labels, registry=self.registry, buckets=_BUCKETS)
