"""Alerts and dashboard name only metrics, labels and values that the code really exports."""

import re
from dataclasses import fields
from pathlib import Path

import grpc
import pytest
import yaml

from byok_api.conditions import ByokKeyConditionType, ConditionStatus, SigningRecipeConditionType
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2
from byok_operator.apply import Applied
from byok_signer.quota.quotas import QuotaCounts
from tests.support.exported_metrics import Exported, of_operator, of_signer
from tests.support.monitoring import expressions
from tests.support.promql import named_in

HERE = Path(__file__).parent
NAMED = [(where, named_in(expression)) for where, expression in expressions()]
SERVICES: tuple[Exported, ...] = (of_signer(), of_operator())
TARGET_LABELS = frozenset({"job", "instance", "namespace", "pod", "service", "container", "endpoint"})
"""What Prometheus puts on every sample of a ServiceMonitor's target."""
EXPORTED = {name: labels for service in SERVICES for name, labels in service.labels.items()} | {"up": frozenset[str]()}
"""`up` is Prometheus' own."""

_REASONS = frozenset(Reason.__members__)
_CONDITIONS = frozenset({*ByokKeyConditionType, *SigningRecipeConditionType})
_KINDS = frozenset({"ByokKey", "SigningRecipe"})
_METHODS = frozenset(
    name for service in signer_pb2.DESCRIPTOR.services_by_name.values() for name in service.methods_by_name
)
# By metric, without a histogram's suffix, and label.
VALUES = {
    ("up", "job"): frozenset({"byok-signer", "byok-operator"}),
    ("process", "job"): frozenset({"byok-signer", "byok-operator"}),
    ("byok_signer_requests_total", "method"): _METHODS,
    ("byok_signer_requests_total", "code"): frozenset(code.name for code in grpc.StatusCode),
    ("byok_signer_request_seconds", "method"): _METHODS,
    ("byok_signer_refusals_total", "reason"): _REASONS,
    ("byok_signer_kms_seconds", "outcome"): _REASONS | {"ok"},
    ("byok_signer_kms_request_seconds", "operation"): frozenset({"kms:Sign", "kms:GetPublicKey"}),
    ("byok_signer_checkpoints_total", "outcome"): _REASONS | {"ok"},
    ("byok_signer_quota_total", "outcome"): frozenset(field.name for field in fields(QuotaCounts)),
    ("byok_signer_reviews_total", "outcome"): frozenset({"allowed", "denied", "unanswered"}),
    ("byok_signer_catalogue_objects", "kind"): _KINDS,
    ("byok_signer_catalogue_objects", "state"): _REASONS | {"ready"},
    ("byok_operator_objects", "kind"): _KINDS,
    ("byok_operator_objects", "condition"): _CONDITIONS,
    ("byok_operator_objects", "status"): frozenset(ConditionStatus),
    ("byok_operator_keys", "ready"): frozenset(ConditionStatus),
    ("byok_operator_key_not_ready", "ready"): frozenset(ConditionStatus),
    ("byok_operator_key_not_ready", "reason"): _REASONS,
    ("byok_operator_signer_certificate_expiry_seconds", "certificate"): frozenset({"ca", "serving"}),
    ("byok_operator_reconcile_seconds", "outcome"): frozenset(
        {*Applied, "waiting", "unavailable", "refused", "failed"}
    ),
    ("byok_operator_consumer_namespaces", "state"): frozenset({"served", "absent", "failed", "uncleared"}),
    ("byok_operator_probe_seconds", "outcome"): _REASONS | {"ok"},
}


def family(metric: str) -> str:
    return "process" if metric.startswith("process_") else re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", metric)


def test_metrics_are_exported() -> None:
    assert all(named.metrics for _, named in NAMED)
    assert [(where, found) for where, named in NAMED if (found := named.metrics - set(EXPORTED))] == []


def test_labels_in_selectors_are_those_of_the_metrics() -> None:
    matchers = [(where, each) for where, named in NAMED for each in named.matchers]
    assert [each for each in matchers if each[1].label not in EXPORTED[each[1].metric] | TARGET_LABELS] == []


def test_labels_that_are_grouped_by_are_those_of_the_metrics() -> None:
    known = [
        (where, named.grouping, TARGET_LABELS.union(*(EXPORTED[metric] for metric in named.metrics)))
        for where, named in NAMED
    ]
    assert [(where, grouping - labels) for where, grouping, labels in known if grouping - labels] == []


def test_values_in_selectors_are_some_that_occur() -> None:
    matchers = [(where, each) for where, named in NAMED for each in named.matchers if "$" not in "".join(each.values)]
    assert [each for each in matchers if not set(each[1].values) <= VALUES[family(each[1].metric), each[1].label]] == []


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_cases_for_promtool_are_made_of_samples_that_occur(path: Path) -> None:
    tests = yaml.safe_load(path.read_text())["tests"]
    for series in {each["series"] for test in tests for each in test["input_series"]}:
        named = named_in(series)
        (metric,) = named.metrics
        assert {each.label for each in named.matchers} - TARGET_LABELS == EXPORTED[metric], series


def test_every_metric_was_seen_with_its_labels() -> None:
    assert [service.empty for service in SERVICES] == [frozenset(), frozenset()]


def test_no_metric_has_a_label_that_prometheus_would_rename() -> None:
    assert {name for name, labels in EXPORTED.items() if labels & TARGET_LABELS} == set()


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = {family(metric) for where, named in NAMED if where.startswith("byok: ") for metric in named.metrics}
    ours = {family(name) for name in EXPORTED if name.startswith("byok_") and not name.endswith("_created")}
    assert ours - shown == set()
