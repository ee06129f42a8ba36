r"""One audit record is one line: a canonical JSON object that ends with its own hash and names the hash before it.

    {"schema":1,"writer":W,"sequence":N,"previous":P,"time":T,"kind":K, ... ,"hash":H}\n

H is the SHA-256 of every byte of the line before `,"hash":`; P is H of the record before. Because a record carries its
own hash, a damaged line is found on that very line, the last one included, and a cut-off line can be told from an
altered one. Keys stand in the order above and of the tables below; what does not apply is left out; text is ASCII with
JSON escapes: the same record always has the same bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from json.encoder import encode_basestring_ascii as _quote
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self

SCHEMA = 1
LINE_LIMIT = 128 * 1024
"""Bytes of a line with its newline; the limits below keep every sealed line under it."""
GENESIS = "0" * 64
"""`previous` of a chain that has no predecessor."""
ATTEMPTS_LIMIT = 64
SEALED_LIMIT = 8
"""Torn lines that one chain start can seal."""
REQUEST_ID_LIMIT = 64
_SEQUENCE_LIMIT = 2**63

_TEXT_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "request_id": 128,
        "caller": 512,
        "recipe": 512,
        "recipe_hash": 64,
        "key": 512,
        "key_arn": 512,
        "algorithm": 32,
        "manifest": 512,
        "claim_sha256": 64,
        "outcome": 16,
        "reason": 64,
    },
)
_TEXT_KEYS = tuple(f',"{name}":' for name in _TEXT_LIMITS)
_texts_of = attrgetter(*_TEXT_LIMITS)
_START = b'{"schema":'
_TRAILER = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_TRAILER_SIZE = len(',"hash":""}') + 64
_HASH = re.compile(r"[0-9a-f]{64}")
_WRITER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Kind(StrEnum):
    """What a record tells."""

    CHAIN_START = "chain-start"
    """A writer begins; names the chain that it continues and the torn lines that it found."""
    INTENT = "intent"
    """A signature is about to be asked of KMS."""
    OUTCOME = "outcome"
    """What became of a signature that was asked of KMS."""
    REFUSAL = "refusal"
    """A request was refused before KMS was asked to sign."""
    CERTIFY = "certify"
    """A certificate request was signed."""
    CHECKPOINT = "checkpoint"
    """The chain's head was signed."""


class Outcome(StrEnum):
    """What a request, or one call of `kms:Sign`, came to."""

    SIGNED = "signed"
    """A request: the signature was released. A call: KMS answered with a signature, whatever became of that."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """No answer arrived, so KMS may have signed; nothing was released."""


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


@dataclass(frozen=True, slots=True)
class AuditId:
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


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain: where the next one is linked."""

    writer: str
    sequence: int
    hash: str

    @property
    def id(self) -> AuditId:
        """That record's name."""
        return AuditId(self.writer, self.sequence)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of `kms:Sign`, by the request id that CloudTrail logs too; None where no answer arrived."""

    kms_request_id: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What happened, before it has a place in a chain.

    Recording must not fail because of what is recorded: text over its limit is cut and ends in an ellipsis. Hashes of
    the wrong form and fields that do not go with the kind are bugs of the caller and raise ValueError, so build the
    event before KMS is asked, and set outcome, reason and attempts with `dataclasses.replace`.
    """

    kind: Kind
    request_id: str | None = None
    caller: str | None = None
    """The ServiceAccount's user name."""
    recipe: str | None = None
    """`namespace/name@version`, or what the caller asked for where that was not found."""
    recipe_hash: str | None = None
    key: str | None = None
    """The ByokKey, `namespace/name`."""
    key_arn: str | None = None
    """The resolved ARN of the KMS key."""
    algorithm: str | None = None
    manifest: str | None = None
    """The C2PA manifest's URN."""
    claim_sha256: str | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    """`byok_api.errors.Reason` by name; text, so that records outlive a reason."""
    guarded: bool | None = None
    """False for a digest signed without its claim as evidence."""
    attempts: tuple[Attempt, ...] = ()
    suppressed: int = 0
    """Refusals of this caller, since its record before, that were counted but not recorded."""

    def __post_init__(self) -> None:
        for (name, limit), text in zip(_TEXT_LIMITS.items(), _texts_of(self), strict=True):
            if text is not None and len(text) > limit:
                object.__setattr__(self, name, text[: limit - 1] + "…")
        for digest in (self.recipe_hash, self.claim_sha256):
            if digest is not None and _HASH.fullmatch(digest) is None:
                raise ValueError("a hash is not 64 lower-case hexadecimal digits")
        _check_kind(self)


