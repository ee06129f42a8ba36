"""What audit records cost: building, sealing, verifying, making durable one by one and in groups.

Run: python benchmarks/audit.py [--folder FOLDER]. In `group commit` each of N callers waits for its record before it
sends the next, an intent and an outcome in turn, as the signer's requests do. CPU is that of the whole process, the
writing thread and its system calls included.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from byok_api.audit import (
    Attempt,
    AuditEvent,
    Head,
    Kind,
    Outcome,
    bounded_lines,
    read_record,
    seal,
    start_chain,
    verify_chain,
)
from byok_signer.audit import FileAuditSink

_ATTEMPTS = (Attempt("b1946ac9-2492-4d23-8b1f-3c59dcbbc1de", Outcome.SIGNED),)


def _intent() -> AuditEvent:
    return _event(Kind.INTENT)


def _outcome(intent: int = 1) -> AuditEvent:
    return _event(Kind.OUTCOME, intent=intent, outcome=Outcome.SIGNED, attempts=_ATTEMPTS)


def _event(
    kind: Kind, *, intent: int | None = None, outcome: Outcome | None = None, attempts: tuple[Attempt, ...] = ()
) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        request_id="5f0c9bd2-8a53-4ac1-9b83-2c1c4b7d9f10",
        caller="system:serviceaccount:newsroom:photo-desk",
        recipe="newsroom/photo-v1@1",
        recipe_hash="3a" * 32,
        key="security/newsroom-2026",
        key_arn="arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        algorithm="ES256",
        manifest="urn:c2pa:9a6f1c1e-21f6-4bd5-8a0e-5f0c9bd28a53",
        claim_sha256="7f" * 32,
        guarded=True,
        intent=intent,
        outcome=outcome,
        attempts=attempts,
    )


@dataclass(frozen=True)
class Row:
    """What one way of working with records costs, in microseconds for each of them."""

    what: str
    wall: float
    cpu: float
    note: str


def _row(what: str, operations: int, work: Callable[[], object]) -> Row:
    wall, cpu = time.perf_counter(), time.process_time()
    note = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(what, wall / operations * 1e6, cpu / operations * 1e6, note if isinstance(note, str) else "")


def _sealed(lines: list[bytes], count: int) -> str:
    line, head = start_chain("benchmark", time=datetime.now(UTC))
    lines.append(line)
    events = (_intent(), _outcome())
    for number in range(count - 1):
        line, head = seal(events[number % 2], head, time=datetime.now(UTC))
        lines.append(line)
    return f"{sum(map(len, lines)) // count} bytes"


def _latencies(seconds: list[float]) -> str:
    p99 = quantiles(seconds, n=100)[-1]
    return f"p50 {median(seconds) * 1e6:,.0f} us, p99 {p99 * 1e6:,.0f} us"


def _one_by_one(path: Path, count: int) -> str:
    head, seconds = Head("benchmark", 0, "0" * 64), []
    with path.open("ab", buffering=0) as file:
        for _ in range(count):
            line, head = seal(_intent(), head, time=datetime.now(UTC))
            started = time.perf_counter()
            file.write(line)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return _latencies(seconds)


async def _grouped(path: Path, count: int, callers: int) -> str:
    sink, seconds = FileAuditSink(path), []

    async def append(event: AuditEvent) -> int:
        started = time.perf_counter()
        place = await sink.append(event)
        seconds.append(time.perf_counter() - started)
        return place.sequence

    async def call() -> None:
        for _ in range(count // callers // 2):
            await append(_outcome(await append(_intent())))

    await asyncio.gather(*(call() for _ in range(callers)))
    await sink.close()
    return f"{sink.counts().records / sink.counts().commits:.0f} records per fdatasync, {_latencies(seconds)}"


def _run(path: Path, count: int, callers: int) -> str:
    return asyncio.run(_grouped(path, count, callers))


def _check(path: Path) -> None:
    with path.open("rb") as stream:
        if not verify_chain(bounded_lines(stream)).intact:
            raise SystemExit(f"the chain in {path} is broken")


def rows(count: int, folder: Path | None = None) -> Iterator[Row]:
    """Measure everything with so many records, in audit files of that folder."""
    lines: list[bytes] = []
    yield _row("build an intent", count, lambda: [_intent() for _ in range(count)] and None)
    yield _row("build an outcome", count, lambda: [_outcome() for _ in range(count)] and None)
    yield _row("seal", count, lambda: _sealed(lines, count))
    yield _row("read and check one record", count, lambda: [read_record(line[:-1]) for line in lines] and None)
    yield _row("verify a chain", count, lambda: verify_chain(lines))
    with tempfile.TemporaryDirectory(dir=folder) as made:
        single = max(200, count // 20)
        yield _row("fdatasync for each record", single, lambda: _one_by_one(Path(made, "single"), single))
        for callers in (1, 16, 64, 256, 1000):
            path = Path(made, f"group-{callers}")
            amount = max(2 * callers, (single if callers == 1 else count) // (2 * callers) * 2 * callers)
            yield _row(f"group commit, {callers} callers", amount, partial(_run, path, amount, callers))
            _check(path)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the audit files go; default a temporary folder")
    arguments = parser.parse_args()
    print(f"{'':<36} {'us/record':>10} {'CPU us':>10} {'records/s':>12}")
    for row in rows(arguments.records, arguments.folder):
        print(f"{row.what:<36} {row.wall:>10.1f} {row.cpu:>10.1f} {1e6 / row.wall:>12,.0f}  {row.note}")


if __name__ == "__main__":
    main()
