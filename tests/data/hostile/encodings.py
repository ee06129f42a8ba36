"""Attempts with CBOR itself: two readings of one message, two encodings of one claim, or work for the reader."""

from collections.abc import Callable

import cbor2

from tests.data.hostile.making import Material, payload, replaced, tried, wrapped
from tests.signer.guard.cases import with_fields

_LIMIT = 64 * 1024
_REST = _LIMIT - 1200
_TITLE = b"\x68dc:title\x66sample"


def _one_more(entry: bytes) -> Callable[[Material], bytes]:
    """Add an encoded entry to the claim's map, which has fewer than 23."""
    return payload(lambda data: bytes([data[0] + 1]) + data[1:] + entry)


def _soft(value: bytes) -> Callable[[Material], bytes]:
    """Give alg_soft, a key that a claim may have, any encoded value."""
    return _one_more(b"\x68alg_soft" + value)


TAGS = (
    tried(
        "tag-self-described",
        "no-tags",
        "The claim behind tag 55799: the same content under another hash.",
        payload(lambda data: b"\xd9\xd9\xf7" + data),
    ),
    tried(
        "tag-encoded-cbor",
        "no-tags",
        "The claim as encoded CBOR (tag 24), which some readers decode unasked.",
        payload(lambda data: b"\xd8\x18" + cbor2.dumps(data)),
    ),
    tried(
        "tag-regular-expression",
        "no-tags",
        "A regular expression (tag 35), which cbor2 compiles, that takes exponential time.",
        wrapped(b"\xa1\x65title\xd8\x23\x6d(a+)+(b|b|b)*"),
    ),
    tried(
        "tag-bignum",
        "no-tags",
        "A number of 60,000 bytes (tag 2), slow to print.",
        wrapped(b"\xc2\x59\xea\x60" + b"\xff" * 60_000),
    ),
    tried(
        "tag-decimal-exponent",
        "no-tags",
        "A decimal fraction (tag 4) with an exponent of 2^63: gigabytes if it is ever written out.",
        _soft(b"\xc4\x82\x1b\x7f" + b"\xff" * 7 + b"\x01"),
    ),
    tried(
        "tag-date",
        "no-tags",
        "A time (tag 0) as title, which cbor2 parses.",
        replaced(_TITLE, b"\x68dc:title\xc0\x742026-01-01T00:00:00Z"),
    ),
    tried(
        "tag-cycle",
        "no-tags",
        "An array that holds itself (tags 28 and 29): who walks it never comes back.",
        _soft(b"\xd8\x1c\x81\xd8\x1d\x00"),
    ),
    tried(
        "tag-string-references",
        "no-tags",
        "A claim that may refer back to its texts (tag 256): other bytes for the same content.",
        payload(lambda data: b"\xd9\x01\x00" + data),
    ),
    tried(
        "tag-bomb",
        "no-tags",
        "Thirty thousand tags in each other, for a reader that recurses.",
        wrapped(b"\xd8\x23" * (_REST // 2)),
    ),
    tried(
        "tag-in-a-reference",
        "no-tags",
        "A hash that is to be read as base64 (tag 22).",
        replaced(b"\x64hash\x58\x20", b"\x64hash\xd6\x58\x20"),
    ),
)

VALUES = (
    tried(
        "nan-with-a-message",
        "exact-encoding",
        "One of the 2^52 forms of NaN, with bits to hide a message in.",
        _soft(b"\xfb\x7f\xf8" + bytes(5) + b"\x01"),
    ),
    tried(
        "nan-as-instance-id",
        "value-types",
        "NaN as instanceID: it equals nothing, not even itself.",
        with_fields(instanceID=float("nan")),
    ),
    tried(
        "infinity-as-title",
        "value-types",
        "Infinity as title, which JSON cannot say.",
        with_fields(**{"dc:title": float("inf")}),
    ),
    tried(
        "float-in-half-precision",
        "exact-encoding",
        "1.0 in three bytes instead of nine.",
        _soft(b"\xf9\x3c\x00"),
    ),
    tried(
        "integer-with-a-long-head",
        "exact-encoding",
        "0 in nine bytes.",
        _soft(b"\x1b" + bytes(8)),
    ),
    tried(
        "array-with-a-long-head",
        "exact-encoding",
        "The number of created assertions in two bytes.",
        replaced(b"created_assertions\x83", b"created_assertions\x98\x03"),
    ),
    tried(
        "text-with-a-long-head",
        "exact-encoding",
        "The length of the key alg in two bytes.",
        replaced(b"\x63alg", b"\x78\x03alg"),
    ),
    tried(
        "hash-with-a-long-head",
        "exact-encoding",
        "The length of a hash in nine bytes.",
        replaced(b"\x64hash\x58\x20", b"\x64hash\x5b" + bytes(7) + b"\x20"),
    ),
    tried(
        "false-in-two-bytes",
        "simple-values",
        "false in two bytes, which RFC 8949 forbids and some readers take.",
        _soft(b"\xf8\x14"),
    ),
    tried(
        "undefined",
        "simple-values",
        "undefined: null to some readers, a missing key or an error to others.",
        _soft(b"\xf7"),
    ),
    tried(
        "simple-value-unassigned",
        "simple-values",
        "A simple value whose meaning is yet to be assigned.",
        _soft(b"\xf8\xff"),
    ),
    tried(
        "map-of-unknown-length",
        "definite-lengths",
        "The claim as a map of indefinite length.",
        payload(lambda data: b"\xbf" + data[1:] + b"\xff"),
    ),
    tried(
        "text-in-chunks",
        "definite-lengths",
        "The title in two chunks that spell it together.",
        replaced(_TITLE, b"\x68dc:title\x7f\x63sam\x63ple\xff"),
    ),
    tried(
        "title-of-stray-bytes",
        "utf-8",
        "A title that is no text, though it says so.",
        replaced(_TITLE, b"\x68dc:title\x66sam\xff\xfee"),
    ),
    tried(
        "url-in-overlong-utf-8",
        "utf-8",
        "A slash of a reference as C0 AF, which only careless decoders read.",
        replaced(b"\x78\x29self#jumbf=c2pa.assertions/", b"\x78\x2aself#jumbf=c2pa.assertions\xc0\xaf"),
    ),
    tried(
        "title-of-surrogates",
        "utf-8",
        "A title with half a surrogate pair, which later fails in whatever writes it.",
        replaced(_TITLE, b"\x68dc:title\x66sam\xed\xa0\x80"),
    ),
)

KEYS = (
    tried(
        "key-twice",
        "no-duplicate-keys",
        "created_assertions a second time and empty: readers differ on which one counts.",
        _one_more(b"\x72created_assertions\x80"),
    ),
    tried(
        "key-twice-in-a-reference",
        "no-duplicate-keys",
        "A reference with two urls, the second of another assertion.",
        replaced(b"\xa2\x63url", b"\xa3\x63url\x78\x27self#jumbf=c2pa.assertions/c2pa.actions\x63url"),
    ),
    tried(
        "key-in-bytes",
        "known-keys",
        "alg a second time as a byte string: a duplicate to readers that take bytes for text.",
        _one_more(b"\x43alg\x63md5"),
    ),
    tried(
        "key-number",
        "map-keys",
        "A CWT claim (1, the issuer) in the claim: two kinds of statement in one.",
        _one_more(b"\x01\x68attacker"),
    ),
    tried(
        "key-array",
        "map-keys",
        "An array as key, which most readers cannot hold.",
        _one_more(b"\x81\x00\x00"),
    ),
    tried(
        "key-null",
        "map-keys",
        "null as key.",
        _one_more(b"\xf6\xf6"),
    ),
)

WORK = (
    tried(
        "arrays-in-arrays",
        "depth",
        "Sixty thousand arrays in each other, for a reader that recurses.",
        wrapped(b"\x81" * _REST),
    ),
    tried(
        "maps-in-maps",
        "depth",
        "Maps in each other, in the one place where a claim may say anything.",
        replaced(b"\x64name", b"\x61x" + b"\xa1\x61x" * 40 + b"\xf6\x64name"),
    ),
    tried(
        "array-of-2-to-the-64",
        "item-count",
        "An array said to have 2^64 - 1 items, for a reader that makes room first.",
        _soft(b"\x9b" + b"\xff" * 8),
    ),
    tried(
        "map-of-2-to-the-63",
        "item-count",
        "A map whose length doubles past 64 bits.",
        _soft(b"\xbb\x80" + bytes(7)),
    ),
    tried(
        "text-of-2-to-the-64",
        "well-formed",
        "A text said to have 2^64 - 1 bytes: added to an offset, it wraps around.",
        _soft(b"\x7b" + b"\xff" * 8),
    ),
    tried(
        "empty-maps",
        "item-count",
        "Sixty thousand empty maps, each of them an object of hundreds of bytes in memory.",
        wrapped(b"\x99" + _REST.to_bytes(2) + b"\xa0" * _REST),
    ),
    tried(
        "many-keys",
        "item-count",
        "Nine thousand keys with null for each.",
        wrapped(b"\xb9\x23\x28" + b"".join(b"\x64%04d\xf6" % number for number in range(9000))),
    ),
    tried(
        "claim-cut-short",
        "well-formed",
        "All of a claim but its last byte, which a lenient reader fills up.",
        payload(lambda data: data[:-1]),
    ),
    tried(
        "claim-then-another",
        "no-trailing-bytes",
        "Two claims in a row: one for the guard, one for a reader that takes the last.",
        payload(lambda data: data + data),
    ),
    tried(
        "claim-then-padding",
        "no-trailing-bytes",
        "A claim with room behind it, to be filled once a collision is found.",
        payload(lambda data: data + bytes(20_000)),
    ),
    tried(
        "claim-behind-a-reserved-head",
        "well-formed",
        "A head that RFC 8949 keeps for later, whose length readers guess.",
        payload(lambda data: b"\xbc" + data),
    ),
)

ENCODINGS = (*TAGS, *VALUES, *KEYS, *WORK)
