"""Attempts with the protected header: who is said to have signed, by which algorithm, and what else is said there."""

from collections.abc import Callable

import cbor2

from byok_api.errors import Reason
from tests.data.hostile.making import Hostile, Material, tried
from tests.signer.guard.cases import header
from tests.support.claims import assembled

_ALG, _CRIT, _CONTENT_TYPE, _KID, _CWT_CLAIMS, _X5BAG, _X5CHAIN, _X5T = 1, 2, 3, 4, 15, 32, 33, 34


def _other_header(change: Callable[[Material], object]) -> Callable[[Material], bytes]:
    """Encode a value in place of the header."""
    return lambda material: assembled(cbor2.dumps(change(material)), material.claim)


def _header_bytes(change: Callable[[bytes], bytes]) -> Callable[[Material], bytes]:
    return lambda material: assembled(change(material.header), material.claim)


def _chain(name: str, attempt: str, arrange: Callable[[Material], list[bytes] | bytes]) -> Hostile:
    return tried(
        name,
        "x5chain",
        attempt,
        lambda material: header(lambda fields: fields.update({_X5CHAIN: arrange(material)}))(material),
        reason=Reason.CertificateChanged,
    )


def _flipped(der: bytes, at: int) -> bytes:
    changed = bytearray(der)
    changed[at] ^= 1
    return bytes(changed)


def _more(name: str, attempt: str, key: object, value: object) -> Hostile:
    """Add a header parameter."""
    return tried(name, "protected-header-keys", attempt, header(lambda fields: fields.update({key: value})))


def _alg(name: str, check: str, attempt: str, value: object) -> Hostile:
    return tried(name, check, attempt, header(lambda fields: fields.update({_ALG: value})))


def _twice(key: int, value: Callable[[Material], object]) -> Callable[[Material], bytes]:
    """Repeat a header parameter with another value."""
    return lambda material: assembled(
        b"\xa3" + material.header[1:] + cbor2.dumps(key) + cbor2.dumps(value(material)), material.claim
    )


CHAINS = (
    _chain("chain-of-an-impostor", "The attacker's own chain: same names, another key.", lambda m: list(m.impostor)),
    _chain(
        "chain-with-an-impostors-leaf",
        "The attacker's leaf under the genuine intermediate's certificate.",
        lambda m: [m.impostor[0], m.chain[1]],
    ),
    _chain(
        "chain-with-an-impostors-issuer",
        "The genuine leaf under the attacker's intermediate of the same name.",
        lambda m: [m.chain[0], m.impostor[1]],
    ),
    _chain(
        "chain-with-a-certificate-more", "A third certificate, the attacker's.", lambda m: [*m.chain, m.impostor[1]]
    ),
    _chain(
        "chain-without-issuer", "The leaf alone, which leaves the issuer to be found elsewhere.", lambda m: m.chain[0]
    ),
    _chain(
        "chain-upside-down",
        "The issuer first: some readers take the first, some the matching one.",
        lambda m: [*m.chain[::-1]],
    ),
    _chain("chain-with-the-leaf-twice", "The leaf once more at the end.", lambda m: [*m.chain, m.chain[0]]),
    _chain("chain-run-together", "Both certificates in one byte string.", lambda m: b"".join(m.chain)),
    _chain("chain-with-an-empty-certificate", "An empty byte string behind the chain.", lambda m: [*m.chain, b""]),
    _chain(
        "chain-with-a-byte-behind-the-leaf",
        "A byte after the leaf's DER, which parsers of certificates ignore.",
        lambda m: [m.chain[0] + b"\0", m.chain[1]],
    ),
    _chain(
        "chain-with-another-signature-on-the-leaf",
        "The genuine leaf with a bit of its signature changed: it names the key, and nobody certified it.",
        lambda m: [_flipped(m.chain[0], -1), m.chain[1]],
    ),
    tried(
        "chain-in-a-chain",
        "protected-header-types",
        "The chain as an array in an array.",
        header(lambda fields: fields.update({_X5CHAIN: [fields[_X5CHAIN]]})),
    ),
    tried(
        "chain-of-one-as-array",
        "protected-header-types",
        "The leaf alone as an array of one, which RFC 9360 does not allow.",
        header(lambda fields: fields.update({_X5CHAIN: fields[_X5CHAIN][:1]})),
    ),
    tried(
        "chain-as-text",
        "protected-header-types",
        "The chain by its address, for a verifier that fetches it.",
        header(lambda fields: fields.update({_X5CHAIN: "https://attacker.example/chain.pem"})),
    ),
    tried(
        "chain-null",
        "protected-header-types",
        "null for the chain, for a verifier that then takes the one outside of what is signed.",
        header(lambda fields: fields.update({_X5CHAIN: None})),
    ),
    tried(
        "chain-under-a-text",
        "protected-header-keys",
        "The genuine chain under the key 'x5chain', as early C2PA wrote it, the attacker's under 33.",
        lambda m: header(lambda fields: fields.update({"x5chain": [*m.chain], _X5CHAIN: [*m.impostor]}))(m),
    ),
    tried(
        "chain-twice",
        "no-duplicate-keys",
        "The genuine chain, and the attacker's under the same key: readers differ on which one counts.",
        _twice(_X5CHAIN, lambda material: list(material.impostor)),
    ),
)

