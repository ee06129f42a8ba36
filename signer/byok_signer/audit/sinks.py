"""Where audit records go: a file or a stream, sealed into one chain and made durable in groups.

`append` seals an event at once, so that the order of sequence numbers is the order in the trail, and returns when the
record is durable. One thread takes all lines that wait, writes them and syncs once. A caller that stops waiting changes
nothing: its record is written all the same.

After a failed write nobody knows what the medium holds (after a failed sync the kernel may have dropped the pages), so
a sink that failed stays failed: it refuses everything until the signer is started again, which reads the trail's end
back, seals what was cut off, and proves with its chain start that the medium works.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Protocol

from byok_api.audit import AuditEvent, AuditId, Head, Kind, seal, start_chain, writer_id
from byok_api.errors import Reason, Refusal
from byok_signer.audit.media import AuditFile, AuditStream, Medium

MAX_LAG = 5.0
"""Seconds that the oldest record may wait before nothing more is signed: a medium that hangs is one that failed."""
MAX_PENDING = 10_000
"""Records that may wait before nothing more is signed."""
DRAIN_LIMIT = 20.0
"""Seconds that `close` waits for the medium; a pod is killed 30 s after SIGTERM."""


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """What a sink has made durable since it was opened, its chain start not counted."""

    records: int
    commits: int
    size: int
    """Bytes."""


class AuditSink(Protocol):
    """Where audit records go."""

    def ensure_available(self) -> None:
        """Raise Refusal(AuditUnavailable) if a record made now could not be kept; ask before KMS is asked to sign."""

    async def append(self, event: AuditEvent) -> AuditId:
        """Record an event and return when that is durable; Refusal(AuditUnavailable) if it cannot be."""

    async def append_head(self, event: AuditEvent) -> Head:
        """Do as `append` does, and return with the record's hash."""

    def lag(self) -> float:
        """Tell for how many seconds the oldest record has been waiting; 0 if none is."""

    def counts(self) -> AuditCounts:
        """Count what is durable."""

    async def close(self) -> None:
        """Make durable what waits and refuse what comes; safe to call twice; Refusal(AuditUnavailable) if late."""


class _Batch:
    """Records that become durable together."""

    __slots__ = ("durable", "lines", "since")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.durable: list[asyncio.Future[None]] = []
        self.since = 0.0
        """When the first of them was sealed, by the monotonic clock."""


class _GroupCommit:
    """A chain that is being written to a medium: what both sinks have in common. One event loop at a time appends."""

    def __init__(self, medium: Medium, name: str, head: Head, *, clock: Callable[[], datetime]) -> None:
        self._medium = medium
        self._name = name
        self._head = head
        self._clock = clock
        self._lock = threading.Lock()
        self._pending = _Batch()
        self._batch = _Batch()
        """What the thread is writing."""
        self._wake: SimpleQueue[None] = SimpleQueue()
        """An item for each batch that was begun, and one for the end."""
        self._closing = False
        self._failure: str | None = None
        self._counts = AuditCounts(0, 0, 0)
        # A daemon, so that a signer that dies without close() ends; nobody was told that its last lines are kept.
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def ensure_available(self) -> None:
        self._ensure_open()
        if (lag := self.lag()) > MAX_LAG:
            raise self._refusal(f"has not taken a record for {lag:.0f} s", retry_after=1.0)
        if len(self._pending.lines) >= MAX_PENDING:
            raise self._refusal(f"is behind: {MAX_PENDING} records wait to be written", retry_after=1.0)

    def _ensure_open(self) -> None:
        if self._failure is not None:
            raise self._refusal(f"failed, and stays so until the signer restarts: {self._failure}")
        if self._closing:
            raise self._refusal("is closed: this signer is about to stop")

    async def append(self, event: AuditEvent) -> AuditId:
        head, durable = self._seal(event)
        await durable
        return head.id

    async def append_head(self, event: AuditEvent) -> Head:
        head, durable = self._seal(event)
        await durable
        return head

    def _seal(self, event: AuditEvent) -> "tuple[Head, asyncio.Future[None]]":
        # What KMS has done is recorded as long as there is hope; where nothing was done yet, nothing need pile up.
        if event.kind in (Kind.INTENT, Kind.REFUSAL):
            self.ensure_available()
        loop = asyncio.get_running_loop()
        durable = loop.create_future()
        with self._lock:
            self._ensure_open()
            line, head = seal(event, self._head, time=self._clock())
            self._head, batch = head, self._pending
            if not batch.lines:
                batch.since = time.monotonic()
                # Not at once, so that one group takes all that is ready to be recorded now.
                loop.call_soon(self._wake.put, None)
            batch.lines.append(line)
            batch.durable.append(durable)
        return head, durable

    def lag(self) -> float:
        with self._lock:
            oldest = self._batch if self._batch.lines else self._pending
            return time.monotonic() - oldest.since if oldest.lines else 0.0

    def counts(self) -> AuditCounts:
        return self._counts

    async def close(self) -> None:
        self._closing = True
        self._wake.put(None)
        await asyncio.to_thread(self._thread.join, DRAIN_LIMIT)
        if self._thread.is_alive():
            raise self._refusal(f"did not take the last records within {DRAIN_LIMIT:.0f} s")

    def _refusal(self, message: str, *, retry_after: float | None = None) -> Refusal:
        return Refusal(Reason.AuditUnavailable, f"{self._name} {message}", retry_after=retry_after)

    def _run(self) -> None:
        try:
            while self._take():
                self._commit(b"".join(self._batch.lines))
        except OSError as error:
            self._fail(error.strerror or str(error))
        except BaseException as error:
            self._fail(type(error).__name__)  # a bug; nobody may wait for ever on a thread that died of it
            raise
        finally:
            self._medium.close()

    def _take(self) -> bool:
        if not self._closing:
            self._wake.get()
        with self._lock:
            self._batch, self._pending = self._pending, _Batch()
            return bool(self._batch.lines)

    def _commit(self, data: bytes) -> None:
        self._medium.commit(data)
        with self._lock:
            done, self._batch = self._batch, _Batch()
            before = self._counts
            self._counts = AuditCounts(before.records + len(done.lines), before.commits + 1, before.size + len(data))
        _settle(done.durable, None)

    def _fail(self, failure: str) -> None:
        with self._lock:
            self._failure = failure
            lost = self._batch.durable + self._pending.durable
            self._batch, self._pending = _Batch(), _Batch()
        _settle(lost, f"{self._name} failed: {failure}")


