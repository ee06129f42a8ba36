"""What the chart makes of alerts, dashboard and values, by the real helm."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import ALERT_FILES, CHART, DASHBOARDS, alerts, told_by

ALL = ("serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true")


def run(helm: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    flags = [part for setting in settings for part in ("--set", f"metrics.{setting}")]
    command = [str(helm), "template", "byok", str(CHART), "--namespace", "byok-system", *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def rendered(helm: Path, *settings: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Render the chart; everything in it by kind and name."""
    ended = run(helm, *settings)
    assert ended.returncode == 0, ended.stderr
    documents = [document for document in yaml.safe_load_all(ended.stdout) if document]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def rules(helm: Path, *settings: str) -> dict[str, dict[str, Any]]:
    groups = rendered(helm, *ALL, *settings)["PrometheusRule", "byok-operator"]["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_without_a_word_nothing_needs_the_prometheus_operator(helm: Path) -> None:
    found = rendered(helm)
    assert {kind for kind, _ in found} & {"ServiceMonitor", "PrometheusRule"} == set()
    assert ("ConfigMap", "byok-dashboards") not in found


def test_the_rules_are_those_of_the_files_unchanged(helm: Path) -> None:
    spec = rendered(helm, *ALL)["PrometheusRule", "byok-operator"]["spec"]
    assert spec == {"groups": [group for path in ALERT_FILES for group in yaml.safe_load(path.read_text())["groups"]]}


def test_prometheus_accepts_the_rules_as_they_are_rendered(helm: Path, promtool: Path, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rendered(helm, *ALL)["PrometheusRule", "byok-operator"]["spec"]))
    assert told_by(promtool, "check", "rules", "--lint-fatal", path) == ""


def test_alerts_can_be_left_out_by_name(helm: Path) -> None:
    left = rules(helm, "prometheusRule.disabled={ByokKmsSlow,ByokSignerDown}")
    assert set(alerts()) - set(left) == {"ByokKmsSlow", "ByokSignerDown"}


def test_a_group_of_which_nothing_is_left_is_left_out(helm: Path) -> None:
    names = [name for name in alerts() if name.startswith("ByokKms")]
    spec = rendered(helm, *ALL, f"prometheusRule.disabled={{{','.join(names)}}}")["PrometheusRule", "byok-operator"]
    assert [group["name"] for group in spec["spec"]["groups"]] == ["byok-keys", "byok-operator", "byok-signer"]


def test_a_name_that_is_no_alerts_is_refused(helm: Path) -> None:
    ended = run(helm, *ALL, "prometheusRule.disabled={ByokKmsSlo}")
    assert ended.returncode != 0
    assert 'metrics.prometheusRule.disabled: "ByokKmsSlo" is none of the chart\'s alerts' in ended.stderr


def test_an_alert_keeps_its_severity_whatever_labels_are_added(helm: Path) -> None:
    found = rules(helm, "prometheusRule.alertLabels.team=media", "prometheusRule.alertLabels.severity=none")
    assert {name: rule["labels"] for name, rule in found.items()} == {
        name: {"severity": rule["labels"]["severity"], "team": "media"} for name, rule in alerts().items()
    }


def test_runbooks_lead_to_where_the_page_is(helm: Path) -> None:
    found = rules(helm, "prometheusRule.runbookUrl=https://wiki.example.com/byok")
    assert found["ByokKmsSlow"]["annotations"]["runbook_url"] == "https://wiki.example.com/byok#byokkmsslow"


@pytest.mark.parametrize("component", ["signer", "operator"])
def test_a_monitor_selects_its_one_service_at_a_port_that_it_has(helm: Path, component: str) -> None:
    found = rendered(helm, *ALL)
    spec = found["ServiceMonitor", f"byok-{component}"]["spec"]
    wanted = spec["selector"]["matchLabels"].items()
    services = [
        body for (kind, _), body in found.items() if kind == "Service" and wanted <= body["metadata"]["labels"].items()
    ]
    assert [service["metadata"]["name"] for service in services] == [f"byok-{component}"]
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] in {port["name"] for port in services[0]["spec"]["ports"]}


def test_the_job_is_the_services_name_by_which_the_alerts_know_it(helm: Path) -> None:
    for (kind, _), body in rendered(helm, *ALL).items():
        if kind == "ServiceMonitor":
            assert set(body["spec"]) == {"selector", "endpoints"}
            assert set(body["spec"]["endpoints"][0]) == {"port", "path", "interval", "scrapeTimeout"}


def test_monitors_and_rules_are_labelled_for_who_selects_by_labels(helm: Path) -> None:
    labels = ("serviceMonitor.labels.release=prom", "prometheusRule.labels.release=prom")
    found = rendered(helm, *ALL, *labels, "serviceMonitor.interval=15s", "serviceMonitor.scrapeTimeout=5s")
    ours = [body for (kind, _), body in found.items() if kind in {"ServiceMonitor", "PrometheusRule"}]
    assert [body["metadata"]["labels"]["release"] for body in ours] == ["prom"] * 3
    assert found["ServiceMonitor", "byok-signer"]["spec"]["endpoints"][0]["interval"] == "15s"


def test_a_label_of_the_charts_can_be_given_another_value(helm: Path) -> None:
    kinds = ("serviceMonitor", "prometheusRule", "dashboard")
    found = rendered(helm, *ALL, *(f"{kind}.labels.app\\.kubernetes\\.io/part-of=media" for kind in kinds))
    ours = [body for (_, name), body in found.items() if name == "byok-dashboards" or "coreos" in body["apiVersion"]]
    assert [body["metadata"]["labels"]["app.kubernetes.io/part-of"] for body in ours] == ["media"] * 4


def test_the_dashboard_comes_as_it_is_and_in_the_folder_asked_for(helm: Path) -> None:
    found = rendered(helm, *ALL, "dashboard.folder=Media")["ConfigMap", "byok-dashboards"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Media"}
    assert found["data"] == {path.name: path.read_text().rstrip("\n") for path in DASHBOARDS}


def test_two_renders_are_equal(helm: Path) -> None:
    assert run(helm, *ALL).stdout == run(helm, *ALL).stdout
