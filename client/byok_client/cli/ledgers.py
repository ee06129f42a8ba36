"""Both sides of a reconciliation on disk, to be read back in order: SQLite sorts what memory does not hold.

They go to the folder that `TMPDIR` names, or to /var/tmp, in files that are gone with the process, whatever ends it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from byok_api.audit.cloudtrail import SignEvent, key_family
from byok_api.audit.reconciliation import Attempted, Excuse, intent_without_outcome
from byok_api.errors import Reason, Refusal

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -32768;
CREATE TABLE attempts (request_id, audit_id, number, outcome, time, key_arn);
CREATE TABLE events (request_id, event_id, account, time, key_arn, error, principal, actor);
CREATE TABLE excuses (family, start, end, audit_id, kind, time, key_arn);
CREATE TABLE unmatched (family, request_id, event_id, account, time, key_arn, error, principal, actor);
CREATE TABLE intents (writer, sequence, time, key_arn, PRIMARY KEY (writer, sequence)) WITHOUT ROWID;
BEGIN;
"""
_BATCH = 1000
_NAMES_LIMIT = 100_000
_OPEN_LIMIT = 50_000
"""Intents held in memory that nothing has settled yet; a signer has a thousand at once, each crash leaves as many."""

_Value = str | int | float


class Ledger:
    """What the trail and CloudTrail say, to be filled and then read; a context manager."""

    def __init__(self) -> None:
        # No name: a database on disk of this connection alone (SQLite, "In-Memory Databases", temporary databases).
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._names = _Names()
        self._open: dict[tuple[str, int], tuple[float, str]] = {}
        self._overflowed = False
        self._batches: dict[str, list[Sequence[_Value]]] = {
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)": [],
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)": [],
            "INSERT INTO excuses VALUES (?, ?, ?, ?, ?, ?, ?)": [],
            "INSERT INTO unmatched VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)": [],
        }
        self._attempts, self._events, self._excuses, self._unmatched = self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        if isinstance(error, sqlite3.OperationalError):
            message = f"no room to sort what was read ({error}); let TMPDIR name a folder with more"
            raise Refusal(Reason.InvalidRequest, message) from error

    def add_attempt(self, attempt: Attempted) -> None:
        """Keep an attempt with a request id."""
        self._add(self._attempts, (*attempt[:5], self._names.number(attempt.key_arn)))

    def add_event(self, event: SignEvent) -> None:
        """Keep a call of kms:Sign."""
        self._add(self._events, self._packed(event))

    def add_excuse(self, excuse: Excuse) -> None:
        """Keep an excuse."""
        self._add(self._excuses, excuse)

    def add_unmatched(self, event: SignEvent) -> None:
        """Keep a signature without record."""
        self._add(self._unmatched, (key_family(event.key_arn), *self._packed(event)))

    def begin(self, writer: str, sequence: int, time: float, key_arn: str) -> None:
        """Keep an intent until it is settled."""
        self._open[writer, sequence] = (time, key_arn)
        if len(self._open) > _OPEN_LIMIT:
            rows = ((*name, *what) for name, what in self._open.items())
            self._database.executemany("INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?)", rows)
            self._open.clear()
            self._overflowed = True

    def settle(self, writer: str, sequence: int) -> float | None:
        """Forget an intent, and tell when it was recorded; None if it is not there."""
        known = self._open.pop((writer, sequence), None)
        if known is not None or not self._overflowed:
            return known[0] if known else None
        where, name = "FROM intents WHERE writer = ? AND sequence = ?", (writer, sequence)
        row = self._database.execute(f"SELECT time {where}", name).fetchone()
        self._database.execute(f"DELETE {where}", name)
        return row[0] if row else None

    def excuse_open_intents(self) -> None:
        """Make excuses of the intents that nothing has settled; the trail has been read."""
        for (writer, sequence), (time, key_arn) in self._open.items():
            self.add_excuse(intent_without_outcome(f"{writer}/{sequence}", time, key_arn))
        for writer, sequence, time, key_arn in self._database.execute("SELECT * FROM intents"):
            self.add_excuse(intent_without_outcome(f"{writer}/{sequence}", time, key_arn))

    def attempts(self) -> Iterator[Attempted]:
        """Read the attempts by request id."""
        for row in self._rows("SELECT * FROM attempts ORDER BY request_id, audit_id, number"):
            request_id, audit_id, number, outcome, time, key_arn = row
            yield Attempted(request_id, audit_id, number, outcome, time, self._names.text(key_arn))

    def events(self) -> Iterator[SignEvent]:
        """Read the calls of kms:Sign by request id."""
        return map(self._unpacked, self._rows("SELECT * FROM events ORDER BY request_id, event_id, account"))

    def excuses(self) -> Iterator[Excuse]:
        """Read the excuses by key and time."""
        rows = self._rows("SELECT * FROM excuses ORDER BY family, start, audit_id")
        return (Excuse(*row) for row in rows)

    def unmatched(self) -> Iterator[SignEvent]:
        """Read the signatures without record by key and time."""
        rows = self._rows("SELECT * FROM unmatched ORDER BY family, time, request_id, event_id")
        return (self._unpacked(row[1:]) for row in rows)

    def _add(self, statement: str, row: Sequence[_Value]) -> None:
        batch = self._batches[statement]
        batch.append(row)
        if len(batch) >= _BATCH:
            self._database.executemany(statement, batch)
            batch.clear()

    def _rows(self, query: str) -> sqlite3.Cursor:
        for statement, batch in self._batches.items():
            self._database.executemany(statement, batch)
            batch.clear()
        return self._database.execute(query)

    def _packed(self, event: SignEvent) -> Sequence[_Value]:
        request_id, event_id, account, time, *texts = event
        return request_id, event_id, self._names.number(account), time, *map(self._names.number, texts)

    def _unpacked(self, row: Sequence[_Value]) -> SignEvent:
        request_id, event_id, account, time, *texts = row
        text = self._names.text
        key_arn, error, principal, actor = map(text, texts)
        return SignEvent(str(request_id), str(event_id), text(account), float(time), key_arn, error, principal, actor)


class _Names:
    """Texts that come again and again, by number: rows become half as long."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def number(self, text: str) -> int | str:
        number = self._numbers.get(text)
        if number is not None:
            return number
        if len(self._texts) >= _NAMES_LIMIT:
            return text
        self._texts.append(text)
        self._numbers[text] = len(self._texts) - 1
        return len(self._texts) - 1

    def text(self, number: _Value) -> str:
        return self._texts[number] if type(number) is int else str(number)
