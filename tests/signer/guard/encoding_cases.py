"""What no layer's CBOR may look like."""

from byok_signer.guard.cbor import DEPTH_LIMIT
from tests.signer.guard.cases import Case, claim_bytes, header_bytes, with_fields

ENCODING_CASES = (
    Case("well-formed", "an empty message", lambda _: b""),
    Case("well-formed", "a message cut short", lambda captured: captured.sig_structure[:-1]),
    Case("well-formed", "a claim cut short", claim_bytes(lambda data: data[:-1])),
    Case("well-formed", "a claim cut short within a head", claim_bytes(lambda _: b"\x19\x01")),
    Case("well-formed", "an empty claim", claim_bytes(lambda _: b"")),
    Case("well-formed", "a protected header cut short", header_bytes(lambda data: data[:-1])),
    Case("well-formed", "a text of 2^60 bytes", claim_bytes(lambda _: b"\x7b\x10" + bytes(7) + b"a")),
    Case("well-formed", "a reserved head", claim_bytes(lambda _: b"\x1c")),
    Case("well-formed", "an integer of indefinite length", claim_bytes(lambda _: b"\x1f")),
    Case("no-trailing-bytes", "a byte after the message", lambda captured: captured.sig_structure + b"\x00"),
    Case("no-trailing-bytes", "a byte after the claim", claim_bytes(lambda data: data + b"\x00")),
    Case("no-trailing-bytes", "a second header", header_bytes(lambda data: data + data)),
    Case("no-tags", "a tagged message", lambda captured: b"\xd2" + captured.sig_structure),
    Case("no-tags", "a tagged claim", claim_bytes(lambda data: b"\xd9\xd9\xf7" + data)),
    Case("no-tags", "a regular expression", claim_bytes(lambda _: b"\xd8\x23\x66(a+)+$")),
    Case("no-tags", "a tag in a value", with_fields(alg_soft=1 << 64)),
    Case("definite-lengths", "a map without a length", claim_bytes(lambda data: b"\xbf" + data[1:] + b"\xff")),
    Case("definite-lengths", "a text in chunks", claim_bytes(lambda _: b"\x7f\x61a\xff")),
    Case(
        "definite-lengths", "an array without a length", lambda captured: b"\x9f" + captured.sig_structure[1:] + b"\xff"
    ),
    Case("definite-lengths", "a lone break", claim_bytes(lambda _: b"\xff")),
    Case("simple-values", "undefined", claim_bytes(lambda _: b"\xf7")),
    Case("simple-values", "an unassigned simple value", claim_bytes(lambda _: b"\xe0")),
    Case("simple-values", "one of two bytes", claim_bytes(lambda _: b"\xf8\xff")),
    Case("depth", "arrays in arrays", claim_bytes(lambda _: b"\x81" * (DEPTH_LIMIT + 1) + b"\x00")),
    Case("depth", "maps in maps", claim_bytes(lambda _: b"\xa1\x61a" * (DEPTH_LIMIT + 1) + b"\x00")),
    Case("depth", "empty arrays in arrays", claim_bytes(lambda _: b"\x81" * DEPTH_LIMIT + b"\x80")),
    Case("item-count", "a list said to be of 2^60", claim_bytes(lambda _: b"\x9b\x10" + bytes(7))),
    Case("item-count", "a list of 5,000", claim_bytes(lambda _: b"\x99\x13\x88" + bytes(5000))),
    Case("item-count", "a message of 17 parts", lambda captured: b"\x91" + captured.sig_structure[1:] + bytes(13)),
    Case("item-count", "a header of 100 parts", header_bytes(lambda _: b"\x98\x64" + bytes(100))),
    Case("utf-8", "a stray byte in a text", claim_bytes(lambda _: b"\xa1\x61\xff\x00")),
    Case("utf-8", "half a surrogate pair", claim_bytes(lambda _: b"\x63\xed\xa0\x80")),
    Case(
        "utf-8",
        "a context of stray bytes",
        lambda captured: captured.sig_structure.replace(b"Signature1", b"\xff" * 10),
    ),
    Case("map-keys", "a number as key", claim_bytes(lambda _: b"\xa1\x01\x00")),
    Case("map-keys", "an array as key", claim_bytes(lambda _: b"\xa1\x81\x01\x00")),
    Case(
        "no-duplicate-keys",
        "alg twice",
        claim_bytes(lambda data: bytes([data[0] + 1]) + data[1:] + b"\x63alg\x66sha512"),
    ),
    Case("no-duplicate-keys", "header 1 twice", header_bytes(lambda data: b"\xa3" + data[1:] + b"\x01\x26")),
    Case("exact-encoding", "a longer head than need be", lambda captured: b"\x98\x04" + captured.sig_structure[1:]),
    Case(
        "exact-encoding",
        "a longer integer in the header",
        header_bytes(lambda data: data.replace(b"\x01\x26", b"\x01\x38\x06")),
    ),
    Case(
        "exact-encoding",
        "a longer length in the claim",
        claim_bytes(lambda data: data.replace(b"\x63alg", b"\x78\x03alg")),
    ),
    Case("exact-encoding", "a number in half precision", claim_bytes(lambda _: b"\xf9\x3c\x00")),
)
