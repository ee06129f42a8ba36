"""The benchmarks that can be run alone, as parts of the page: the guard, audit records, the KMS client."""

from rich.table import Table as RichTable

from benchmarks import audit as audit_alone
from benchmarks import guard as guard_alone
from benchmarks import kms_client as kms_alone
from benchmarks.machine import Calibration
from benchmarks.reporting import Section, Table, at_most
from byok_signer.guard import check_claim
from tests.support.claims import created_claim

_TARGET = 100.0


def guard(calibration: Calibration, *, quick: bool) -> Section:
    """Measure the guard: whole, piece by piece, and against hostile messages."""
    rounds = 5 if quick else 40
    typical = created_claim()
    cost = guard_alone.microseconds(lambda: check_claim(typical.sig_structure, typical.policy), rounds=rounds)
    tables = guard_alone.tables(rounds)
    return Section(
        "The guard alone",
        "CPU microseconds, the best of many rounds, in process. `by digest` is the check of a digest with its "
        "Sig_structure as evidence.",
        [_converted(table) for table in tables],
        [
            at_most(
                "the guard of a typical claim <= 100 us (CONTRIBUTING.md)",
                cost,
                _TARGET,
                unit=" us",
                scale=calibration.scale,
            )
        ],
    )


def audit(*, quick: bool) -> Section:
    """Measure audit records."""
    count = 2_000 if quick else 20_000
    rows = [
        [row.what, f"{row.wall:,.1f}", f"{row.cpu:,.1f}", f"{1e6 / row.wall:,.0f}", row.note]
        for row in audit_alone.rows(count)
    ]
    return Section(
        "Audit records",
        "Microseconds for each record; a signature has two. In a group commit each of so many callers waits for its "
        "record before it sends the next, an intent and an outcome in turn; CPU is the whole process's, the writing "
        "thread's system calls included.",
        [Table("", ("what", "us", "CPU us", "records/s", "of which"), rows)],
    )


def kms_client(*, quick: bool) -> Section:
    """Measure clients of KMS."""
    found = kms_alone.measured(2_000 if quick else 8_000)
    rows = [[name, f"{cost:,.0f}", f"{cost / found[kms_alone.AIOHTTP]:.2f}"] for name, cost in found.items()]
    return Section(
        "Clients of KMS",
        "CPU of the client for each kms:Sign, 64 at once over TLS, the best of many short rounds. `AwsKms` is the "
        "signer's client; a bare POST is neither signed nor is its answer looked at.",
        [Table("", ("client", "us", "of aiohttp's POST"), rows)],
    )


def _converted(table: RichTable) -> Table:
    columns = [list(column.cells) for column in table.columns]
    rows = [[str(cell) for cell in row] for row in zip(*columns, strict=True)]
    return Table(str(table.title or ""), [str(column.header) for column in table.columns], rows)