def _settle(waiting: "list[asyncio.Future[None]]", failure: str | None) -> None:
    if waiting:
        # Whoever waited in an event loop before the last one was cancelled when that ended.
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            waiting[-1].get_loop().call_soon_threadsafe(_resolve, waiting, failure)


def _resolve(waiting: "list[asyncio.Future[None]]", failure: str | None) -> None:
    for durable in waiting:
        if durable.done():  # its caller was cancelled
            continue
        if failure is None:
            durable.set_result(None)
        else:
            durable.set_exception(Refusal(Reason.AuditUnavailable, failure))


def utc_now() -> datetime:
    """Tell the time that records are stamped with."""
    return datetime.now(UTC)


def new_writer(pod: str) -> str:
    """Name this run of a pod's signer."""
    return writer_id(pod, os.urandom(8))


class FileAuditSink(_GroupCommit):
    """Records in a file that no other signer writes, durable by fdatasync; it goes on from the chain already in it."""

    def __init__(self, path: Path, *, pod: str = "", clock: Callable[[], datetime] = utc_now) -> None:
        """Open or create the file and begin a chain in it, blocking; Refusal(AuditUnavailable) says what is wrong.

        The chain's start names `pod`, by default this host, which in a pod is the same.
        """
        file, pod = AuditFile(path), pod or socket.gethostname()
        tail = file.tail
        line, head = start_chain(new_writer(pod), time=clock(), predecessor=tail.head, torn=tail.torn, pod=pod)
        try:
            file.commit(line if tail.terminated else b"\n" + line)
        except OSError as error:
            file.close()
            message = f"the audit file {path} cannot be written: {error.strerror}"
            raise Refusal(Reason.AuditUnavailable, message) from error
        super().__init__(file, f"the audit file {path}", head, clock=clock)


class StdoutAuditSink(_GroupCommit):
    """Records on a stream such as standard output, durable once the kernel has them: the collector keeps them."""

    def __init__(self, stream: BinaryIO, *, pod: str = "", clock: Callable[[], datetime] = utc_now) -> None:
        """Begin a chain on the stream, blocking; Refusal(AuditUnavailable) if it cannot be written.

        The chain's start names `pod` as in a file. What an earlier run wrote has left, so there is no predecessor.
        """
        medium, pod = AuditStream(stream), pod or socket.gethostname()
        line, head = start_chain(new_writer(pod), time=clock(), pod=pod)
        try:
            medium.commit(line)
        except OSError as error:
            message = f"the audit stream cannot be written: {error.strerror}"
            raise Refusal(Reason.AuditUnavailable, message) from error
        super().__init__(medium, "the audit stream", head, clock=clock)
