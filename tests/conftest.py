"""What holds for every test."""

import hypothesis

# The hooks of a plugin: no secret is logged by any test.
from tests.support.secret_scan import (  # noqa: F401
    pytest_runtest_logreport,
    pytest_runtest_protocol,
    pytest_runtest_teardown,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)

# Time limits are for benchmarks; a test must not fail because the machine was busy.
hypothesis.settings.register_profile("byok", deadline=None)
hypothesis.settings.load_profile("byok")
