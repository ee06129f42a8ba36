"""What several tests of the system need."""

from collections.abc import Iterator

import pytest

from tests.support.live import Team, found, living
from tests.testenv.system import Cluster


@pytest.fixture(scope="module")
def team(cluster: Cluster) -> Iterator[Team]:
    """A team that is ready to sign."""
    with living(cluster) as live:
        made = found(live)
        made.until_ready()
        yield made
