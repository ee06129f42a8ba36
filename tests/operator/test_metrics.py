"""What Prometheus reads of the operator."""

from datetime import datetime, timedelta

from byok_api.conditions import ByokKeyConditionType, Condition, ConditionStatus
from byok_api.references import ObjectName
from byok_operator.key_plan import plan_key
from byok_operator.metrics import Metrics
from tests.support.observed import NAME, NOW, observed, probe


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"byok_operator_{name}", labels)


def metrics_at(now: datetime = NOW) -> Metrics:
    return Metrics(lambda: now)


def test_reconciles_are_counted_by_outcome() -> None:
    metrics = metrics_at()
    metrics.reconciled("ByokKey", "written", 0.2)
    metrics.reconciled("ByokKey", "unchanged", 0.1)
    assert value(metrics, "reconcile_seconds_count", kind="ByokKey", outcome="written") == 1
    assert value(metrics, "reconcile_seconds_sum", kind="ByokKey", outcome="unchanged") == 0.1


def test_the_queue_is_asked_when_metrics_are_read() -> None:
    metrics, waiting = metrics_at(), [3.0]
    metrics.observe_queue(lambda: waiting[0], lambda: 1.5)
    waiting[0] = 4.0
    assert value(metrics, "queue_depth") == 4
    assert value(metrics, "queue_age_seconds") == 1.5


def test_an_object_is_counted_once_under_each_condition_as_last_planned() -> None:
    metrics = metrics_at()
    for plan in (plan_key(observed(), NOW), plan_key(observed(probe=probe()), NOW)):
        metrics.key_planned(NAME, plan.status.conditions, expires=None, verified=None)
    assert value(metrics, "objects", kind="ByokKey", condition="Ready", status="True") == 1
    assert value(metrics, "objects", kind="ByokKey", condition="Ready", status="Unknown") == 0


def ready(status: ConditionStatus, reason: str) -> Condition:
    type_ = ByokKeyConditionType.READY
    return Condition(type=type_, status=status, reason=reason, message="", last_transition_time=NOW)


DENIED = ready(ConditionStatus.FALSE, "KeyAccessDenied")
VERIFIED = ready(ConditionStatus.TRUE, "Verified")


def named(metrics: Metrics) -> list[tuple[str, str, str]]:
    (family,) = (each for each in metrics.registry.collect() if each.name == "byok_operator_key_not_ready")
    return [(sample.labels["key"], sample.labels["ready"], sample.labels["reason"]) for sample in family.samples]


def test_keys_are_counted_by_what_ready_says_and_named_while_that_is_not_true() -> None:
    metrics, other = metrics_at(), ObjectName("keys", "other")
    metrics.key_planned(other, [VERIFIED], expires=None, verified=None)
    metrics.key_planned(NAME, [DENIED], expires=None, verified=None)
    assert value(metrics, "keys", ready="False", reason="KeyAccessDenied") == 1
    assert value(metrics, "keys", ready="True", reason="Verified") == 1
    assert named(metrics) == [("keys/brand", "False", "KeyAccessDenied")]
    stale = ready(ConditionStatus.UNKNOWN, "Stale")
    metrics.key_planned(NAME, [stale], expires=None, verified=None)
    assert named(metrics) == [("keys/brand", "Unknown", "Stale")]
    metrics.key_planned(NAME, [VERIFIED], expires=None, verified=None)
    assert (named(metrics), value(metrics, "keys", ready="True", reason="Verified")) == ([], 2)
    assert value(metrics, "keys", ready="False", reason="KeyAccessDenied") == 0


def test_the_hundred_keys_that_have_not_been_ready_the_longest_are_named_and_all_are_counted() -> None:
    metrics = metrics_at()
    names = [ObjectName("keys", f"k-{number}") for number in range(150)]
    for name in (*names, *reversed(names)):
        metrics.key_planned(name, [DENIED], expires=None, verified=None)
    assert [key for key, _, _ in named(metrics)] == [str(name) for name in names[:100]]
    assert value(metrics, "keys", ready="False", reason="KeyAccessDenied") == 150
    metrics.key_planned(names[0], [VERIFIED], expires=None, verified=None)
    metrics.object_gone("ByokKey", names[1])
    assert [key for key, _, _ in named(metrics)] == [str(name) for name in names[2:102]]


def test_expiry_and_age_of_the_last_proof_are_told_in_seconds() -> None:
    metrics = metrics_at()
    metrics.key_planned(NAME, (), expires=NOW - timedelta(minutes=1), verified=NOW - timedelta(hours=1))
    assert value(metrics, "certificate_expiry_seconds", key="keys/brand") == -60
    assert value(metrics, "verification_age_seconds", key="keys/brand") == 3600


def test_nothing_is_told_of_objects_that_are_gone() -> None:
    metrics, plan = metrics_at(), plan_key(observed(probe=probe()), NOW)
    metrics.key_planned(NAME, plan.status.conditions, expires=NOW, verified=NOW)
    metrics.recipe_planned(ObjectName("media", "photo"), plan.status.conditions)
    metrics.object_gone("ByokKey", NAME)
    metrics.object_gone("SigningRecipe", ObjectName("media", "photo"))
    assert value(metrics, "objects", kind="ByokKey", condition="Ready", status="True") == 0
    assert value(metrics, "objects", kind="SigningRecipe", condition="Ready", status="True") == 0
    assert b"keys/" not in metrics.exposition()


def test_the_leader_is_told_from_the_followers() -> None:
    metrics = metrics_at()
    metrics.leads(is_leader=True)
    assert value(metrics, "leader") == 1


def test_expiries_of_the_signers_own_certificates_are_told_by_whoever_makes_them() -> None:
    metrics = metrics_at()
    assert b"signer_certificate_expiry_seconds{" not in metrics.exposition()
    metrics.signer_certificates(ca=NOW + timedelta(days=2), serving=NOW - timedelta(hours=1))
    assert value(metrics, "signer_certificate_expiry_seconds", certificate="ca") == 172_800
    assert value(metrics, "signer_certificate_expiry_seconds", certificate="serving") == -3600


def test_probes_writes_and_lost_events_are_counted() -> None:
    metrics = metrics_at()
    metrics.probed("SignerUnreachable", 2.0)
    metrics.status_written("ByokKey")
    metrics.event_dropped()
    assert value(metrics, "probe_seconds_count", outcome="SignerUnreachable") == 1
    assert value(metrics, "status_writes_total", kind="ByokKey") == 1
    assert value(metrics, "events_dropped_total") == 1
