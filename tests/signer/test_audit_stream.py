import asyncio
import io
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from byok_api.audit import bounded_lines, verify_chain
from byok_api.errors import Refusal
from byok_signer.audit import StdoutAuditSink
from byok_signer.audit import sinks as sinks_module
from tests.support.trails import SIGNED

Pipe = tuple[BinaryIO, BinaryIO]


@pytest.fixture(params=["buffered", "raw"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    """Give the reading and the writing end of a pipe, the latter as sys.stdout.buffer is or unbuffered."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", 0 if request.param == "raw" else -1) as writer:
        yield reader, writer


async def fill(sink: StdoutAuditSink, events: int) -> None:
    await asyncio.gather(*(sink.append(SIGNED) for _ in range(events)))


async def test_records_go_to_the_stream_in_one_chain() -> None:
    stream = io.BytesIO()
    sink = StdoutAuditSink(stream)
    await fill(sink, 20)
    await sink.close()
    assert not stream.closed
    report = verify_chain(bounded_lines(io.BytesIO(stream.getvalue())))
    assert (report.intact, report.records, sink.counts().records) == (True, 21, 20)


@pytest.mark.parametrize("blocking", [True, False])
async def test_what_a_pipe_takes_in_parts_arrives_whole(pipe: Pipe, *, blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer.fileno(), blocking)
    sink = StdoutAuditSink(writer)
    received = asyncio.create_task(asyncio.to_thread(lambda: verify_chain(_until(reader, 501))))
    await fill(sink, 500)  # several times what a pipe holds
    assert ((await received).intact, (await received).records) == (True, 501)
    await sink.close()


def _until(reader: BinaryIO, lines: int) -> list[bytes]:
    return [reader.readline() for _ in range(lines)]


async def test_a_reader_that_hangs_shows_as_lag_and_stops_signing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    sink = StdoutAuditSink(writer)
    assert sink.lag() == 0
    waiting = asyncio.create_task(fill(sink, 500))
    deadline = time.monotonic() + 10
    while sink.lag() < 0.05:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    monkeypatch.setattr(sinks_module, "MAX_LAG", 0.05)
    with pytest.raises(Refusal, match="has not taken a record") as refusal:
        sink.ensure_available()
    assert refusal.value.retry_after == 1.0
    monkeypatch.setattr(sinks_module, "DRAIN_LIMIT", 0.05)
    with pytest.raises(Refusal, match="did not take the last records"):
        await sink.close()
    await asyncio.to_thread(_until, reader, 501)
    await waiting
    await sink.close()


def test_a_full_device_is_refused_from_the_start() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(Refusal, match="No space left on device"):
        StdoutAuditSink(full)


async def test_a_reader_that_is_gone_refuses_every_waiter(pipe: Pipe) -> None:
    reader, writer = pipe
    sink = StdoutAuditSink(writer)
    reader.close()
    outcomes = await asyncio.gather(*(sink.append(SIGNED) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, Refusal) and "Broken pipe" in outcome.message for outcome in outcomes)
    await sink.close()


async def test_a_stream_closed_under_the_sink_is_refused() -> None:
    stream = io.BytesIO()
    sink = StdoutAuditSink(stream)
    stream.close()
    with pytest.raises(Refusal, match="it is closed"):
        await sink.append(SIGNED)
    await sink.close()


class _Buggy(io.BytesIO):
    """A stream with a bug that shows at the second write."""

    def write(self, data: Any) -> int:  # noqa: ANN401 - typing's Buffer comes with Python 3.12
        if self.tell():
            raise ZeroDivisionError
        return super().write(data)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_a_thread_that_died_of_a_bug() -> None:
    with closing(_Buggy()) as stream:
        sink = StdoutAuditSink(stream)
        with pytest.raises(Refusal, match="ZeroDivisionError"):
            await sink.append(SIGNED)
        await sink.close()