PARAMETERS = (
    _alg("algorithm-of-another-curve", "algorithm", "ES384 for a P-256 key.", -35),
    _alg("algorithm-reserved", "algorithm", "COSE's reserved algorithm 0, a stand-in for none.", 0),
    _alg("algorithm-hmac", "algorithm", "HMAC 256/256: the public key would be the secret.", 5),
    _alg("algorithm-without-hash", "algorithm", "ESP256 (-9), a newer name of the same: to old readers unknown.", -9),
    _alg("algorithm-as-text", "protected-header-types", "The algorithm by its JOSE name.", "ES256"),
    _alg("algorithm-as-float", "protected-header-types", "-7.0, which is equal to -7.", -7.0),
    _alg("algorithm-null", "protected-header-types", "null for the algorithm.", None),
    tried(
        "algorithm-twice",
        "no-duplicate-keys",
        "alg a second time, as none.",
        _twice(_ALG, lambda _: 0),
    ),
    tried(
        "algorithm-with-a-long-head",
        "exact-encoding",
        "-7 in two bytes instead of one.",
        _header_bytes(lambda data: data.replace(b"\x01\x26", b"\x01\x38\x06", 1)),
    ),
    tried(
        "algorithm-under-true",
        "protected-header-keys",
        "The algorithm under the key true, which is 1 in Python.",
        _other_header(lambda material: {True: -7, _X5CHAIN: list(material.chain)}),
    ),
    tried(
        "algorithm-under-a-float",
        "protected-header-keys",
        "The algorithm under the key 1.0.",
        _other_header(lambda material: {1.0: -7, _X5CHAIN: list(material.chain)}),
    ),
    tried(
        "algorithm-unprotected",
        "protected-header-keys",
        "Only the chain is protected; the algorithm would stand where nobody signs it.",
        header(lambda fields: fields.pop(_ALG)),
    ),
    tried(
        "header-empty",
        "protected-header-keys",
        "An empty map: chain and algorithm would stand where nobody signs them.",
        _header_bytes(lambda _: b"\xa0"),
    ),
    tried(
        "header-of-no-bytes",
        "well-formed",
        "The empty byte string, COSE's way to write an empty protected header.",
        _header_bytes(lambda _: b""),
    ),
    tried(
        "header-as-array",
        "protected-header-keys",
        "The header's parts as an array.",
        _other_header(lambda material: [_ALG, -7, _X5CHAIN, list(material.chain)]),
    ),
    tried(
        "header-then-another",
        "no-trailing-bytes",
        "A genuine header, and a second map with another algorithm.",
        _header_bytes(lambda data: data + b"\xa1\x01\x38\x22"),
    ),
    tried(
        "header-of-unknown-length",
        "definite-lengths",
        "The genuine header as a map of indefinite length.",
        _header_bytes(lambda data: b"\xbf" + data[1:] + b"\xff"),
    ),
    tried(
        "header-of-many",
        "item-count",
        "A header of a hundred parameters, to hide one or to cost time.",
        _header_bytes(lambda data: b"\xb8\x66" + data[1:] + b"".join(b"\x18%c\x00" % n for n in range(100, 200))),
    ),
    _more(
        "header-crit", "Says that a parameter must be understood which only the attacker's verifier knows.", _CRIT, [33]
    ),
    _more(
        "header-content-type", "Says that the payload is something else than a claim.", _CONTENT_TYPE, "application/pdf"
    ),
    _more("header-kid", "Names the attacker's key, for verifiers that look keys up by id.", _KID, b"attacker"),
    _more("header-x5t", "Adds the thumbprint of the attacker's certificate.", _X5T, [-16, bytes(32)]),
    _more(
        "header-x5bag", "Adds a bag with no order, for verifiers that search it for a certificate.", _X5BAG, bytes(32)
    ),
    _more("header-time-stamp", "Protects a time stamp of the attacker's choice (sigTst).", "sigTst", {"tstTokens": []}),
    _more("header-cwt-claims", "Adds CWT claims (RFC 9597): a statement on an issuer.", _CWT_CLAIMS, {1: "attacker"}),
)

HEADERS = (*CHAINS, *PARAMETERS)
