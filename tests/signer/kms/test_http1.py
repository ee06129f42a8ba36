"""Answers are read as RFC 9112 says, in whatever pieces they come; what could be read in two ways is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_signer.kms.http1 import (
    ANSWER_LIMIT,
    HEAD_LIMIT,
    AnswerReader,
    AnswerTooLongError,
    HeaderLines,
    HttpAnswer,
    HttpError,
    render_headers,
    render_request,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def whole(*headers: bytes, body: bytes = b"{}", status: bytes = OK) -> bytes:
    return status + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def sized(body: bytes, *headers: bytes) -> bytes:
    return whole(b"Content-Length: %d" % len(body), *headers, body=body)


def read(*pieces: bytes) -> tuple[HttpAnswer | None, bool] | str:
    """The answer, if it is whole, and whether the connection has to be closed after it; or why it is refused."""
    reader = AnswerReader()
    try:
        for number, piece in enumerate(pieces, 1):
            answer = reader.feed(piece)
            if answer is not None:
                return answer, reader.closes or any(pieces[number:])
    except AnswerTooLongError:
        return "too long"
    except HttpError as error:
        return str(error)
    return None, False


READ = {
    "length": (sized(b"{}"), 200, b"{}", False),
    "nothing": (sized(b""), 200, b"", False),
    "name in capitals": (whole(b"CONTENT-LENGTH:2"), 200, b"{}", False),
    "space around a value": (whole(b"content-length: \t2 \t"), 200, b"{}", False),
    "no reason phrase": (b"HTTP/1.1 400\r\nContent-Length: 0\r\n\r\n", 400, b"", False),
    "Latin-1 in a value": (sized(b"{}", b"X: \xe9"), 200, b"{}", False),
    "other headers twice": (sized(b"{}", b"Via: a", b"Via: b"), 200, b"{}", False),
    "to be closed": (sized(b"{}", b"Connection: Close"), 200, b"{}", True),
    "to be closed, in a list": (sized(b"{}", b"Connection: x, close"), 200, b"{}", True),
    "connection twice": (sized(b"{}", b"Connection: close", b"Connection: x"), 200, b"{}", True),
    "kept": (sized(b"{}", b"Connection: keep-alive"), 200, b"{}", False),
    "more than one answer": (sized(b"{}") + sized(b"[]"), 200, b"{}", True),
    "more than its length": (sized(b"{}") + b"x", 200, b"{}", True),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"{}"), 200, b"{}", False),
    "after 103": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + sized(b"{}"), 200, b"{}", False),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", False),
    "not modified": (b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", 304, b"", False),
    "chunks": (CHUNKED + b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n", 200, b"{}", False),
    "no chunk": (CHUNKED + b"0\r\n\r\n", 200, b"", False),
    "hexadecimal chunk": (CHUNKED + b"00A \r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789", False),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\nA: b\r\nContent-Length: 7\r\n\r\n", 200, b"{}", False),
    "more than its chunks": (CHUNKED + b"2\r\n{}\r\n0\r\n\r\nx", 200, b"{}", True),
    "line ends in a chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", 200, b"\r\n\r\n", False),
    "as long as is allowed": (sized(b" " * ANSWER_LIMIT), 200, b" " * ANSWER_LIMIT, False),
}


@pytest.mark.parametrize(("raw", "status", "body", "closes"), READ.values(), ids=READ.keys())
def test_an_answer_is_read_whole_and_in_single_bytes(raw: bytes, status: int, body: bytes, closes: bool) -> None:  # noqa: FBT001 - a column of the table
    expected = (HttpAnswer(status, body, None, None), closes)
    assert read(raw) == expected
    assert read(*(raw[n : n + 1] for n in range(len(raw)))) == expected


HEAD = "not those of HTTP/1.1"
REFUSED = {
    "another protocol": (b"SSH-2.0-OpenSSH\r\n", HEAD),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n", HEAD),
    "HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00", HEAD),
    "HTTP in small letters": (b"http/1.1 200 OK\r\n\r\n", HEAD),
    "line before": (b"\r\n" + sized(b"{}"), HEAD),
    "status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", HEAD),
    "status of four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", HEAD),
    "status of no class": (b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n", HEAD),
    "status that is signed": (b"HTTP/1.1 +20 X\r\nContent-Length: 0\r\n\r\n", HEAD),
    "space before a colon": (whole(b"Content-Length : 2"), HEAD),
    "folded line": (whole(b"Content-Length: 2", b" 3"), HEAD),
    "line without a colon": (whole(b"Content-Length: 2", b"x"), HEAD),
    "header without a name": (whole(b": 2"), HEAD),
    "NUL in a value": (whole(b"X: \x00"), HEAD),
    "lone LF": (whole(b"X: a\nContent-Length: 9", b"Content-Length: 2"), HEAD),
    "lone CR": (whole(b"X: a\rContent-Length: 9", b"Content-Length: 2"), HEAD),
    "two lengths": (whole(b"Content-Length: 2", b"Content-Length: 3"), "content-length stands there twice"),
    "one length twice": (whole(b"Content-Length: 2", b"content-length: 2"), "content-length stands there twice"),
    "list of lengths": (whole(b"Content-Length: 2, 2"), "not a number"),
    "signed length": (whole(b"Content-Length: +2"), "not a number"),
    "negative length": (whole(b"Content-Length: -2"), "not a number"),
    "hexadecimal length": (whole(b"Content-Length: 0x2"), "not a number"),
    "digits that are not ASCII": (whole(b"Content-Length: \xb2"), "not a number"),
    "length that is empty": (whole(b"Content-Length:"), "not a number"),
    "length and chunks": (whole(b"Content-Length: 2", b"Transfer-Encoding: chunked"), "both a Content-Length and"),
    "neither": (whole(), "does not say how long"),
    "other coding": (whole(b"Transfer-Encoding: gzip"), "is not chunked"),
    "two codings": (whole(b"Transfer-Encoding: gzip, chunked"), "is not chunked"),
    "coding twice": (whole(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"), "stands there twice"),
    "request id twice": (sized(b"{}", b"x-amzn-RequestId: a", b"X-Amzn-Requestid: b"), "stands there twice"),
    "change of protocol": (b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\n\r\n", "changes to a protocol"),
    "chunk of no size": (CHUNKED + b"\r\n", "is not one"),
    "chunk of signed size": (CHUNKED + b"+2\r\n{}\r\n", "is not one"),
    "chunk of 0x size": (CHUNKED + b"0x2\r\n{}\r\n", "is not one"),
    "chunk line with lone LF": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", "is not one"),
    "space before a chunk": (CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n", "is not one"),
    "endless chunk line": (CHUNKED + b"2;" + b"x" * 300, "too long"),
    "chunk that is longer": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", "longer than it says"),
    "trailers that are none": (CHUNKED + b"0\r\nx\r\n\r\n", "trailers"),
    "head of many lines": (OK + b"A: b\r\n" * HEAD_LIMIT, "too long"),
    "head of one line": (OK + b"A: " + b"b" * HEAD_LIMIT, "too long"),
    "many interim answers": (b"HTTP/1.1 100 X\r\n\r\n" * 2000, "too long"),
    "many trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * HEAD_LIMIT, "too long"),
    "length over the limit": (whole(b"Content-Length: %d" % (ANSWER_LIMIT + 1)), "too long"),
    "length of many digits": (whole(b"Content-Length: " + b"9" * 5000), "too long"),
    "chunk over the limit": (CHUNKED + b"ffffffff\r\n", "too long"),
    "chunks over the limit": (CHUNKED + (b"1000\r\n" + b" " * 4096 + b"\r\n") * 33, "too long"),
    "chunks of one byte": (CHUNKED + b"1;%s\r\n \r\n" % (b"x" * 200) * 1000, "too long"),
}


@pytest.mark.parametrize(("raw", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_answer_of_http_1_1_is_refused_by_name(raw: bytes, said: str) -> None:
    found = read(raw)
    assert isinstance(found, str)
    assert said in found
    assert read(*(raw[n : n + 7] for n in range(0, len(raw), 7))) == found


PARTS = [
    b"HTTP/1.1 ",
    b"100 X\r\n",
    b"200 OK\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
]
PARTS += [b"2\r\n{}\r\n", b"0\r\n\r\n", b"0\r\n", b"A: b\r\n", b"{}", b"\r", b"\n", b"x", b"Connection: close\r\n"]
WORTHY = [raw for raw in [row[0] for row in READ.values()] + [row[0] for row in REFUSED.values()] if len(raw) < 500]
RAW = st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join) | st.sampled_from(WORTHY) | st.binary(max_size=99)


@given(st.sampled_from([b"", OK, CHUNKED, sized(b"{}")]), RAW, st.lists(st.integers(1, 300), max_size=8))
def test_how_an_answer_is_split_changes_nothing(start: bytes, raw: bytes, cuts: list[int]) -> None:
    raw = start + raw
    ends = [0, *sorted(cuts), len(raw)]
    pieces = [raw[begin:end] for begin, end in itertools.pairwise(ends)]
    assert read(*pieces) == read(raw)


@given(RAW)
def test_an_answer_says_nothing_of_the_one_before(raw: bytes) -> None:
    reader = AnswerReader()
    assert reader.feed(b"HTTP/1.1 100 X\r\n\r\n") is None
    assert reader.feed(sized(b"{}")) is not None
    try:
        later: object = reader.feed(raw)
    except (AnswerTooLongError, HttpError) as error:
        later = str(error) or "too long"
    expected = read(raw)
    assert later == (expected if isinstance(expected, str) else expected[0])


def test_what_aws_says_of_a_request_is_found_whatever_its_case() -> None:
    found = read(sized(b"{}", b"X-AMZN-REQUESTID: abc-1", b"x-amzn-errortype:Denied:http://x"))
    assert found == (HttpAnswer(200, b"{}", "abc-1", "Denied:http://x"), False)


@pytest.mark.parametrize("named", [b"", b"a b", b"a" * 129, b"a\xe9"])
def test_what_is_not_shaped_like_a_request_id_is_none(named: bytes) -> None:
    found = read(sized(b"{}", b"x-amzn-RequestId: " + named))
    assert found == (HttpAnswer(200, b"{}", None, None), False)


@pytest.mark.parametrize(
    "header", [("A", "b\r\nC: d"), ("A", "b\n"), ("A\r\nB", "c"), ("A B", "c"), ("", "c"), ("A", "\x00")]
)
def test_a_header_that_would_begin_another_is_not_written(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="does not allow"):
        render_headers(dict([header]))


def test_a_request_has_its_headers_and_its_length() -> None:
    common, own = render_headers({"User-Agent": "x"}), render_headers({"Host": "kms.example", "Token": "é"})
    assert render_request(common, own, b"{}") == (
        b"POST / HTTP/1.1\r\nUser-Agent: x\r\nHost: kms.example\r\nToken: \xe9\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert render_request(HeaderLines(b""), HeaderLines(b""), b"") == b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
