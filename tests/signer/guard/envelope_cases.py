"""What may not surround a claim."""

from dataclasses import replace
from typing import Any

import cbor2

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_signer.guard import SIZE_LIMIT, ClaimPolicy
from tests.signer.guard.cases import Case, header, header_bytes, parts
from tests.support.claims import Parts, created_claim
from tests.support.pki import certified, identity, new_key

_ALG, _X5CHAIN = 1, 33


def _outer(*items: object) -> bytes:
    return cbor2.dumps(list(items))


def _set(**fields: object) -> Any:  # noqa: ANN401 - a Make, of whichever part
    def change(taken: Parts) -> None:
        for name, value in fields.items():
            setattr(taken, name, value)

    return parts(change)


def _with_chain(*ders: bytes) -> Any:  # noqa: ANN401 - same
    return header(lambda fields: fields.update({_X5CHAIN: list(ders)}))


def _leaf_only(policy: ClaimPolicy) -> ClaimPolicy:
    return replace(policy, x5chain=policy.x5chain[:1])


_OWN = identity(SigningAlgorithm.ES256).chain.ders
_OTHER = certified(new_key(SigningAlgorithm.ES256), SigningAlgorithm.ES256).chain.ders

ENVELOPE_CASES = (
    Case("size", "one byte over 64 KiB", lambda _: bytes(SIZE_LIMIT + 1)),
    Case("size", "a real claim with 64 KiB behind it", lambda captured: captured.sig_structure + bytes(SIZE_LIMIT)),
    Case("sig-structure-shape", "a number", lambda _: b"\x00"),
    Case("sig-structure-shape", "a plain text to be signed", lambda _: cbor2.dumps("I owe you 1,000 EUR")),
    Case("sig-structure-shape", "three parts", lambda _: _outer("Signature1", b"", b"")),
    Case("sig-structure-shape", "five parts, as for COSE_Sign", lambda _: _outer("Signature", b"", b"", b"", b"")),
    Case("sig-structure-shape", "a claim that is not wrapped", lambda _: _outer("Signature1", b"", b"", {})),
    Case("sig-structure-shape", "a context of bytes", lambda _: _outer(b"Signature1", b"", b"", b"")),
    Case("context", "a counter signature", _set(context="CounterSignature")),
    Case("context", "no context", _set(context="")),
    Case("external-aad", "something besides the claim", _set(external_aad=b"x")),
    Case("protected-header-keys", "an array", _set(header=[1, 33])),
    Case("protected-header-keys", "no x5chain", header(lambda fields: fields.pop(_X5CHAIN))),
    Case("protected-header-keys", "no alg", header(lambda fields: fields.pop(_ALG))),
    Case("protected-header-keys", "a third header", header(lambda fields: fields.update({4: b"kid"}))),
    Case("protected-header-keys", "a map as key", header_bytes(lambda _: b"\xa1\xa1\x01\x81\x01\x00")),
    Case("protected-header-keys", "true, which is 1 in Python", _set(header={True: -7, 33: list(_OWN)})),
    Case("protected-header-keys", "1.0, which is 1 too", _set(header={1.0: -7, 33: list(_OWN)})),
    Case("protected-header-types", "alg as a text", header(lambda fields: fields.update({_ALG: "ES256"}))),
    Case("protected-header-types", "alg as a float", header(lambda fields: fields.update({_ALG: -7.0}))),
    Case("protected-header-types", "an empty chain", _with_chain()),
    Case("protected-header-types", "one certificate as an array", _with_chain(_OWN[0]), _leaf_only),
    Case(
        "protected-header-types", "a certificate as PEM", header(lambda fields: fields.update({_X5CHAIN: "-----BEGIN"}))
    ),
    Case("protected-header-types", "a number in the chain", header(lambda fields: fields[_X5CHAIN].append(0))),
    Case("x5chain", "another key's", _with_chain(*_OTHER), reason=Reason.CertificateChanged),
    Case(
        "x5chain",
        "the leaf alone",
        header(lambda fields: fields.update({33: _OWN[0]})),
        reason=Reason.CertificateChanged,
    ),
    Case("x5chain", "the chain upside down", _with_chain(*reversed(_OWN)), reason=Reason.CertificateChanged),
    Case("x5chain", "a certificate more", _with_chain(*_OWN, _OTHER[0]), reason=Reason.CertificateChanged),
    Case(
        "x5chain",
        "one bit of the leaf",
        header_bytes(lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:]),
        reason=Reason.CertificateChanged,
    ),
    Case(
        "x5chain",
        "a claim made before the key's certificate was replaced, by one of another algorithm",
        lambda _: created_claim(SigningAlgorithm.PS256).sig_structure,
        reason=Reason.CertificateChanged,
    ),
    Case("algorithm", "ES384 for a P-256 key", header(lambda fields: fields.update({_ALG: -35}))),
    Case("algorithm", "ES256K", header(lambda fields: fields.update({_ALG: -47}))),
    Case("algorithm", "one that does not exist", header(lambda fields: fields.update({_ALG: 2**63}))),
)
