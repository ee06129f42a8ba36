"""The real promtool, found or built before the first test, whose time limit a build would break; as helm is for all."""

import os
from pathlib import Path

import pytest

from tests.testenv.before_tests import preparing
from tests.testenv.binaries import helm_binary, promtool_binary, say_on_stderr

_HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    items = [item for item in session.items if _HERE in item.path.parents]
    wanted = any("promtool" in getattr(item, "fixturenames", ()) for item in items)
    if session.config.option.collectonly or not wanted:
        return
    with preparing(session, "tests/chart/monitoring"):
        promtool_binary(os.environ, say_on_stderr)


@pytest.fixture(scope="session")
def promtool() -> Path:
    return promtool_binary(os.environ, say_on_stderr)


@pytest.fixture(scope="session")
def helm() -> Path:
    return helm_binary(os.environ, say_on_stderr)
