"""The cluster tier: a real control plane, without nodes. Nothing of it is faked; KMS, where it is needed, is emulated.

The programs are found or built before the first test, whose time limit a build would break.
"""

import gc
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import Live, living
from tests.testenv.before_tests import preparing
from tests.testenv.binaries import Binaries, control_plane_binaries, say_on_stderr
from tests.testenv.control_plane import ControlPlane, running_control_plane
from tests.testenv.installed import Installation, install, shipped_presets
from tests.testenv.kubectl import Kubectl
from tests.testenv.processes import Processes
from tests.testenv.system import Cluster, running_cluster

_HERE = Path(__file__).parent
CONSUMERS = (("consumer-media", ("job", "other-job")), ("consumer-news", ("job",)))


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(_HERE in item.path.parents for item in session.items):
        return
    with preparing(session, "tests/cluster", advice="; make test-fast leaves this tier out"):
        control_plane_binaries(os.environ, say_on_stderr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Connections end here in the middle of TLS handshakes, as API servers are killed and silenced: asyncio leaves such
    # a transport to the collector, which warns of it in whichever test comes next.
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Leave nothing of that kind to the tests of other folders."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    return control_plane_binaries(os.environ, say_on_stderr)


@pytest.fixture(scope="session")
def installation() -> Installation:
    """What `control_plane` has been given."""
    return Installation(preset_names=shipped_presets(), consumers=CONSUMERS)


@pytest.fixture(scope="session")
def control_plane(
    binaries: Binaries, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A control plane with CRDs, roles and admission policies, but neither signer nor operator."""
    folder = tmp_path_factory.mktemp("control-plane")
    with Processes() as processes, running_control_plane(folder, binaries, processes) as plane:
        install(plane, installation)
        yield plane


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """The cluster's administrator."""
    return control_plane.kubectl


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    control_plane.api.request("POST", "/api/v1/namespaces", body)
    yield name
    control_plane.api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The whole system on a control plane of its own, as `make cluster` starts it."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), say_on_stderr) as running:
        yield running


@pytest.fixture
def live(cluster: Cluster) -> Iterator[Live]:
    """That system, and an administrator's connection to it."""
    with living(cluster) as connected:
        yield connected
