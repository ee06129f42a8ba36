"""HTTP/1.1 as far as a POST and its answer need it (RFC 9112), read strictly; pure, bytes in and answers out.

What follows an answer decides which answer the next request gets, so that nothing is guessed: whatever can be read in
two ways is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

ANSWER_LIMIT = 128 * 1024
"""Bytes; KMS's longest answer of those used here, a key policy, is 32 KiB before it is escaped."""
HEAD_LIMIT = 16 * 1024
"""Bytes of status line and headers, interim answers and trailers included."""
_CHUNK_LINE_LIMIT = 256
_DIGITS = 18
_END = b"\r\n\r\n"
_BEGIN = b"HTTP/1.1 "
_NOT_A_HEAD = "its status line or headers are not those of HTTP/1.1"
_SWITCHING_PROTOCOLS = 101
_FINAL = 200
_WITHOUT_BODY = frozenset({204, 304})
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,128}")

# RFC 9110, sections 5.5 and 5.6.2: a value has no control characters but the tab, a name is a token; RFC 9112, sections
# 5.1 and 5.2: no space before the colon, no folded lines. Possessive, so that no answer makes them slow.
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELDS = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:" + _VALUE + rb"\r\n)*+"
_HEAD = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: " + _VALUE + rb")?\r\n" + _FIELDS + rb"\r\n")
_LINES = re.compile(_FIELDS)
_TRAILERS = re.compile(_FIELDS + rb"\r\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[\t ]*+(?:;" + _VALUE + rb")?\r\n")
_KNOWN = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|x-amzn-requestid|x-amzn-errortype):([^\r]*+)", re.IGNORECASE
)


HeaderLines = NewType("HeaderLines", bytes)
"""Headers as they are sent, each with its line end; `render_headers` makes them."""


class HttpError(Exception):
    """What came is not an answer that HTTP/1.1 allows here; str() says what is wrong with it."""


class AnswerTooLongError(Exception):
    """The answer is longer than any that KMS would give."""


@dataclass(slots=True)
class HttpAnswer:
    """A whole answer, whatever its status."""

    status: int
    body: bytes
    request_id: str | None
    """x-amzn-RequestId; None if there is none, or it is not shaped like one."""
    error_type: str | None
    """x-amzn-ErrorType."""


