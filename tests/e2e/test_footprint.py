"""What each pod takes of CPU and memory at rest, and while jobs have 200 signatures a second.

The table is printed, and written to the file that BYOK_E2E_REPORT names. A rate that this machine does not reach, as it
also runs the cluster, the emulated KMS and the load, is told and no failure.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.chart.rendering import NAMESPACE
from tests.support.e2e_load import Calls, running_load
from tests.support.e2e_usage import Usage, measured
from tests.support.release import MEDIA, Release
from tests.testenv.node.images import Image

REPORT_VARIABLE = "BYOK_E2E_REPORT"
RATE, CALLERS = 200, 32
SECONDS = 5.0
"""Of each of the two measurements, at least: kubelets look only once in ten seconds or so."""
_UNITS = {"Mi": 1, "Gi": 1024}


def test_at_rest_and_under_load_each_pod_stays_within_its_limits(
    release: Release, images: Mapping[str, Image], capsys: pytest.CaptureFixture[str]
) -> None:
    rest = measured(release.kubectl, SECONDS, NAMESPACE)
    with running_load(release.kubectl, images["cli"], rate=RATE, callers=CALLERS) as load:
        mark = load.wait_for_more(RATE)
        busy = measured(release.kubectl, SECONDS, NAMESPACE, MEDIA)
        calls = load.since(mark)
    text = report(rest, busy, calls)
    with capsys.disabled():
        print(f"\n{text}")  # noqa: T201 - what this test is for
    if path := os.environ.get(REPORT_VARIABLE):
        Path(path).write_text(text)
    calls.assert_none_failed()
    limits = memory_limits(release)
    assert rest.keys() == limits.keys() <= busy.keys()
    for name, limit in limits.items():
        assert busy[name].working_set < 0.9 * limit, (name, busy[name])


def rate_of(calls: Calls) -> float:
    """Signatures a second."""
    return len(calls.signed) / calls.seconds


def report(rest: Mapping[str, Usage], busy: Mapping[str, Usage], calls: Calls) -> str:
    """Write a table: cores, and MiB of working set and of resident memory."""
    signed = f"AT {rate_of(calls):.0f}/S:"
    rows = [("POD", "AT REST: CORES", "MIB", "RSS", f"{signed} CORES", "MIB", "RSS")]
    rows += [(name.partition("/")[0], *told(rest.get(name)), *told(busy.get(name))) for name in busy]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = sum(usage.cores for usage in busy.values())
    machine = f"asked for {RATE}/s; these pods took {total:.2f} of {os.cpu_count()} cores"
    return "\n".join([*lines, machine, str(calls), ""])


def told(usage: Usage | None) -> tuple[str, str, str]:
    """Give a table's cells."""
    if usage is None:
        return "-", "-", "-"
    return f"{usage.cores:.3f}", f"{usage.working_set:.0f}", f"{usage.resident:.0f}"


def memory_limits(release: Release) -> dict[str, float]:
    """Give the limit of each container of the release that runs, in MiB."""
    pods = release.kubectl.get("pods", "-n", NAMESPACE, "--field-selector=status.phase=Running")["items"]
    return {
        f"{pod['metadata']['name']}/{container['name']}": mebibytes(container["resources"]["limits"]["memory"])
        for pod in pods
        for container in pod["spec"]["containers"]
    }


def mebibytes(quantity: str) -> float:
    """Read a quantity such as 512Mi."""
    return float(quantity[:-2]) * _UNITS[quantity[-2:]]
