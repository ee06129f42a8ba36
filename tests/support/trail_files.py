"""Trails on disk, with times that can be told apart."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from byok_api.audit import AuditEvent, seal, start_chain
from tests.support.trails import TIME


def write_trail(path: Path, events: Sequence[AuditEvent], writer: str = "signer-a", start: datetime = TIME) -> Path:
    """Write a chain start and one event a second: that of sequence 1 is a second after `start`."""
    line, head = start_chain(writer, time=start)
    lines = [line]
    for number, event in enumerate(events, 1):
        line, head = seal(event, head, time=start + timedelta(seconds=number))
        lines.append(line)
    path.write_bytes(b"".join(lines))
    return path
