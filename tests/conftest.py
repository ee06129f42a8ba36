"""What holds for every test."""

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

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

_CLUSTER = "tests/cluster/"

# Time limits are for benchmarks; a test must not fail because the machine was busy.
hypothesis.settings.register_profile("byok", deadline=None)
hypothesis.settings.load_profile("byok")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a session of several processes the cluster tier begins first, as it waits more than it works."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(_CLUSTER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """One process takes the whole cluster tier, and the others file by file."""
    return _ByFile(config, log)


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    def _split_scope(self, nodeid: str) -> str:
        return _CLUSTER if nodeid.startswith(_CLUSTER) else nodeid.partition("::")[0]
