"""Each alert fires when it should and not when it should not, by Prometheus' own tool."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import ALERT_FILES, alerts, told_by

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*.yaml"))
PAGE = HERE.parents[2] / "docs" / "monitoring.md"


def expectations() -> list[dict[str, Any]]:
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    return [expectation for test in tests for expectation in test["alert_rule_test"]]


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_prometheus_accepts_the_rules(promtool: Path, path: Path) -> None:
    assert told_by(promtool, "check", "rules", "--lint-fatal", path) == ""


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_as_the_cases_say(promtool: Path, path: Path) -> None:
    assert told_by(promtool, "test", "rules", path) == ""


def test_every_alert_is_seen_firing_and_not_firing() -> None:
    cases = expectations()
    firing = {each["alertname"] for each in cases if each["exp_alerts"]}
    quiet = {each["alertname"] for each in cases if not each["exp_alerts"]}
    assert firing == quiet == set(alerts())


def test_every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}, name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/monitoring.md#{name.lower()}", name
        assert "{{" not in rule["annotations"]["summary"], name


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert re.findall(r"^### (Byok\w+)$", PAGE.read_text(), re.MULTILINE) == list(alerts())


def test_the_overview_names_severities_as_they_are() -> None:
    rows = re.findall(r"^\| \[(Byok\w+)\]\(#(\w+)\) \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [(name, name.lower(), rule["labels"]["severity"]) for name, rule in alerts().items()]


def test_no_rule_is_defined_twice() -> None:
    groups = [group for path in ALERT_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    assert sum(len(group["rules"]) for group in groups) == len(alerts())
    assert len({group["name"] for group in groups}) == len(groups)
