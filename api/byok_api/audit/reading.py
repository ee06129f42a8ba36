"""Reading a trail while it is verified, so that nobody counts what was tampered with unawares. Pure."""

from collections.abc import Callable, Iterable

from byok_api.audit.chain import ChainReport, _Chain, _Verifier
from byok_api.audit.records import AuditRecord


def read_trail(lines: Iterable[bytes], take: Callable[[AuditRecord], None]) -> tuple[ChainReport, int]:
    """Verify a trail, given as lines with their newlines, and hand over each record, once.

    Gives the report, and how many records were left out because they repeat earlier ones or stand in the wrong place;
    the report has a finding for each run of those.
    """
    reading = _Reading(take)
    for line in lines:
        reading.feed(line)
    report = reading.finish()
    return report, report.records - reading.taken


class _Reading(_Verifier):
    def __init__(self, take: Callable[[AuditRecord], None]) -> None:
        super().__init__()
        self._take = take
        self.taken = 0

    def _account(self, chain: _Chain, record: AuditRecord) -> None:
        """Do what the verifier does for a record that goes on with its chain, then hand it over."""
        super()._account(chain, record)
        self.taken += 1
        self._take(record)
