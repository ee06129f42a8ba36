"""The end-to-end tier: images of this checkout, installed by the chart, on a real node. Nothing is faked but KMS.

Programs and images are found or built before the first test, whose time limit a build would break. What the cluster is,
and how to give another one, is in tests/testenv/node/chosen.py. One release serves all tests: those of its installation
come first and those of its removal last (pytest_collection_modifyitems).
"""

import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.inventory import Inventory, inventory
from tests.support.release import Release
from tests.support.what_a_cluster_says import told
from tests.testenv.before_tests import preparing
from tests.testenv.binaries import helm_binary, say_on_stderr
from tests.testenv.kubectl import Kubectl
from tests.testenv.node.chosen import Chosen, chosen_cluster, own_namespace, prepare
from tests.testenv.node.images import Image
from tests.testenv.node.images import images as find_images
from tests.testenv.node.running import Node

_HERE = Path(__file__).parent
_LIMIT = 300
_IMAGES = pytest.StashKey[dict[str, Image]]()
_CLUSTER = pytest.StashKey[Kubectl]()
_FAILED = pytest.StashKey[int]()
_MOST_TOLD = 5
"""Failures that tell what the cluster says; when more fail, it says the same, and takes its time."""
_FIRST = ("test_install", "test_workloads", "test_clients_in_pods", "test_consumers")
_LAST = ("test_uninstall", "test_node", "test_node_end")
"""Uninstalled when all others had it; what needs no release comes then, that of nodes which end last of all."""


def pytest_collection_finish(session: pytest.Session) -> None:
    here = [item for item in session.items if _HERE in item.path.parents]
    if session.config.option.collectonly or not here:
        return
    with preparing(session, "tests/e2e"):
        prepare(os.environ, say_on_stderr)
        if any("images" in getattr(item, "fixturenames", ()) for item in here):
            helm_binary(os.environ, say_on_stderr)
            session.config.stash[_IMAGES] = find_images(_image_folder(), os.environ, say_on_stderr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in order, and give each a limit of time."""
    items.sort(key=lambda item: _place(item) if _HERE in item.path.parents else 0)
    # The first test of a run waits for the node, and for the images to be loaded: about two gigabytes.
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMIT))


def _place(item: pytest.Item) -> int:
    name = item.path.stem
    if name in _LAST:
        return _LAST.index(name) + 1
    return _FIRST.index(name) - len(_FIRST) if name in _FIRST else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a failure tell what the cluster says, as nobody can ask it afterwards."""
    report = yield
    stash = item.config.stash
    if report.failed and _CLUSTER in stash and _HERE in item.path.parents:
        stash[_FAILED] = stash.get(_FAILED, 0) + 1
        if stash[_FAILED] <= _MOST_TOLD:
            report.sections.append(("what the cluster says", told(stash[_CLUSTER])))
    return report


def _image_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "byok-operator" / "images" / "e2e"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Chosen]:
    """The cluster, with nothing of ours in it."""
    with chosen_cluster(tmp_path_factory.mktemp("node") / "cluster", say_on_stderr) as cluster:
        pytestconfig.stash[_CLUSTER] = cluster.kubectl
        try:
            yield cluster
        finally:
            del pytestconfig.stash[_CLUSTER]


@pytest.fixture(scope="session")
def kubectl(node: Chosen) -> Kubectl:
    """The cluster's administrator."""
    return node.kubectl


@pytest.fixture(scope="session")
def images(node: Chosen, pytestconfig: pytest.Config) -> Mapping[str, Image]:
    """The images of this checkout by target (operator, signer, cli, sandbox), loaded into the cluster."""
    found = pytestconfig.stash[_IMAGES]
    for image in found.values():
        node.load_image(image.archive)
    return found


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own, under restricted pod security."""
    with own_namespace(kubectl) as name:
        yield name


@pytest.fixture(scope="session")
def before_release(kubectl: Kubectl, images: Mapping[str, Image]) -> Inventory:
    """All objects of the cluster before the release was made."""
    assert images
    return inventory(kubectl)


@pytest.fixture(scope="session")
def release(node: Chosen, images: Mapping[str, Image], before_release: Inventory) -> Iterator[Release]:
    """The chart, installed with its sandbox; everything is Ready, and MEDIA's jobs can sign. It serves all tests.

    A test that changes it, by `upgrade` or otherwise, leaves it Ready; its values need not be put back.
    """
    assert before_release
    installed = Release(node.kubectl, images)
    try:
        installed.install()
        installed.apply_sandbox()
        installed.wait_until_ready()
        yield installed
    finally:
        # A node of our own ends with all that is in it.
        if not isinstance(node, Node):
            installed.remove()
