r"""One audit record is one line: a canonical JSON object that ends with its own hash and names the hash before it.

    {"schema":1,"writer":W,"sequence":N,"previous":P,"time":T,"kind":K, ... ,"hash":H}\n

H is the SHA-256 of every byte of the line before `,"hash":`; P is H of the record before. Because a record carries its
own hash, a damaged line is found on that very line, the last one included, and a cut-off line can be told from an
altered one. Keys stand in one order (`_event_json`); what does not apply is left out; text is ASCII with JSON escapes:
the same record always has the same bytes.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quote
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from byok_api.audit.events import (
    HASH,
    REQUEST_ID_LIMIT,
    SEQUENCE_LIMIT,
    TEXT_LIMITS,
    Attempt,
    AuditEvent,
    Kind,
    Outcome,
    signed_head_of,
)

SCHEMA = 1
LINE_LIMIT = 128 * 1024
"""Bytes of a line with its newline; the limits below keep every sealed line under it."""
GENESIS = "0" * 64
"""`previous` of a chain that has no predecessor."""
SEALED_LIMIT = 8
"""Torn lines that one chain start can seal."""
_SUBJECT = ("caller", "recipe", "recipe_hash", "key", "key_arn", "algorithm")
"""What a caller's requests have in common."""
_CHECKPOINT = ("head", "head_hash", "public_key", "signature")
_FIELD_TYPES: Mapping[str, type] = MappingProxyType(
    {"guarded": bool, "attempts": list, "suppressed": int, "intent": int, "repeats": int}
)
_START = b'{"schema":'
_TRAILER = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_TRAILER_SIZE = len(',"hash":""}') + 64
_WRITER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class LineFault(StrEnum):
    """Why a line is no valid record."""

    LINE_TOO_LONG = "LineTooLong"
    NOT_A_RECORD = "NotARecord"
    ALTERED = "Altered"
    UNKNOWN_SCHEMA = "UnknownSchema"


class RecordError(ValueError):
    """A line is no valid record; `fault` says in which way."""

    def __init__(self, fault: LineFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class AuditId(NamedTuple):
    """A record's name, printed as `writer/sequence`."""

    writer: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.writer}/{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `writer/sequence`; ValueError says what is wrong."""
        writer, slash, digits = text[:160].partition("/")
        if not slash or _WRITER.fullmatch(writer) is None or re.fullmatch(r"0|[1-9][0-9]{0,18}", digits) is None:
            raise ValueError(f"{text[:160]!r} is not of the form writer/sequence")
        return cls(writer, int(digits))


class Head(NamedTuple):
    """The last record of a chain: where the next one is linked."""

    writer: str
    sequence: int
    hash: str

    @property
    def id(self) -> AuditId:
        """That record's name."""
        return AuditId(self.writer, self.sequence)


@dataclass(frozen=True, slots=True)
class TornLine:
    """A line that a crash cut off: its bytes without newline, counted and hashed."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Name a cut-off line."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class ChainStart:
    """A writer's first record: the chain that it continues, if any, and the torn lines directly above it."""

    predecessor: AuditId | None = None
    torn: tuple[TornLine, ...] = ()
    pod: str | None = None
    """Where the writer runs; None in trails older than this field."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A record read back from its line."""

    writer: str
    sequence: int
    previous: str
    time: datetime
    event: AuditEvent | ChainStart
    hash: str

    @property
    def head(self) -> Head:
        """What the next record of the chain links to."""
        return Head(self.writer, self.sequence, self.hash)

    @property
    def kind(self) -> Kind:
        """The event's kind."""
        return Kind.CHAIN_START if isinstance(self.event, ChainStart) else self.event.kind


def writer_id(host: str, randomness: bytes) -> str:
    """Name a writer after its host, with at least 8 random bytes: no two runs of the signer may share a chain."""
    if len(randomness) < 8:  # noqa: PLR2004 - said in the sentence above
        raise ValueError("a writer id needs at least 8 random bytes")
    name = re.sub(r"[^A-Za-z0-9-]", "-", host[:63]).lstrip("-")
    return f"{name or 'signer'}-{randomness[:8].hex()}"


def start_chain(
    writer: str,
    *,
    time: datetime,
    predecessor: Head | None = None,
    torn: tuple[TornLine, ...] = (),
    pod: str | None = None,
) -> tuple[bytes, Head]:
    """Begin a writer's chain: its first line, with newline, and the head to seal the next event on."""
    if _WRITER.fullmatch(writer) is None or len(torn) > SEALED_LIMIT:
        raise ValueError(f"writer {writer[:160]!r} is malformed, or there are over {SEALED_LIMIT} torn lines")
    start = ChainStart(predecessor.id if predecessor else None, torn, pod)
    return _line(start, Head(writer, -1, predecessor.hash if predecessor else GENESIS), time)


def seal(event: AuditEvent, head: Head, *, time: datetime) -> tuple[bytes, Head]:
    """Give an event its place after `head`: the line, with newline, and the new head. `time` is aware, in UTC."""
    return _line(event, head, time)


def _line(event: AuditEvent | ChainStart, head: Head, time: datetime) -> tuple[bytes, Head]:
    # Put together by hand, since it is done for every signature: a JSON encoder takes half as long again.
    sequence = head.sequence + 1
    what = _event_json(event) if isinstance(event, AuditEvent) else _start_json(event)
    body = (
        f'{{"schema":{SCHEMA},"writer":"{head.writer}","sequence":{sequence},"previous":"{head.hash}",'
        f'"time":"{_timestamp(time)}","kind":{what}'
    ).encode("ascii")
    digest = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body, digest.encode("ascii")), Head(head.writer, sequence, digest)


