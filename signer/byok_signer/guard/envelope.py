"""Checks of what surrounds the claim: the message, the COSE Sig_structure and its protected header.

RFC 9052, section 4.4: `["Signature1", protected: bstr, external_aad: bstr, payload: bstr]`. C2PA 2.1, section 13.2: the
payload is the claim, external_aad is empty, alg (1) and x5chain (33, RFC 9360) are protected.
"""

from typing import NamedTuple, cast

from byok_api.errors import Reason
from byok_signer.guard.checks import Check, Finding, shown
from byok_signer.guard.policy import ClaimPolicy

SIZE_LIMIT = 64 * 1024
"""Bytes of a Sig_structure."""

_ALG, _X5CHAIN = 1, 33
_CONTEXT = "Signature1"


class Envelope(NamedTuple):
    """A Sig_structure."""

    context: str
    protected: bytes
    external_aad: bytes
    claim: bytes


class Header(NamedTuple):
    """A protected header."""

    algorithm: int
    x5chain: bytes | list[bytes]


def envelope_of(item: object) -> Envelope:
    """Take an item that `ENVELOPE_SHAPE` has passed."""
    return Envelope(*cast("tuple[str, bytes, bytes, bytes]", item))


def header_of(item: object) -> Header:
    """Take an item that `HEADER_SHAPE` has passed."""
    fields = cast("dict[int, object]", item)
    return Header(cast("int", fields[_ALG]), cast("bytes | list[bytes]", fields[_X5CHAIN]))


def claim_in(message: bytes, policy: ClaimPolicy) -> bytes | None:
    """Take the claim out of a Sig_structure that has nothing else in it but what all of these checks are about.

    None for any other: whether that passes, they say.
    """
    start = len(policy.envelope)
    if not message.startswith(policy.envelope):
        return None
    head, claim = message[start : start + 3], message[start + 3 :]
    # RFC 8949, section 3: a byte string of 256 to 65,535 bytes; what is shorter is no claim.
    if head[:1] != b"\x59" or len(claim) != int.from_bytes(head[1:]) or len(claim) < 256:  # noqa: PLR2004 - as just said
        return None
    return claim


def _size(message: bytes, _: ClaimPolicy) -> Finding | None:
    if len(message) <= SIZE_LIMIT:
        return None
    return Finding(f"{len(message)} bytes", f"at most {SIZE_LIMIT} bytes")


def _shape(item: object, _: ClaimPolicy) -> Finding | None:
    if isinstance(item, list) and [type(part) for part in item] == [str, bytes, bytes, bytes]:
        return None
    return Finding(shown(item), "a Sig_structure: an array of one text and three byte strings (RFC 9052, 4.4)")


def _context(envelope: Envelope, _: ClaimPolicy) -> Finding | None:
    return None if envelope.context == _CONTEXT else Finding(shown(envelope.context), shown(_CONTEXT))


def _external_aad(envelope: Envelope, _: ClaimPolicy) -> Finding | None:
    return Finding(shown(envelope.external_aad), "an empty external_aad") if envelope.external_aad else None


def _header_keys(item: object, _: ClaimPolicy) -> Finding | None:
    # In Python 1 == True == 1.0: the types count too.
    if isinstance(item, dict) and item.keys() == {_ALG, _X5CHAIN} and all(type(key) is int for key in item):
        return None
    return Finding(shown(item), "a map of exactly the headers 1 (alg) and 33 (x5chain)")


def _header_types(item: object, _: ClaimPolicy) -> Finding | None:
    fields = cast("dict[int, object]", item)
    algorithm, chain = fields[_ALG], fields[_X5CHAIN]
    if type(algorithm) is not int:
        return Finding(f"alg is {shown(algorithm)}", "alg as a COSE algorithm number")
    if isinstance(chain, bytes):
        return None
    # RFC 9360, section 2: one certificate is a byte string, several are an array.
    if isinstance(chain, list) and len(chain) > 1 and all(isinstance(one, bytes) for one in chain):
        return None
    return Finding(f"x5chain is {shown(chain)}", "x5chain as one byte string, or an array of several")


def _x5chain(header: Header, policy: ClaimPolicy) -> Finding | None:
    chain = (header.x5chain,) if isinstance(header.x5chain, bytes) else tuple(header.x5chain)
    if chain == policy.x5chain:
        return None
    return Finding(f"another chain, of {len(chain)}", f"the {len(policy.x5chain)} certificates registered for the key")


def _algorithm(header: Header, policy: ClaimPolicy) -> Finding | None:
    cose = policy.algorithm.facts.cose
    if header.algorithm == cose:
        return None
    return Finding(f"COSE algorithm {header.algorithm}", f"{cose} ({policy.algorithm}), the key's")


MESSAGE_CHECKS = (Check[bytes]("size", _size),)
ENVELOPE_SHAPE = (Check[object]("sig-structure-shape", _shape),)
ENVELOPE_CHECKS = (
    Check[Envelope]("context", _context),
    Check[Envelope]("external-aad", _external_aad),
)
HEADER_SHAPE = (
    Check[object]("protected-header-keys", _header_keys),
    Check[object]("protected-header-types", _header_types),
)
HEADER_CHECKS = (
    # The chain first: who has a new key's certificate to fetch may have its new algorithm to fetch with it.
    Check[Header]("x5chain", _x5chain, Reason.CertificateChanged),
    Check[Header]("algorithm", _algorithm),
)
