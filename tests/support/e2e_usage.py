"""What the release's pods use of their node, as its kubelet measures it (/stats/summary, the kubelet's Summary API)."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.support.release import until
from tests.testenv.kubectl import Kubectl

_MEASURED_WITHIN = 90.0
_MEBI = 1024 * 1024


@dataclass(frozen=True)
class Reading:
    """What a container had used of the CPU at a moment, in seconds, and its memory then, in MiB."""

    moment: float
    cpu_seconds: float
    working_set: float
    """Memory that cannot be taken from it at once: what counts against its limit."""
    resident: float


@dataclass(frozen=True)
class Usage:
    """Cores and MiB that a container took between two readings; memory as of the second."""

    cores: float
    working_set: float
    resident: float


Readings = Mapping[str, Reading]
"""By pod and container."""


def read(kubectl: Kubectl, namespaces: Collection[str]) -> Readings:
    """Read what each container of these namespaces has used, from the kubelet of each node."""
    nodes = [node["metadata"]["name"] for node in kubectl.get("nodes")["items"]]
    found: dict[str, Reading] = {}
    for node in nodes:
        summary = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
        for pod in summary["pods"]:
            if pod["podRef"]["namespace"] in namespaces:
                found |= {f"{pod['podRef']['name']}/{each['name']}": _reading(each) for each in _measured(pod)}
    return found


def _measured(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    # A container that has just started has no numbers yet.
    return [
        each
        for each in pod.get("containers", ())
        if "usageCoreNanoSeconds" in each.get("cpu", {}) and "workingSetBytes" in each.get("memory", {})
    ]


def _reading(container: Mapping[str, Any]) -> Reading:
    cpu, memory = container["cpu"], container["memory"]
    moment = datetime.fromisoformat(cpu["time"]).timestamp()
    resident = memory.get("rssBytes", 0) / _MEBI
    return Reading(moment, cpu["usageCoreNanoSeconds"] / 1e9, memory["workingSetBytes"] / _MEBI, resident)


def measured(kubectl: Kubectl, seconds: float, *namespaces: str) -> dict[str, Usage]:
    """Measure for at least so many seconds from now, between two readings that the kubelet has yet to take."""
    # What it tells may be some seconds old.
    before = _read_later(kubectl, read(kubectl, namespaces), 0.0, namespaces)
    after = _read_later(kubectl, before, seconds, namespaces)
    return {name: _usage(before[name], after[name]) for name in sorted(before.keys() & after.keys())}


def _read_later(kubectl: Kubectl, earlier: Readings, seconds: float, namespaces: Collection[str]) -> Readings:
    def look() -> Readings:
        later = read(kubectl, namespaces)
        passed = {name: later[name].moment - earlier[name].moment for name in earlier.keys() & later.keys()}
        assert passed, "no container is measured"
        assert min(passed.values()) > seconds, passed
        return later

    return until(look, "the kubelet has measured", _MEASURED_WITHIN + seconds)


def _usage(earlier: Reading, later: Reading) -> Usage:
    cores = (later.cpu_seconds - earlier.cpu_seconds) / (later.moment - earlier.moment)
    return Usage(cores, later.working_set, later.resident)
