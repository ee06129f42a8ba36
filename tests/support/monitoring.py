"""Alerts and dashboards as the chart ships them, and the expressions in them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "byok-operator"
ALERT_FILES = sorted((CHART / "files" / "alerts").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))


def alerts() -> dict[str, dict[str, Any]]:
    """Read all alerts, by name."""
    groups = [group for path in ALERT_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard(path: Path) -> dict[str, Any]:
    """Read a dashboard."""
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def panels(path: Path) -> list[dict[str, Any]]:
    """List a dashboard's panels that show something."""
    return [panel for panel in dashboard(path)["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """List every PromQL expression in alerts and dashboards, with where it stands."""
    found = [(name, rule["expr"]) for name, rule in alerts().items()]
    for path in DASHBOARDS:
        for panel in panels(path):
            found += [(f"{path.stem}: {panel['title']}: {each['refId']}", each["expr"]) for each in panel["targets"]]
    return found


def told_by(promtool: Path, *arguments: str | Path) -> str:
    """Run promtool; what it says if it is not content."""
    ended = subprocess.run([promtool, *arguments], check=False, capture_output=True, text=True, timeout=60)
    return ended.stdout + ended.stderr if ended.returncode else ""
