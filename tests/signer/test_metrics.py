"""What Prometheus reads from the signer."""

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_signer.metrics import Metrics

KEY = ObjectName("media", "studio")
RECIPE = ObjectName("media", "photo")


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"byok_signer_{name}", labels)


def test_a_request_is_in_flight_until_it_is_answered() -> None:
    metrics = Metrics()
    metrics.request_started()
    assert _value(metrics, "in_flight") == 1
    metrics.request_finished("SignClaim", "OK", 0.02)
    assert _value(metrics, "in_flight") == 0
    assert _value(metrics, "requests_total", method="SignClaim", code="OK") == 1
    assert _value(metrics, "request_seconds_sum", method="SignClaim") == 0.02


def test_kms_latency_is_kept_by_outcome_in_buckets_from_1_ms_to_5_s() -> None:
    metrics = Metrics()
    metrics.kms_called("Sign", "ok", 0.0005)
    metrics.kms_called("Sign", "KeyAccessDenied", 6.0)
    assert _value(metrics, "kms_seconds_bucket", operation="Sign", outcome="ok", le="0.001") == 1
    assert _value(metrics, "kms_seconds_bucket", operation="Sign", outcome="KeyAccessDenied", le="5.0") == 0
    assert _value(metrics, "kms_seconds_count", operation="Sign", outcome="KeyAccessDenied") == 1


def test_requests_to_kms_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()
    metrics.kms_requested("kms:Sign", "disconnected", 0.0005)
    metrics.kms_requested("kms:Sign", "ok", 0.02)
    assert _value(metrics, "kms_requests_total", operation="kms:Sign", outcome="disconnected") == 1
    assert _value(metrics, "kms_requests_total", operation="kms:Sign", outcome="ok") == 1
    assert _value(metrics, "kms_request_seconds_sum", operation="kms:Sign") == 0.0205


def test_refusals_signatures_and_unauthenticated_calls_are_counted() -> None:
    metrics = Metrics()
    metrics.refused(Reason.RecipeNotMet)
    metrics.refused(Reason.RecipeNotMet)
    metrics.unauthenticated()
    metrics.signed(KEY, RECIPE)
    assert _value(metrics, "refusals_total", reason="RecipeNotMet") == 2
    assert _value(metrics, "unauthenticated_total") == 1
    assert _value(metrics, "signatures_total", key="media/studio", recipe="media/photo") == 1


def test_each_reason_for_a_refusal_is_counted_from_zero_so_that_a_rate_sees_the_first() -> None:
    metrics = Metrics()
    assert {_value(metrics, "refusals_total", reason=reason.name) for reason in Reason} == {0}


def test_audit_lag_is_asked_for_when_metrics_are_read() -> None:
    metrics, lags = Metrics(), iter([0.5, 0.25])
    metrics.observe_audit_lag(lambda: next(lags))
    assert _value(metrics, "audit_lag_seconds") == 0.5
    assert _value(metrics, "audit_lag_seconds") == 0.25


def test_it_is_ready_while_there_is_no_reason_why_not() -> None:
    metrics, reasons = Metrics(), ["it is starting"]
    assert _value(metrics, "ready") == 0
    metrics.observe_readiness(lambda: reasons)
    assert _value(metrics, "ready") == 0
    reasons.clear()
    assert _value(metrics, "ready") == 1


def test_what_left_the_catalogue_leaves_the_metrics() -> None:
    metrics = Metrics()
    metrics.catalogue_changed({("ByokKey", "ready"): 1, ("ByokKey", "KeyDeactivated"): 1}, {KEY: 1_800_000_000.0})
    assert _value(metrics, "certificate_not_after_timestamp_seconds", key="media/studio") == 1_800_000_000.0
    metrics.catalogue_changed({("ByokKey", "ready"): 1}, {})
    assert _value(metrics, "catalogue_objects", kind="ByokKey", state="ready") == 1
    assert _value(metrics, "catalogue_objects", kind="ByokKey", state="KeyDeactivated") is None
    assert _value(metrics, "certificate_not_after_timestamp_seconds", key="media/studio") is None


def test_two_signers_in_one_process_do_not_share_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.unauthenticated()
    assert _value(second, "unauthenticated_total") == 0
