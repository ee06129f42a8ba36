import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byok_api.audit import AuditId, AuditRecord, ChainReport, bounded_lines, read_record, verify_chain
from byok_api.errors import Reason, Refusal
from byok_signer.audit import FileAuditSink, read_head
from byok_signer.audit import sinks as sinks_module
from tests.support.trails import INTENT, REFUSED, SIGNED, trail

FRAGMENT = trail(1)[0][1][:100]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
async def sink(path: Path) -> AsyncIterator[FileAuditSink]:
    sink = FileAuditSink(path)
    yield sink
    await sink.close()


def verified(path: Path) -> ChainReport:
    with path.open("rb") as stream:
        return verify_chain(bounded_lines(stream))


def records(path: Path) -> list[AuditRecord]:
    return [read_record(line) for line in path.read_bytes().splitlines()]


def refused(path: Path) -> str:
    with pytest.raises(Refusal) as refusal:
        FileAuditSink(path)
    assert refusal.value.reason is Reason.AuditUnavailable
    assert str(path) in refusal.value.message
    return refusal.value.message


async def run_once(path: Path, events: int = 1) -> list[AuditId]:
    sink = FileAuditSink(path)
    ids = await asyncio.gather(*(sink.append(SIGNED) for _ in range(events)))
    await sink.close()
    return ids


