"""What a tier needs is built before its first test, whose time limit a build would break."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.testenv.modules import TestenvError


@contextmanager
def preparing(session: pytest.Session, tier: str, *, advice: str = "") -> Iterator[None]:
    """Show what is said of the building; what cannot be built ends the session, in a line that names the tier."""
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            yield
    except TestenvError as error:
        raise pytest.UsageError(f"{tier}: {error}{advice}") from None