def render_headers(headers: Mapping[str, str]) -> HeaderLines:
    """Write headers; ValueError if one would begin another line, or end where it should not."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
    if _LINES.fullmatch(lines) is None or lines.count(b"\n") != len(headers):
        raise ValueError("a header's name or value has characters that HTTP does not allow there")
    return HeaderLines(lines)


def render_request(common: HeaderLines, headers: HeaderLines, body: bytes) -> bytes:
    """Write a POST of `body` to the root, all that KMS and STS are asked by; Content-Length is added."""
    return b"POST / HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (common, headers, len(body), body)


@dataclass(slots=True)
class _Head:
    """What is needed of status line and headers."""

    status: int
    length: int | None
    """Of the body; None if it comes in chunks."""
    closes: bool
    request_id: str | None
    error_type: str | None


class AnswerReader:
    """Reads the answer to one request, in whatever pieces it comes, then the next one's."""

    def __init__(self) -> None:
        self.closes = False
        """Whether the other side sends no more on this connection, or sent more than the answer."""
        self._buffer = bytearray()
        self._restart()

    def _restart(self) -> None:
        self._head: _Head | None = None
        self._chunk: int | None = None  # what is left of it; None before its first line
        self._body = bytearray()  # of chunks
        self._read = 0  # bytes of heads and trailers
        self._framed = 0  # bytes of chunks and of their lines

    def feed(self, data: bytes) -> HttpAnswer | None:
        """Take the next bytes and return the answer once it is whole; HttpError, AnswerTooLongError."""
        if self._head is None and not self._buffer and not self._read:
            answer = self._read_at_once(data)
            if answer is not None:
                return answer
        self._buffer += data
        head = self._head
        if head is None:
            head = self._head = self._read_head()
            if head is None:
                return None
        body = self._read_chunks() if head.length is None else self._take(head.length)
        if body is None:
            return None
        self.closes = head.closes or bool(self._buffer)
        self._restart()
        return HttpAnswer(head.status, body, head.request_id, head.error_type)

    def _read_at_once(self, data: bytes) -> HttpAnswer | None:
        """Read what comes whole and in one piece, as nearly all do, in half the time; None if it does not."""
        size = data.find(_END) + len(_END)
        if not len(_END) <= size <= HEAD_LIMIT:
            return None
        head = _head_of(data[:size])
        if head is None or head.length != len(data) - size:
            return None
        self.closes = head.closes
        return HttpAnswer(head.status, data[size:], head.request_id, head.error_type)

    def _take(self, size: int) -> bytes | None:
        """Take so many bytes off the buffer, if they are there."""
        if len(self._buffer) < size:
            return None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _read_head(self) -> _Head | None:
        """Read a final answer's head, past interim ones (RFC 9110, section 15.2)."""
        while True:
            if self._buffer[: len(_BEGIN)] != _BEGIN[: len(self._buffer)]:
                raise HttpError(_NOT_A_HEAD)
            raw = self._take_section()
            if raw is None:
                return None
            head = _head_of(raw)
            if head is not None:
                return head

    def _take_section(self) -> bytes | None:
        """Take lines up to and with the next empty one."""
        end = self._buffer.find(_END)
        size = len(self._buffer) if end < 0 else end + len(_END)
        if self._read + size > HEAD_LIMIT:
            raise AnswerTooLongError
        if end < 0:
            return None
        self._read += size
        return self._take(size)

    def _read_chunks(self) -> bytes | None:
        """Read a body in chunks (RFC 9112, section 7.1), whose extensions and trailers are ignored."""
        while True:
            if self._chunk is None:
                self._chunk = self._read_chunk_line()
            if self._chunk is None:
                return None
            if self._chunk == 0:
                return bytes(self._body) if self._skip_trailers() else None
            chunk = self._take(self._chunk + 2)
            if chunk is None:
                return None
            if not chunk.endswith(b"\r\n"):
                raise HttpError("a chunk of it is longer than it says")
            self._body += memoryview(chunk)[:-2]
            self._chunk = None

    def _read_chunk_line(self) -> int | None:
        end = self._buffer.find(b"\n", 0, _CHUNK_LINE_LIMIT)
        line = self._take(end + 1) if end >= 0 else None
        if line is None:
            if len(self._buffer) >= _CHUNK_LINE_LIMIT:
                raise HttpError("the line before a chunk of it is too long")
            return None
        found = _CHUNK_LINE.fullmatch(line)
        if found is None:
            raise HttpError("the line before a chunk of it is not one")
        size = int(found[1], 16)
        # With the lines, or chunks of one byte would hold much more than the limit.
        self._framed += len(line) + size
        if self._framed > ANSWER_LIMIT:
            raise AnswerTooLongError
        return size

    def _skip_trailers(self) -> bool:
        if self._buffer.startswith(b"\r\n"):
            return self._take(2) is not None
        # A lone CR may be the beginning of that.
        section = self._take_section() if len(self._buffer) > 1 else None
        if section is not None and _TRAILERS.fullmatch(section) is None:
            raise HttpError("its trailers are not those of HTTP/1.1")
        return section is not None


def _head_of(raw: bytes) -> _Head | None:
    """Read status line and headers; None if the answer is an interim one."""
    found = _HEAD.fullmatch(raw)
    if found is None:
        raise HttpError(_NOT_A_HEAD)
    status = int(found[1])
    if status < _FINAL:
        if status == _SWITCHING_PROTOCOLS:
            raise HttpError("it changes to a protocol that nobody asked for")
        return None
    lines = _KNOWN.findall(raw)
    known = {name.lower(): value.strip(b"\t ") for name, value in lines}
    if len(known) != len(lines):
        _check_repeated([name.lower() for name, _ in lines])
        known[b"connection"] = b"close"
    request_id = known.get(b"x-amzn-requestid", b"").decode("latin-1")
    error_type = known.get(b"x-amzn-errortype")
    return _Head(
        status,
        _length_of(status, known),
        # One of a list, in principle; to close without need does no harm.
        b"close" in known.get(b"connection", b"").lower(),
        request_id if _REQUEST_ID.fullmatch(request_id) else None,
        None if error_type is None else error_type.decode("latin-1"),
    )


def _check_repeated(names: list[bytes]) -> None:
    for name in names:
        # Of these, only Connection is a list.
        if names.count(name) > 1 and name != b"connection":
            raise HttpError(f"its header {name.decode()} stands there twice")


def _length_of(status: int, known: Mapping[bytes, bytes]) -> int | None:
    """Tell how long the body is, None if in chunks; HttpError if nothing says so, or two say so (RFC 9112, 6.3)."""
    length, coding = known.get(b"content-length"), known.get(b"transfer-encoding")
    if length is not None and coding is not None:
        raise HttpError("it has both a Content-Length and a Transfer-Encoding")
    if status in _WITHOUT_BODY:
        return 0
    if coding is not None:
        if coding.lower() != b"chunked":
            raise HttpError("its Transfer-Encoding is not chunked")
        return None
    if length is None:
        # Its end would be the connection's, which whoever can cut a connection can place.
        raise HttpError("it does not say how long it is")
    if not length.isdigit():
        raise HttpError("its Content-Length is not a number")
    if len(length) > _DIGITS or int(length) > ANSWER_LIMIT:
        raise AnswerTooLongError
    return int(length)