def _check_kind(event: AuditEvent) -> None:
    if event.kind is Kind.CHAIN_START:
        raise ValueError("a chain start is no event: use ChainStart")
    if (event.outcome is not None) is (event.kind in (Kind.INTENT, Kind.REFUSAL)):
        raise ValueError(f"{event.kind} does not go with outcome {event.outcome}")
    if event.kind is Kind.REFUSAL and event.reason is None:
        raise ValueError("a refusal needs a reason")
    if event.attempts and (event.outcome is None or len(event.attempts) > ATTEMPTS_LIMIT):
        raise ValueError(f"{event.kind} does not go with {len(event.attempts)} attempts")
    if not 0 <= event.suppressed < _SEQUENCE_LIMIT or (event.suppressed and event.kind is not Kind.REFUSAL):
        raise ValueError(f"{event.kind} does not go with {event.suppressed} suppressed refusals")


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
) -> tuple[bytes, Head]:
    """Begin a writer's chain: its first line, with newline, and the head to seal the next event on."""
    if _WRITER.fullmatch(writer) is None or len(torn) > SEALED_LIMIT:
        raise ValueError(f"writer {writer[:160]!r} is malformed, or there are over {SEALED_LIMIT} torn lines")
    start = ChainStart(predecessor.id if predecessor else None, torn)
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
    return time.isoformat(timespec="microseconds")[:-6] + "Z"


def _event_json(event: AuditEvent) -> str:
    parts = [f'"{event.kind}"']
    parts += [key + _quote(text) for key, text in zip(_TEXT_KEYS, _texts_of(event), strict=True) if text is not None]
    if event.guarded is not None:
        parts.append(',"guarded":true' if event.guarded else ',"guarded":false')
    if event.attempts:
        parts.append(f',"attempts":[{",".join(map(_attempt_json, event.attempts))}]')
    if event.suppressed:
        parts.append(f',"suppressed":{event.suppressed}')
    return "".join(parts)


def _attempt_json(attempt: Attempt) -> str:
    request_id = _quote(attempt.kms_request_id[:REQUEST_ID_LIMIT]) if attempt.kms_request_id else "null"
    return f'{{"kms_request_id":{request_id},"outcome":"{attempt.outcome}"}}'


def _start_json(start: ChainStart) -> str:
    predecessor = f',"predecessor":"{start.predecessor}"' if start.predecessor else ""
    torn = ",".join(f'{{"size":{line.size},"sha256":"{line.sha256}"}}' for line in start.torn)
    return f'"{Kind.CHAIN_START}"{predecessor}' + (f',"torn":[{torn}]' if torn else "")


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
    if type(sequence) is not int or not 0 <= sequence < _SEQUENCE_LIMIT or _WRITER.fullmatch(writer) is None:
        raise ValueError("sequence or writer")
    if (sequence == 0) is not isinstance(event, ChainStart) or _HASH.fullmatch(previous) is None:
        raise ValueError("a chain start has sequence 0, and nothing else has")
    if isinstance(event, ChainStart) and (previous == GENESIS) is not (event.predecessor is None):
        raise ValueError("predecessor and previous hash do not agree")
    return AuditRecord(writer, sequence, previous, time, event, digest)


def _parse_start(fields: dict[str, Any]) -> ChainStart:
    predecessor = fields.pop("predecessor", None)
    torn = tuple(TornLine(**line) for line in fields.pop("torn", ()))
    if fields or len(torn) > SEALED_LIMIT or any(type(line.size) is not int for line in torn):
        raise ValueError("a field of the chain start")
    if predecessor is not None and type(predecessor) is not str:
        raise TypeError("predecessor")
    return ChainStart(None if predecessor is None else AuditId.parse(predecessor), torn)


def _parse_event(kind: Kind, fields: dict[str, Any]) -> AuditEvent:
    for name, value in fields.items():
        expected = {"guarded": bool, "attempts": list, "suppressed": int}.get(name, str)
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
