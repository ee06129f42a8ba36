"""The end-to-end tier: images of this checkout, installed by the chart, on a real node. Nothing is faked but KMS.

Programs and images are found or built before the first test, whose time limit a build would break. What the cluster is,
and how to give another one, is in tests/testenv/node/chosen.py.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.testenv.before_tests import preparing
from tests.testenv.binaries import helm_binary, say_on_stderr
from tests.testenv.kubectl import Kubectl
from tests.testenv.node.chosen import Chosen, chosen_cluster, prepare, restricted_namespace
from tests.testenv.node.images import Image
from tests.testenv.node.images import images as find_images

_HERE = Path(__file__).parent
_LIMIT = 300
_IMAGES = pytest.StashKey[dict[str, Image]]()


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
    # The first test of a run waits for the node, and for the images to be loaded: about two gigabytes.
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMIT))


def _image_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "byok-operator" / "images" / "e2e"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chosen]:
    """The cluster, with nothing of ours in it."""
    with chosen_cluster(tmp_path_factory.mktemp("node") / "cluster", say_on_stderr) as cluster:
        yield cluster


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
    with restricted_namespace(kubectl) as name:
        yield name
