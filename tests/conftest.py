"""What holds for every test."""

from pathlib import Path

import hypothesis
import pytest

# The hooks of a plugin: no secret is logged by any test.
from tests.support.secret_scan import (  # noqa: F401
    pytest_runtest_logreport,
    pytest_runtest_protocol,
    pytest_runtest_teardown,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
    pytest_testnodedown,
)

_CLUSTER = Path(__file__).parent / "cluster"

# Time limits are for benchmarks; a test must not fail because the machine was busy.
hypothesis.settings.register_profile("byok", deadline=None)
hypothesis.settings.load_profile("byok")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist's own hook reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes one takes the cluster tier, first, as it waits more than it works; others go by files."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(_CLUSTER if _CLUSTER in item.path.parents else item.path)))
    items.sort(key=lambda item: _CLUSTER not in item.path.parents)
