"""Attempts with what surrounds the claim: other structures of COSE, and claims that are not where they seem to be."""

from collections.abc import Callable
from typing import Any

import cbor2

from tests.data.hostile.making import Material, outer, tried
from tests.signer.guard.cases import parts
from tests.support.claims import Parts

_SIGNATURE = bytes(64)
_ORDER = b"transfer 1,000,000 EUR to DE02 1203 0000 0000 2020 51"


def _set(**fields: object) -> Any:  # noqa: ANN401 - an Edit, of whichever part
    def change(taken: Parts) -> None:
        for name, value in fields.items():
            setattr(taken, name, value)

    return parts(change)


def _as_array(arrange: Callable[[Material], list[object]]) -> Callable[[Material], bytes]:
    return lambda material: cbor2.dumps(arrange(material))


def _sign1(material: Material) -> list[object]:
    return [material.header, {}, material.claim, _SIGNATURE]


def _sign1_tagged(material: Material) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(18, _sign1(material)))


ENVELOPES = (
    tried(
        "context-of-cose-sign",
        "sig-structure-shape",
        "Has the key sign as one of several signers (COSE_Sign), whose structure has five parts.",
        _as_array(lambda material: ["Signature", material.header, material.header, b"", material.claim]),
    ),
    tried(
        "context-of-counter-signature",
        "context",
        "Turns the claim's signature into a counter signature on it (RFC 8152) with the same four parts.",
        _set(context="CounterSignature"),
    ),
    tried(
        "context-of-counter-signature-v2",
        "sig-structure-shape",
        "The same by RFC 9338, with the other fields that are signed as well.",
        _as_array(lambda m: ["CounterSignatureV2", m.header, m.header, b"", m.claim, [_SIGNATURE]]),
    ),
    tried(
        "context-of-mac0",
        "context",
        "Asks for what COSE_Mac0 authenticates, in whose context no signature is made.",
        _set(context="MAC0"),
    ),
    tried(
        "context-of-encrypt0",
        "sig-structure-shape",
        "Asks to sign the Enc_structure of COSE_Encrypt0.",
        _as_array(lambda material: ["Encrypt0", material.header, b""]),
    ),
    tried(
        "context-in-lower-case",
        "context",
        "Hopes that a comparison ignores case: no verifier computes this structure.",
        _set(context="signature1"),
    ),
    tried(
        "context-with-nul",
        "context",
        "Hopes that a comparison ends at the NUL, as one in C would.",
        _set(context="Signature1\0CounterSignature"),
    ),
    tried(
        "context-look-alike",
        "context",
        "Writes the S of Signature1 in Cyrillic, which a log shows as the genuine one.",
        _set(context="\u0405ignature1"),
    ),
    tried(
        "context-in-bytes",
        "sig-structure-shape",
        "Gives the context as a byte string, which compares equal where texts are compared as bytes.",
        _set(context=b"Signature1"),
    ),
    tried(
        "cose-sign1-object",
        "no-tags",
        "Sends the finished COSE_Sign1 (tag 18) in place of what is signed in it.",
        _sign1_tagged,
    ),
    tried(
        "cose-sign1-without-tag",
        "sig-structure-shape",
        "The same without its tag: four parts too, the second of them the unprotected header.",
        _as_array(_sign1),
    ),
    tried(
        "cose-sign1-detached",
        "sig-structure-shape",
        "A Sig_structure with a detached (null) payload: whatever is attached later is then signed.",
        _as_array(lambda material: ["Signature1", material.header, b"", None]),
    ),
    tried(
        "external-aad-order",
        "external-aad",
        "A genuine claim, with a payment order as external_aad, which is signed along and stands in no asset.",
        _set(external_aad=_ORDER),
    ),
    tried(
        "external-aad-null",
        "sig-structure-shape",
        "null in place of an empty external_aad: another structure with, to some readers, the same meaning.",
        _set(external_aad=None),
    ),
    tried(
        "structure-wrapped-twice",
        "sig-structure-shape",
        "A genuine Sig_structure as a byte string, as if the service unwrapped it.",
        lambda material: cbor2.dumps(material.sig_structure),
    ),
    tried(
        "structure-in-structure",
        "claim-map",
        "A genuine Sig_structure, of an order to be signed elsewhere, as payload of a genuine one.",
        lambda material: cbor2.dumps(["Signature1", material.header, b"", material.sig_structure]),
    ),
    tried(
        "structure-as-map",
        "sig-structure-shape",
        "The four parts as a map with the keys 0 to 3.",
        lambda material: cbor2.dumps(dict(enumerate(cbor2.loads(material.sig_structure)))),
    ),
    tried(
        "structure-with-a-fifth-part",
        "sig-structure-shape",
        "A genuine structure with a statement as a fifth part, for a verifier that reads only four.",
        _as_array(lambda material: [*cbor2.loads(material.sig_structure), _ORDER]),
    ),
    tried(
        "structure-with-parts-swapped",
        "external-aad",
        "Claim and external_aad in each other's places, so that the claim checked is not the payload signed.",
        _as_array(lambda material: ["Signature1", material.header, material.claim, b""]),
    ),
    tried(
        "protected-header-not-wrapped",
        "sig-structure-shape",
        "The protected header as a map instead of the byte string that holds one.",
        _as_array(lambda material: ["Signature1", cbor2.loads(material.header), b"", material.claim]),
    ),
    tried(
        "claim-not-wrapped",
        "item-count",
        "The claim as a map instead of the byte string that holds one.",
        _as_array(lambda material: ["Signature1", material.header, b"", cbor2.loads(material.claim)]),
    ),
    tried(
        "claim-not-wrapped-at-all",
        "item-count",
        "A bare claim without any header: its signature would not say by which key and algorithm.",
        lambda material: material.claim,
    ),
    tried(
        "order-as-payload",
        "no-trailing-bytes",
        "A payment order in text as the payload, everything around it genuine.",
        lambda material: cbor2.dumps(["Signature1", material.header, b"", _ORDER]),
    ),
    tried(
        "payload-empty",
        "well-formed",
        "No payload, so that the signature could be moved to any structure with an empty one.",
        lambda material: cbor2.dumps(["Signature1", material.header, b"", b""]),
    ),
    tried(
        "message-with-trailing-byte",
        "no-trailing-bytes",
        "A genuine message and one byte: cbor2 alone would not see it, the digest would cover it.",
        lambda material: material.sig_structure + b"\n",
    ),
    tried(
        "message-then-another",
        "no-trailing-bytes",
        "Two structures in a row, the first one genuine: the signature is over both.",
        lambda material: material.sig_structure + outer("Signature1", b"", b"", _ORDER)(material),
    ),
    tried(
        "message-with-a-byte-before",
        "no-trailing-bytes",
        "A NUL before a genuine message, for a reader that skips padding.",
        lambda material: b"\0" + material.sig_structure,
    ),
    tried(
        "message-self-described",
        "no-tags",
        "A genuine message behind tag 55799, which says of bytes that they are CBOR: another digest, the same content.",
        lambda material: b"\xd9\xd9\xf7" + material.sig_structure,
    ),
    tried(
        "message-of-unknown-length",
        "definite-lengths",
        "A genuine message as an array of indefinite length.",
        lambda material: b"\x9f" + material.sig_structure[1:] + b"\xff",
    ),
    tried(
        "message-with-a-long-head",
        "exact-encoding",
        "A genuine message whose array length takes two bytes: the same content, another digest.",
        lambda material: b"\x98\x04" + material.sig_structure[1:],
    ),
    tried(
        "message-with-a-long-claim-length",
        "exact-encoding",
        "A genuine message whose claim's length takes four bytes instead of two.",
        lambda material: (
            cbor2.dumps(["Signature1", material.header, b"", b""])[:-1]
            + b"\x5a"
            + len(material.claim).to_bytes(4)
            + material.claim
        ),
    ),
    tried(
        "message-with-a-claim-in-chunks",
        "definite-lengths",
        "A genuine message whose claim is a byte string in two chunks.",
        lambda material: (
            cbor2.dumps(["Signature1", material.header, b"", b""])[:-1]
            + b"\x5f"
            + cbor2.dumps(material.claim[:100])
            + cbor2.dumps(material.claim[100:])
            + b"\xff"
        ),
    ),
)
