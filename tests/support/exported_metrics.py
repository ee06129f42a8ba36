"""What Prometheus finds at both services, by the names and labels of the samples that they really expose."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from byok_api.conditions import ByokKeyConditionType, Condition, ConditionStatus
from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_operator.metrics import Metrics as OperatorMetrics
from byok_signer.metrics import Metrics as SignerMetrics
from byok_signer.quota import Demand, Family, QuotaKey, Quotas

_KEY, _RECIPE = ObjectName("keys", "brand"), ObjectName("media", "photo")
_NOW = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass(frozen=True)
class Exported:
    """Samples of one service by name, each with its labels' names, and families of which there is no sample."""

    labels: Mapping[str, frozenset[str]]
    empty: frozenset[str]


def of_signer() -> Exported:
    """Have the signer's metrics say everything once, and read them."""
    metrics = SignerMetrics()
    metrics.request_started()
    metrics.request_finished("SignClaim", "OK", 0.1)
    metrics.refused(Reason.RecipeNotMet)
    metrics.unauthenticated()
    metrics.kms_called("Sign", "ok", 0.1)
    metrics.kms_requested("kms:Sign", "ok", 0.1)
    metrics.signed(_KEY, _RECIPE)
    metrics.repeated()
    metrics.reviewed("TokenReview", "allowed", 0.1)
    metrics.observe_readiness(list)
    metrics.observe_audit_lag(lambda: 0.0)
    metrics.observe_tls(lambda: 0.0)
    metrics.checkpoint_ended("ok")
    metrics.catalogue_changed({("ByokKey", "ready"): 1}, {_KEY: 0.0})
    quotas = Quotas(per_second=1000, replicas=lambda: 1, clock=time.monotonic)
    asyncio.run(quotas.acquire(Demand(QuotaKey("1", "eu", Family.ECC), _KEY, None, "media"), timeout=1))
    metrics.observe_quotas(quotas)
    return _read(metrics.registry, metrics.exposition())


def of_operator() -> Exported:
    """Have the operator's metrics say everything once, and read them."""
    metrics = OperatorMetrics(lambda: _NOW)
    ready = Condition(
        type=ByokKeyConditionType.READY,
        status=ConditionStatus.TRUE,
        reason="Verified",
        message="",
        last_transition_time=_NOW,
    )
    metrics.key_planned(_KEY, [ready], expires=_NOW, verified=_NOW)
    denied = ready.model_copy(update={"status": ConditionStatus.FALSE, "reason": "KeyAccessDenied"})
    metrics.key_planned(_RECIPE, [denied], expires=None, verified=None)
    metrics.reconciled("ByokKey", "written", 0.1)
    metrics.probed("ok", 0.1)
    metrics.status_written("ByokKey")
    metrics.event_dropped()
    metrics.leads(is_leader=True)
    metrics.observe_queue(lambda: 0, lambda: 0)
    metrics.signer_certificates(ca=_NOW, serving=_NOW)
    metrics.consumers({"served": 1})
    return _read(metrics.registry, metrics.exposition())


def _read(registry: CollectorRegistry, exposition: bytes) -> Exported:
    labels: dict[str, frozenset[str]] = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            labels[sample.name] = labels.get(sample.name, frozenset()) | set(sample.labels)
    return Exported(labels, frozenset(family.name for family in registry.collect() if not family.samples))
