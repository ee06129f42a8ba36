"""The dashboard is one that Grafana can show, of any data source, and tells of each number what it is."""

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.exported_metrics import of_signer
from tests.support.monitoring import DASHBOARDS, dashboard, panels, told_by

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"s", "ops", "reqps", "percentunit", "bytes", "short", "none"}
each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_there_is_one() -> None:
    assert [path.name for path in DASHBOARDS] == ["byok.json"]


@each_dashboard
def test_it_is_written_as_it_would_be_again(path: Path) -> None:
    assert path.read_text() == json.dumps(dashboard(path), indent=2) + "\n"


@each_dashboard
def test_it_is_not_tied_to_the_grafana_it_was_made_in(path: Path) -> None:
    read = dashboard(path)
    assert "id" not in read
    assert "__inputs" not in read
    assert [variable["current"].get("value") for variable in read["templating"]["list"]] == [None, ["$__all"]]


@each_dashboard
def test_ids_are_unique_and_so_are_titles(path: Path) -> None:
    every = dashboard(path)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    assert all(len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) for panel in panels(path))


@each_dashboard
def test_all_is_asked_of_the_data_source_that_the_viewer_picks(path: Path) -> None:
    (picked,) = [each for each in dashboard(path)["templating"]["list"] if each["type"] == "datasource"]
    assert (picked["name"], picked["query"]) == ("datasource", "prometheus")
    for panel in panels(path):
        assert [each["datasource"] for each in (panel, *panel["targets"])] == [SOURCE] * (1 + len(panel["targets"]))


@each_dashboard
def test_every_number_has_a_unit(path: Path) -> None:
    units = {panel["title"]: panel["fieldConfig"]["defaults"]["unit"] for panel in panels(path)}
    assert {title for title, unit in units.items() if unit not in UNITS} == set()


@each_dashboard
def test_seconds_are_shown_as_seconds_and_rates_as_rates(path: Path) -> None:
    for panel in panels(path):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert (unit == "s") == is_time(target["expr"]), panel["title"]


def is_time(expression: str) -> bool:
    return "_seconds" in expression and "_seconds_count" not in expression and "process_" not in expression


@each_dashboard
def test_panels_do_not_overlap_and_leave_no_row_empty(path: Path) -> None:
    every = dashboard(path)["panels"]
    assert [pair for pair in combinations(every, 2) if overlap(*pair)] == []
    assert all(0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"] for panel in every)
    kinds = [panel["type"] for panel in every]
    assert kinds[-1] != "row"
    assert ("row", "row") not in list(pairwise(kinds))


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    return bool(
        a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    )


@each_dashboard
def test_the_choice_of_keys_is_made_of_a_label_that_is_there(path: Path) -> None:
    (choice,) = [each for each in dashboard(path)["templating"]["list"] if each["type"] == "query"]
    metric, label = choice["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
    assert label in of_signer().labels[metric]
    assert choice["datasource"] == SOURCE


@each_dashboard
def test_rates_follow_the_viewers_step(path: Path) -> None:
    expressions = [target["expr"] for panel in panels(path) for target in panel["targets"]]
    assert [text for text in expressions if "[" in text and "[$__rate_interval]" not in text] == []


@each_dashboard
def test_prometheus_accepts_every_expression(promtool: Path, path: Path, tmp_path: Path) -> None:
    texts = [target["expr"] for panel in panels(path) for target in panel["targets"]]
    chosen = [text.replace("$__rate_interval", "5m").replace("$key", ".*") for text in texts]
    rules = [{"record": f"panel_{number}", "expr": text} for number, text in enumerate(chosen)]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert told_by(promtool, "check", "rules", "--lint=none", file) == ""