@contextmanager
def full_after(path: Path, size: int) -> Iterator[None]:
    """Let files grow `size` bytes past the present end of `path`, as a disk that fills up does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_record_is_in_the_file_when_append_returns(sink: FileAuditSink, path: Path) -> None:
    for _ in range(3):
        place = await sink.append(SIGNED)
        assert AuditId(records(path)[-1].writer, records(path)[-1].sequence) == place
    assert verified(path).intact


async def test_the_order_of_sequence_is_the_order_in_the_file(sink: FileAuditSink, path: Path) -> None:
    ids = await asyncio.gather(*(sink.append(REFUSED if number % 2 else SIGNED) for number in range(200)))
    assert [record.sequence for record in records(path)] == list(range(201))
    assert [place.sequence for place in ids] == list(range(1, 201))


async def test_a_thousand_appends_at_once_need_few_syncs(
    sink: FileAuditSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fdatasync = os.fdatasync

    def count(descriptor: int) -> None:
        synced.append(descriptor)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)
    await asyncio.gather(*(sink.append(SIGNED) for _ in range(1000)))
    assert 0 < len(synced) <= 50
    assert (sink.counts().records, sink.counts().commits) == (1000, len(synced))
    assert sink.counts().size == path.stat().st_size - len(path.read_bytes().splitlines(keepends=True)[0])


async def test_a_cancelled_callers_record_is_written(path: Path) -> None:
    sink = FileAuditSink(path)
    tasks = [asyncio.create_task(sink.append(SIGNED)) for _ in range(10)]
    await asyncio.sleep(0)  # each has sealed its record and waits
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await sink.close()
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [True, False] * 5
    assert (verified(path).records, verified(path).intact) == (11, True)


def test_records_are_written_though_their_event_loop_ends(path: Path) -> None:
    sink = FileAuditSink(path)

    async def leave() -> list[asyncio.Task[AuditId]]:
        tasks = [asyncio.create_task(sink.append(SIGNED)) for _ in range(10)]
        await asyncio.sleep(0)
        return tasks

    asyncio.run(leave())
    asyncio.run(sink.close())
    assert verified(path).records == 11


def test_a_record_is_written_though_its_event_loop_was_stopped_at_once(path: Path) -> None:
    sink, loop = FileAuditSink(path), asyncio.new_event_loop()
    task = loop.create_task(sink.append(SIGNED))
    loop.call_soon(loop.stop)
    loop.run_forever()
    asyncio.run(sink.close())
    loop.run_until_complete(task)
    loop.close()
    assert verified(path).records == 2


async def test_close_drains_and_then_refuses(path: Path) -> None:
    sink = FileAuditSink(path)
    tasks = [asyncio.create_task(sink.append(SIGNED)) for _ in range(100)]
    await asyncio.sleep(0)
    await sink.close()
    await sink.close()
    assert verified(path).records == 101
    assert len(await asyncio.gather(*tasks)) == 100
    with pytest.raises(Refusal, match="is closed"):
        sink.ensure_available()
    with pytest.raises(Refusal, match="is closed"):
        await sink.append(SIGNED)


async def test_a_full_disk_refuses_every_waiter_and_all_that_follows(path: Path) -> None:
    sink = FileAuditSink(path)
    await sink.append(SIGNED)
    with full_after(path, 1500):
        outcomes = await asyncio.gather(*(sink.append(SIGNED) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(outcome, Refusal) for outcome in outcomes)
    with pytest.raises(Refusal, match="until the signer restarts: File too large"):
        sink.ensure_available()
    with pytest.raises(Refusal, match="until the signer restarts"):
        await sink.append(SIGNED)
    await sink.close()
    assert verified(path).torn is not None


async def test_after_a_full_disk_a_new_signer_seals_what_was_cut_off(path: Path) -> None:
    sink = FileAuditSink(path)
    with full_after(path, 1500), pytest.raises(Refusal):
        await asyncio.gather(*(sink.append(SIGNED) for _ in range(10)))
    await sink.close()
    await run_once(path)
    report = verified(path)
    assert (report.intact, report.sealed, len(report.chains)) == (True, 1, 2)


def test_a_disk_full_from_the_start_is_refused(path: Path) -> None:
    path.touch()
    with full_after(path, 10):
        assert "cannot be written: File too large" in refused(path)


async def test_a_restart_goes_on_from_the_chain_in_the_file(path: Path) -> None:
    first, second = await run_once(path, 2), await run_once(path)
    assert first[0].writer != second[0].writer
    assert [chain.predecessor for chain in verified(path).chains] == [None, first[-1]]


@pytest.mark.parametrize("fragments", [[FRAGMENT], [b"{"], [FRAGMENT, FRAGMENT[:50]], [FRAGMENT[:90]] * 8])
async def test_torn_lines_are_sealed_on_restart(path: Path, fragments: list[bytes]) -> None:
    last = (await run_once(path))[-1]
    with path.open("ab") as stream:
        stream.write(b"\n".join(fragments))
    await run_once(path)
    report = verified(path)
    assert (report.intact, report.sealed, report.chains[-1].predecessor) == (True, len(fragments), last)


async def test_a_first_line_torn_is_sealed_too(path: Path) -> None:
    path.write_bytes(FRAGMENT)
    await run_once(path)
    assert (verified(path).intact, verified(path).sealed) == (True, 1)


async def test_a_record_that_only_lacks_its_newline_is_kept(path: Path) -> None:
    last = (await run_once(path))[-1]
    path.write_bytes(path.read_bytes()[:-1])
    await run_once(path)
    report = verified(path)
    assert (report.intact, report.sealed, report.chains[-1].predecessor) == (True, 0, last)


@pytest.mark.parametrize(
    "end",
    [b"\x00" * 4096, b"hello\n", b"\n\n", trail(1)[0][1].replace(b"2026", b"2027"), b"\n".join([FRAGMENT] * 9)],
)
async def test_a_damaged_end_is_refused_and_left_as_it_is(path: Path, end: bytes) -> None:
    await run_once(path)
    damaged = path.read_bytes() + end
    path.write_bytes(damaged)
    assert "damaged at its end" in refused(path)
    assert path.read_bytes() == damaged


def test_a_second_signer_in_another_process_is_refused(path: Path) -> None:
    code = (
        "import pathlib, sys; from byok_signer.audit import FileAuditSink\n"
        "sink = FileAuditSink(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert "is locked by another signer" in refused(path)
        other.communicate(timeout=30)
    asyncio.run(run_once(path))


def test_no_acknowledged_record_is_lost_when_the_signer_is_killed(path: Path) -> None:
    code = """
import asyncio, pathlib, sys
from byok_signer.audit import FileAuditSink
from tests.support.trails import SIGNED
async def main():
    sink = FileAuditSink(pathlib.Path(sys.argv[1]))
    async def call():
        while True:
            print(await sink.append(SIGNED), flush=True)
    await asyncio.gather(*(call() for _ in range(20)))
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as signer:
        assert signer.stdout is not None
        told = [signer.stdout.readline() for _ in range(500)]
        signer.send_signal(signal.SIGKILL)
        told += signer.stdout.read().splitlines(keepends=True)
    asyncio.run(run_once(path))
    kept = {f"{record.writer}/{record.sequence}\n".encode() for record in records(path)}
    assert verified(path).intact
    assert {line for line in told if line.endswith(b"\n")} <= kept


