"""What an audit record costs: sealing, verifying, making durable one by one and in groups.

Run: python benchmarks/audit.py. In `group commit` each of N callers waits for its record before it sends the next, as
the signer's requests do.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

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

EVENT = AuditEvent(
    kind=Kind.OUTCOME,
    request_id="5f0c9bd2-8a53-4ac1-9b83-2c1c4b7d9f10",
    caller="system:serviceaccount:newsroom:photo-desk",
    recipe="newsroom/photo-v1@1",
    recipe_hash="3a" * 32,
    key="security/newsroom-2026",
    key_arn="arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    algorithm="ES256",
    manifest="urn:c2pa:9a6f1c1e-21f6-4bd5-8a0e-5f0c9bd28a53",
    claim_sha256="7f" * 32,
    outcome=Outcome.SIGNED,
    guarded=True,
    attempts=(Attempt("b1946ac9-2492-4d23-8b1f-3c59dcbbc1de", Outcome.SIGNED),),
)


def _row(what: str, operations: int, seconds: float, note: str = "") -> None:
    print(f"{what:<36} {seconds / operations * 1e6:>10.1f} {operations / seconds:>12,.0f}  {note}")


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _sealed(count: int) -> list[bytes]:
    line, head = start_chain("benchmark", time=datetime.now(UTC))
    lines = [line]
    for _ in range(count - 1):
        line, head = seal(EVENT, head, time=datetime.now(UTC))
        lines.append(line)
    return lines


def _one_by_one(path: Path, count: int) -> None:
    head = Head("benchmark", 0, "0" * 64)
    with path.open("ab", buffering=0) as file:
        for _ in range(count):
            line, head = seal(EVENT, head, time=datetime.now(UTC))
            file.write(line)
            os.fdatasync(file.fileno())


async def _grouped(path: Path, count: int, callers: int) -> int:
    sink = FileAuditSink(path)

    async def call() -> None:
        for _ in range(count // callers):
            await sink.append(EVENT)

    await asyncio.gather(*(call() for _ in range(callers)))
    await sink.close()
    return sink.counts().commits


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the audit files go; default a temporary folder")
    arguments = parser.parse_args()
    count = arguments.records
    print(f"{'':<36} {'us/record':>10} {'records/s':>12}")
    lines: list[bytes] = []
    _row("seal", count, _timed(lambda: lines.extend(_sealed(count))), f"{len(lines[-1])} bytes")
    _row("read and check one record", count, _timed(lambda: [read_record(line[:-1]) for line in lines]))
    _row("verify a chain", count, _timed(lambda: verify_chain(lines)))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        single = count // 20
        _row("fdatasync for each record", single, _timed(lambda: _one_by_one(Path(folder, "single"), single)))
        for callers in (1, 16, 64, 256, 1000):
            path, commits = Path(folder, f"group-{callers}"), 0
            amount = max(single, callers) if callers == 1 else count // callers * callers
            start = time.perf_counter()
            commits = asyncio.run(_grouped(path, amount, callers))
            seconds = time.perf_counter() - start
            note = f"{amount / commits:.0f} records per fdatasync"
            _row(f"group commit, {callers} callers", amount, seconds, note)
            with path.open("rb") as stream:
                if not verify_chain(bounded_lines(stream)).intact:
                    raise SystemExit(f"the chain in {path} is broken")


if __name__ == "__main__":
    main()
