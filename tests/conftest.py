"""What holds for every test."""

import os

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

_CLUSTER = "tests/cluster"
_LONGEST_FIRST = [f"{_CLUSTER}{folder}" for folder in ("/faults", "/system", "/chart", "", "/admission")]

# Time limits are for benchmarks; a test must not fail because the machine was busy. CI judges each change by the same
# examples; new ones are looked for where somebody can look at what they find: on a developer's machine, by `make fuzz`.
hypothesis.settings.register_profile("byok", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("byok")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a session of several processes the cluster tier begins first, as it waits more than it works."""
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = _cluster_folder(item.nodeid)
    return len(_LONGEST_FIRST) if folder is None else _LONGEST_FIRST.index(folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """One process takes a folder of the cluster tier, which has one control plane, and the others file by file."""
    return _ByFile(config, log)


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    def _split_scope(self, nodeid: str) -> str:
        return _cluster_folder(nodeid) or nodeid.partition("::")[0]


def _cluster_folder(nodeid: str) -> str | None:
    folder = nodeid.partition("::")[0].rpartition("/")[0]
    return folder if folder.startswith(_CLUSTER) else None