def _timestamp(time: datetime) -> str:
    if time.tzinfo is not UTC:
        raise ValueError("the time of a record is aware and in UTC")
    return f"{_minute(time.year, time.month, time.day, time.hour, time.minute)}{time.second:02}.{time.microsecond:06}Z"


@lru_cache(maxsize=16)
def _minute(*numbers: int) -> str:
    return "{:04}-{:02}-{:02}T{:02}:{:02}:".format(*numbers)


def _event_json(event: AuditEvent) -> str:
    # What a refused caller asked for may be made up, and is not worth remembering.
    subject = _subject_json.__wrapped__ if event.kind is Kind.REFUSAL else _subject_json
    parts = ['"', event.kind, '"']
    if event.intent is not None:
        parts.append(f',"intent":{event.intent}')
    if event.repeats is not None:
        parts.append(f',"repeats":{event.repeats}')
    if event.request_id is not None:
        parts.append(_text_json("request_id", event.request_id))
    parts.append(subject(event.caller, event.recipe, event.recipe_hash, event.key, event.key_arn, event.algorithm))
    if event.manifest is not None:
        parts.append(_text_json("manifest", event.manifest))
    if event.claim_sha256 is not None:
        parts.append(_text_json("claim_sha256", _hash(event.claim_sha256)))
    if event.decision is not None:
        parts.append(_text_json("decision", event.decision))
    if event.guarded is not None:
        parts.append(',"guarded":true' if event.guarded else ',"guarded":false')
    parts += _result_json(event)
    return "".join(parts)


def _result_json(event: AuditEvent) -> Iterator[str]:
    if event.outcome is not None:
        yield f',"outcome":"{event.outcome}"'
    if event.reason is not None:
        yield _text_json("reason", event.reason)
    if event.attempts:
        yield f',"attempts":[{",".join(map(_attempt_json, event.attempts))}]'
    if event.suppressed:
        yield f',"suppressed":{event.suppressed}'
    if event.kind is Kind.CHECKPOINT:
        for name, text in zip(_CHECKPOINT, signed_head_of(event), strict=True):
            if text is not None:
                yield _text_json(name, _hash(text) if name == "head_hash" else text)


@lru_cache(maxsize=1024)
def _subject_json(*texts: str | None) -> str:
    _, _, recipe_hash, *_ = texts
    if recipe_hash is not None:
        _hash(recipe_hash)
    return "".join(_text_json(name, text) for name, text in zip(_SUBJECT, texts, strict=True) if text is not None)


def _text_json(name: str, text: str) -> str:
    limit = TEXT_LIMITS[name]
    return f',"{name}":{_quote(text if len(text) <= limit else text[: limit - 1] + "…")}'


def _hash(text: str) -> str:
    if HASH.fullmatch(text) is None:
        raise ValueError("a hash is not 64 lower-case hexadecimal digits")
    return text


def _attempt_json(attempt: Attempt) -> str:
    request_id = _quote(attempt.kms_request_id[:REQUEST_ID_LIMIT]) if attempt.kms_request_id else "null"
    return f'{{"kms_request_id":{request_id},"outcome":"{attempt.outcome}"}}'


