"""What values say of pods reaches exactly those pods, and a signer is never ended before its calls."""

from collections.abc import Mapping
from typing import Any

import pytest

from byok_signer.settings import Settings as SignerSettings
from tests.chart.rendering import Document, Rendering, render_text, rendered, values_of

SERVICES = ("operator", "signer")
# docs/platform.md, Drain: the longest signature, retries of KMS included; what else ends after that.
LONGEST_CALL = 12
LAST_ANSWERS, SLOW_DISK = 2.5, 20


def workload(rendering: Rendering, service: str) -> Document:
    (found,) = (
        each for each in rendering.kind("Deployment", "StatefulSet") if each["metadata"]["name"] == f"byok-{service}"
    )
    return found


def signer_of(values: Mapping[str, Any]) -> Document:
    return workload(Rendering.of(render_text(values)), "signer")


@pytest.mark.parametrize("service", SERVICES)
def test_values_of_scheduling_are_taken_over_as_they_are(service: str) -> None:
    values, pod = values_of("pods")[service], rendered("pods").pod(f"byok-{service}")
    for name in ("priorityClassName", "nodeSelector", "tolerations", "affinity"):
        assert pod[name] == values[name]
        assert name not in rendered("defaults").pod(f"byok-{service}")
    # Helm merges maps: the default limit stays.
    assert pod["containers"][0]["resources"]["requests"] == values["resources"]["requests"]


@pytest.mark.parametrize("service", SERVICES)
def test_labels_and_annotations_are_added_to_the_charts_own(service: str) -> None:
    values = values_of("pods")[service]
    found, plain = (workload(rendered(case), service)["spec"]["template"]["metadata"] for case in ("pods", "defaults"))
    assert found["labels"] == plain["labels"] | values["podLabels"]
    assert found["annotations"].keys() == {"checksum/config", *values["podAnnotations"]}
    assert found["annotations"].items() >= values["podAnnotations"].items()


@pytest.mark.parametrize("service", SERVICES)
def test_a_pods_own_label_goes_before_everybodys(service: str) -> None:
    values = {"commonLabels": {"team": "platform", "site": "a"}, service: {"podLabels": {"team": "media"}}}
    found = workload(Rendering.of(render_text(values)), service)
    assert found["metadata"]["labels"].items() >= {"team": "platform", "site": "a"}.items()
    assert found["spec"]["template"]["metadata"]["labels"].items() >= {"team": "media", "site": "a"}.items()


@pytest.mark.parametrize("service", SERVICES)
def test_extra_variables_volumes_and_mounts_come_after_the_charts_own(service: str) -> None:
    values = values_of("pods")[service]
    pod, plain = (rendered(case).pod(f"byok-{service}") for case in ("pods", "defaults"))
    assert pod["volumes"] == plain["volumes"] + values["extraVolumes"]
    (container,), (before,) = pod["containers"], plain["containers"]
    assert container["volumeMounts"] == before["volumeMounts"] + values["extraVolumeMounts"]
    assert container["env"] == before.get("env", []) + values["extraEnv"]


def test_replicas_are_spread_over_zones_and_nodes_as_values_say() -> None:
    (only,) = rendered("pods").pod("byok-signer")["topologySpreadConstraints"]
    labels = {"app.kubernetes.io/name": "byok-signer", "app.kubernetes.io/instance": "byok"}
    assert only == {
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 2,
        "whenUnsatisfiable": "DoNotSchedule",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": labels},
    }
    assert "topologySpreadConstraints" not in rendered("pods").pod("byok-operator")


def test_the_autoscaler_goes_by_cpu() -> None:
    (metric,) = rendered("pods").one("HorizontalPodAutoscaler", "byok-signer")["spec"]["metrics"]
    target = {"type": "Utilization", "averageUtilization": 55}
    assert metric == {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    assert "cpu" in rendered("pods").pod("byok-signer")["containers"][0]["resources"]["requests"]


def test_a_budget_holds_exactly_the_pods_of_its_service() -> None:
    for service in SERVICES:
        budget = rendered("defaults").one("PodDisruptionBudget", f"byok-{service}")["spec"]
        assert budget["selector"] == workload(rendered("defaults"), service)["spec"]["selector"]
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("service", SERVICES)
def test_a_roll_out_takes_no_replica_away_before_the_next_one_serves(service: str) -> None:
    spec = workload(rendered("defaults"), service)["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    # docs/platform.md, Drain: DNS has to know the new one.
    assert spec.get("minReadySeconds", 0) == {"signer": 10, "operator": 0}[service]


def test_a_signer_that_owns_a_volume_is_replaced_one_at_a_time() -> None:
    spec = workload(rendered("persistent"), "signer")["spec"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["minReadySeconds"] == 10


@pytest.mark.parametrize(("stop", "drain"), [(1, 12), (10, 12.1), (10, 15), (300, 3600), (7, 99.9)])
def test_a_signer_is_killed_only_after_the_longest_call_has_ended_whatever_the_values(stop: int, drain: float) -> None:
    spec = signer_of({"signer": {"preStopSeconds": stop, "drainSeconds": drain}})["spec"]["template"]["spec"]
    assert spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == stop
    assert drain >= LONGEST_CALL
    assert spec["terminationGracePeriodSeconds"] >= stop + drain + LAST_ANSWERS + SLOW_DISK + LONGEST_CALL


def test_without_a_word_a_signer_has_the_time_that_was_measured() -> None:
    pod = rendered("defaults").pod("byok-signer")
    assert pod["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 10}}
    assert rendered("defaults").config("signer")["drain-seconds"] == 15
    assert pod["terminationGracePeriodSeconds"] == 60


def test_a_signer_that_cannot_count_the_others_yet_goes_by_the_number_that_values_give() -> None:
    found = rendered("pods").config("signer")
    assert found["replicas"] == values_of("pods")["signer"]["replicas"]
    assert found["replicas-service"] == "byok-signer.byok-system.svc"
    assert "replicas" in SignerSettings.model_fields


def test_another_number_of_replicas_starts_no_replica_anew() -> None:
    few, many = (signer_of({"signer": {"replicas": number}})["spec"] for number in (2, 5))
    assert few["replicas"] != many["replicas"]
    assert few["template"] == many["template"]


@pytest.mark.parametrize("service", SERVICES)
def test_how_much_is_logged_is_each_services_own(service: str) -> None:
    assert rendered("pods").config(service)["log-level"] == values_of("pods")[service]["logLevel"]
