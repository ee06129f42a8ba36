"""The chart as the real helm renders it; no cluster. Helm is built before the first test: it would run out of time."""

import os
from pathlib import Path

import pytest

from tests.chart.rendering import CASES, Rendering, rendered
from tests.testenv.before_tests import preparing
from tests.testenv.binaries import helm_binary, say_on_stderr

_HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(_HERE in item.path.parents for item in session.items):
        return
    with preparing(session, "tests/chart"):
        helm_binary(os.environ, say_on_stderr)


@pytest.fixture(params=CASES)
def rendering(request: pytest.FixtureRequest) -> Rendering:
    """Each file of ci/, and the defaults."""
    return rendered(str(request.param))