def _start_json(start: ChainStart) -> str:
    pod = _text_json("pod", start.pod) if start.pod is not None else ""
    predecessor = f',"predecessor":"{start.predecessor}"' if start.predecessor else ""
    torn = ",".join(f'{{"size":{line.size},"sha256":"{line.sha256}"}}' for line in start.torn)
    return f'"{Kind.CHAIN_START}"{pod}{predecessor}' + (f',"torn":[{torn}]' if torn else "")


def read_record(line: bytes) -> AuditRecord:
    """Read and check one line, without its newline; RecordError says what is wrong with it."""
    if len(line) >= LINE_LIMIT:
        raise RecordError(LineFault.LINE_TOO_LONG, f"the line is longer than {LINE_LIMIT} bytes")
    trailer = _TRAILER.fullmatch(line, max(0, len(line) - _TRAILER_SIZE))
    if trailer is None:
        raise RecordError(LineFault.NOT_A_RECORD, "the line does not end with a record's hash")
    if hashlib.sha256(line[: trailer.start()]).hexdigest() != trailer[1].decode("ascii"):
        raise RecordError(LineFault.ALTERED, "the line's hash does not match its bytes")
    try:
        record = _parse(line)
        canonical, _ = _line(record.event, Head(record.writer, record.sequence - 1, record.previous), record.time)
    except RecordError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RecordError(LineFault.NOT_A_RECORD, "the line is not a record of this schema") from error
    if canonical[:-1] != line:
        raise RecordError(LineFault.NOT_A_RECORD, "the line is not in canonical form")
    return record


def looks_torn(content: bytes) -> bool:
    """Whether bytes without newline can be the beginning of a record that a crash cut off: no whole record in them."""
    size = min(len(content), len(_START))
    return 0 < len(content) < LINE_LIMIT and content[:size] == _START[:size] and _TRAILER.search(content) is None


def _parse(line: bytes) -> AuditRecord:
    fields = json.loads(line)
    if type(fields) is not dict:
        raise TypeError("not an object")
    if fields.pop("schema") != SCHEMA:
        raise RecordError(LineFault.UNKNOWN_SCHEMA, f"the record's schema is not {SCHEMA}, which this version reads")
    writer, sequence, previous = fields.pop("writer"), fields.pop("sequence"), fields.pop("previous")
    time, digest = datetime.fromisoformat(fields.pop("time")).astimezone(UTC), fields.pop("hash")
    kind = Kind(fields.pop("kind"))
    event = _parse_start(fields) if kind is Kind.CHAIN_START else _parse_event(kind, fields)
    if type(sequence) is not int or not 0 <= sequence < SEQUENCE_LIMIT or _WRITER.fullmatch(writer) is None:
        raise ValueError("sequence or writer")
    if (sequence == 0) is not isinstance(event, ChainStart) or HASH.fullmatch(previous) is None:
        raise ValueError("a chain start has sequence 0, and nothing else has")
    if isinstance(event, ChainStart) and (previous == GENESIS) is not (event.predecessor is None):
        raise ValueError("predecessor and previous hash do not agree")
    if isinstance(event, AuditEvent) and max(event.intent or 0, event.repeats or 0) >= sequence:
        raise ValueError("a record can refer only to one before it")
    return AuditRecord(writer, sequence, previous, time, event, digest)


def _parse_start(fields: dict[str, Any]) -> ChainStart:
    predecessor, pod = fields.pop("predecessor", None), fields.pop("pod", None)
    torn = tuple(TornLine(**line) for line in fields.pop("torn", ()))
    if fields or len(torn) > SEALED_LIMIT or any(type(line.size) is not int for line in torn):
        raise ValueError("a field of the chain start")
    if not {type(predecessor), type(pod)} <= {str, type(None)}:
        raise TypeError("predecessor or pod")
    return ChainStart(None if predecessor is None else AuditId.parse(predecessor), torn, pod)


def _parse_event(kind: Kind, fields: dict[str, Any]) -> AuditEvent:
    for name, value in fields.items():
        expected = _FIELD_TYPES.get(name, str)
        if type(value) is not expected:
            raise TypeError(name)
    outcome = fields.pop("outcome", None)
    attempts = tuple(_parse_attempt(attempt) for attempt in fields.pop("attempts", ()))
    return AuditEvent(kind=kind, outcome=Outcome(outcome) if outcome else None, attempts=attempts, **fields)


def _parse_attempt(fields: dict[str, Any]) -> Attempt:
    request_id = fields["kms_request_id"]
    if request_id is not None and type(request_id) is not str:
        raise TypeError("kms_request_id")
    return Attempt(request_id, Outcome(fields["outcome"]))
