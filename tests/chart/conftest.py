"""The chart as the real helm renders it; no cluster. Helm is built before the first test: it would run out of time."""

import os
from pathlib import Path

import pytest

from tests.chart.rendering import CASES, Rendering, rendered
from tests.testenv.binaries import helm_binary, say_on_stderr
from tests.testenv.modules import TestenvError

_HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(_HERE in item.path.parents for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            helm_binary(os.environ, say_on_stderr)
    except TestenvError as error:
        raise pytest.UsageError(f"tests/chart: {error}") from None


@pytest.fixture(params=CASES)
def rendering(request: pytest.FixtureRequest) -> Rendering:
    """Each file of ci/, and the defaults."""
    return rendered(str(request.param))