def test_a_signer_killed_while_kms_signs_leaves_an_intent_without_outcome(path: Path) -> None:
    code = """
import asyncio, pathlib, sys
from byok_signer.audit import FileAuditSink
from tests.support.trails import INTENT
async def main():
    sink = FileAuditSink(pathlib.Path(sys.argv[1]))
    print(await sink.append(INTENT), flush=True)
    await asyncio.Event().wait()  # for the answer of KMS
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as signer:
        assert signer.stdout is not None
        told = signer.stdout.readline().decode().strip()
        signer.send_signal(signal.SIGKILL)
    asyncio.run(run_once(path))
    report = verified(path)
    assert (report.intact, report.intent_count, [str(intent.id) for intent in report.intents]) == (True, 1, [told])


async def test_the_head_of_what_was_appended_is_that_records(sink: FileAuditSink, path: Path) -> None:
    heads = await asyncio.gather(*(sink.append_head(INTENT) for _ in range(20)))
    assert heads == [record.head for record in records(path)[1:]]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing/audit.jsonl", "cannot be opened for writing: No such file"),
        ("file/audit.jsonl", "cannot be opened for writing: Not a directory"),
        ("folder", "cannot be opened for writing: Is a directory"),
        ("/proc/audit.jsonl", "cannot be opened for writing"),
        ("/dev/full", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("socket", "cannot be opened for writing: No such device"),
        ("loop", "cannot be opened for writing: Too many levels of symbolic links"),
        ("dangling", "cannot be opened for writing: No such file"),
        ("x" * 300, "cannot be opened for writing: File name too long"),
    ],
)
def test_a_place_that_holds_no_audit_file_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("missing/audit.jsonl")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    assert message in refused(tmp_path / place)


async def test_a_deleted_file_is_an_error_at_once(path: Path) -> None:
    sink = FileAuditSink(path)
    path.unlink()
    with pytest.raises(Refusal, match="deleted while in use"):
        await sink.append(SIGNED)
    await sink.close()


async def test_a_file_changed_by_others_is_an_error_at_once(path: Path) -> None:
    sink = FileAuditSink(path)
    with path.open("ab") as stream:
        stream.write(b"x\n")
    with pytest.raises(Refusal, match="another process has changed it"):
        await sink.append(SIGNED)
    await sink.close()


async def test_a_renamed_file_is_written_on(sink: FileAuditSink, path: Path) -> None:
    await sink.append(SIGNED)
    rotated = path.rename(path.with_suffix(".1"))
    await sink.append(SIGNED)
    assert verified(rotated).records == 3


async def test_only_the_signer_may_read_the_file(path: Path) -> None:
    await run_once(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_head_of_a_big_file_is_read_from_its_end(path: Path) -> None:
    lines, head = trail(3)
    with path.open("wb") as stream:
        stream.truncate(8 << 30)  # sparse: reading it all would take longer than the test may
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + b"".join(lines) + FRAGMENT)
    tail = read_head(path)
    assert (tail.head, len(tail.torn), tail.terminated) == (head, 1, False)


@pytest.mark.parametrize("end", [b"", b"\n", FRAGMENT, b"\n" + FRAGMENT])
def test_a_big_file_that_ends_without_any_record_is_refused(path: Path, end: bytes) -> None:
    with path.open("wb") as stream:
        stream.truncate(8 << 20)
        stream.seek(0, os.SEEK_END)
        stream.write(end)
    assert "damaged at its end" in refused(path)


def test_the_head_of_no_file_is_refused(path: Path) -> None:
    with pytest.raises(Refusal, match="cannot be read: No such file"):
        read_head(path)


async def test_a_sink_that_is_behind_refuses_what_need_not_be_recorded(
    sink: FileAuditSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks_module, "MAX_PENDING", 1)
    waiting = asyncio.create_task(sink.append(SIGNED))
    await asyncio.sleep(0)
    with pytest.raises(Refusal, match="is behind"):
        await sink.append(REFUSED)
    await asyncio.gather(waiting, sink.append(SIGNED))
    assert sink.lag() == 0
