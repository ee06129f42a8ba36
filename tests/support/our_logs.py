"""What the program under test logged."""

import logging

import pytest


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """List what we logged; asyncio may tell of what another test left behind."""
    return [record for record in caplog.records if record.name.startswith("byok_")]
