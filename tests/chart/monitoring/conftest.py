"""The alerts and the dashboard as the chart ships them, and the real promtool.

promtool is found or built before the first test, whose time limit a build would break.
"""

import os
from pathlib import Path

import pytest

from tests.testenv.binaries import promtool_binary, say_on_stderr
from tests.testenv.modules import TestenvError

_HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(
        _HERE in item.path.parents and "promtool" in getattr(item, "fixturenames", ()) for item in session.items
    )
    if session.config.option.collectonly or not wanted:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            promtool_binary(os.environ, say_on_stderr)
    except TestenvError as error:
        raise pytest.UsageError(f"tests/chart/monitoring: {error}") from None


@pytest.fixture(scope="session")
def promtool() -> Path:
    return promtool_binary(os.environ, say_on_stderr)
