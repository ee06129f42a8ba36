"""The clients of examples/nodejs and examples/go as programs, and a whole system for them to call."""

from collections.abc import Iterator

import pytest

from byok_sandbox.system import Sandbox, running_sandbox
from tests.examples.building import build_go, build_nodejs
from tests.examples.programs import Program

LANGUAGES = ("nodejs", "go")


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), print) as running:
        yield running


@pytest.fixture(scope="session", params=LANGUAGES)
def byok_sign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Build `byok-sign` in one of the languages."""
    folder = tmp_path_factory.mktemp(request.param)
    return Program((build_nodejs if request.param == "nodejs" else build_go)(folder).command)
