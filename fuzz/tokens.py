"""The authenticator: refuses by name, is never slow, and accepts only what the issuer signed and what says enough.

The issuer's keys are derived from numbers that stand here, so that what was found can be replayed.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from byok_api.errors import Reason, Refusal
from byok_signer.authentication import TOKEN_SIZE_LIMIT, Caller, JwtAuthenticator
from byok_signer.jwks import IssuerKey, KeySet, parse_jwks
from fuzz.target import Target, bounded, demand, seconds_of
from fuzz.values import changed

_ISSUER, _AUDIENCE = "https://issuer.example", "byok-signer"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SECONDS = int(_NOW.timestamp())
_TIMES = 50
_REASONS = {Reason.TokenMissing, Reason.TokenInvalid, Reason.TokenExpired}
_EDWARDS = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_CURVE = ec.derive_private_key(2**200 + 5, ec.SECP256R1())
_STRANGER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
_KUBERNETES = "kubernetes.io"

_HEADERS = ({"alg": "EdDSA", "kid": "edwards"}, {"alg": "ES256", "kid": "curve"})
_PAYLOAD = {
    "aud": [_AUDIENCE],
    "exp": _SECONDS + 3600,
    "iat": _SECONDS,
    "iss": _ISSUER,
    _KUBERNETES: {
        "namespace": "media",
        "pod": {"name": "job-1", "uid": "22222222-2222-4222-8222-222222222222"},
        "serviceaccount": {"name": "job", "uid": "11111111-1111-4111-8111-111111111111"},
    },
    "nbf": _SECONDS,
    "sub": "system:serviceaccount:media:job",
}


@cache
def key_set() -> KeySet:
    """Publish the issuer's keys, and an RSA key from RFC 7515, appendix A.2."""
    point = _CURVE.public_key().public_numbers()
    modulus = (
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCg"
        "NMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665"
        "xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuX"
        "poQ"
    )
    keys = [
        {"kty": "OKP", "crv": "Ed25519", "kid": "edwards", "x": _text(_raw(_EDWARDS))},
        {
            "kty": "EC",
            "crv": "P-256",
            "kid": "curve",
            "x": _text(point.x.to_bytes(32)),
            "y": _text(point.y.to_bytes(32)),
        },
        {"kty": "RSA", "kid": "rsa", "n": modulus, "e": "AQAB"},
    ]
    return parse_jwks(json.dumps({"keys": keys}).encode())


class _Keys:
    async def find(self, key_id: str) -> IssuerKey | None:
        return key_set().get(key_id)

    async def close(self) -> None:
        pass


def try_input(data: bytes) -> None:
    """Present a token twice to one authenticator, as a caller that tries again does."""
    token = data.decode("latin-1")
    authenticator = _authenticator()
    first = bounded(lambda: _outcome(token, _authenticator()), typical=typical(), times=_TIMES)
    for _ in range(2):
        demand(str(_outcome(token, authenticator)) == str(first))
    if isinstance(first, Caller):
        check_again(token, first)
    else:
        demand(first.message.isprintable())
        demand(not any(part in first.message for part in token.split(".") if len(part) > 20))  # noqa: PLR2004 - no word is


@cache
def typical() -> float:
    """Measure what a genuine token takes, in seconds."""
    return seconds_of(lambda: _outcome(signed(_HEADERS[0], _PAYLOAD), _authenticator()))


def _authenticator() -> JwtAuthenticator:
    return JwtAuthenticator(issuer=_ISSUER, audience=_AUDIENCE, keys=_Keys(), clock=lambda: _NOW)


def _outcome(token: str, authenticator: JwtAuthenticator) -> Caller | Refusal:
    try:
        return _finished(authenticator.authenticate(token))
    except Refusal as refusal:
        demand(refusal.reason in _REASONS)
        return refusal


def _finished(coroutine: Coroutine[Any, Any, Caller]) -> Caller:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        caller: Caller = stop.value
        return caller
    raise AssertionError("the authenticator waits")


def check_again(token: str, caller: Caller) -> None:
    """Read an accepted token once more, with no code of the authenticator."""
    demand(len(token) <= TOKEN_SIZE_LIMIT)
    header, payload, signature = token.split(".")
    said = json.loads(_bytes(header))
    demand((said["alg"], said["kid"]) in {(one["alg"], one["kid"]) for one in _HEADERS})
    demand("crit" not in said)
    demand(_is_signed(said["alg"], f"{header}.{payload}".encode(), _bytes(signature)))
    claims = json.loads(_bytes(payload))
    demand(claims["iss"] == _ISSUER)
    demand(claims["aud"] == _AUDIENCE or (isinstance(claims["aud"], list) and _AUDIENCE in claims["aud"]))
    demand(_SECONDS < claims["exp"] == caller.expires_at.timestamp())
    demand(all((claims.get(name) or 0) <= _SECONDS + 30 for name in ("nbf", "iat")))
    bound = claims[_KUBERNETES]
    demand(caller.username == claims["sub"] == f"system:serviceaccount:{caller.namespace}:{caller.service_account}")
    demand((bound["namespace"], bound["serviceaccount"]["name"]) == (caller.namespace, caller.service_account))
    demand(bound["serviceaccount"]["uid"] == caller.uid)
    demand(
        caller.pod is None if "pod" not in bound else (caller.pod is not None and caller.pod.uid == bound["pod"]["uid"])
    )


def _is_signed(algorithm: str, signed_bytes: bytes, signature: bytes) -> bool:
    try:
        if algorithm == "EdDSA":
            _EDWARDS.public_key().verify(signature, signed_bytes)
        else:
            r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            der = encode_dss_signature(r, s)
            _CURVE.public_key().verify(der, signed_bytes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def signed(header: Any, payload: Any) -> str:  # noqa: ANN401 - any JSON
    """Mint a token with the key that its header names, or with an attacker's."""
    unsigned = f"{_text(json.dumps(header).encode())}.{_text(json.dumps(payload).encode())}"
    algorithm = header.get("alg") if isinstance(header, dict) else None
    if algorithm == "ES256":
        der = _CURVE.sign(unsigned.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        signature = r.to_bytes(32) + s.to_bytes(32)
    elif algorithm == "HS256":
        pem = _CURVE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signature = hmac.digest(pem, unsigned.encode(), "sha256")
    else:
        key = _EDWARDS if algorithm == "EdDSA" else _STRANGER
        signature = key.sign(unsigned.encode())
    return f"{unsigned}.{_text(signature)}"


def mutate(data: bytes, random: Random) -> bytes:
    """Change what a token says, and have the issuer sign that, or somebody else."""
    parts = data.decode("latin-1").split(".")
    header, payload = _said(parts[0]), _said(parts[1] if len(parts) > 1 else "")
    if random.random() < 0.3:  # noqa: PLR2004 - about one in three
        header = changed(header if header is not None else _HEADERS[0], random, binary=False)
    if random.random() < 0.8:  # noqa: PLR2004 - most
        payload = changed(payload if payload is not None else _PAYLOAD, random, binary=False)
    token = signed(header, payload)
    if random.random() < 0.1:  # noqa: PLR2004 - one in ten
        token = f"{token.rpartition('.')[0]}.{parts[-1]}"
    return token.encode("latin-1", errors="replace")


def _said(part: str) -> Any:  # noqa: ANN401 - any JSON
    with suppress(ValueError, RecursionError):
        return json.loads(_bytes(part))
    return None


def seeds() -> Iterator[bytes]:
    """Begin with genuine tokens, and the classical forgeries."""
    genuine = signed(_HEADERS[0], _PAYLOAD)
    unsigned = genuine.rpartition(".")[0]
    headers = (
        *_HEADERS,
        {"alg": "none", "kid": "edwards"},
        {"alg": "HS256", "kid": "curve"},
        {"alg": "ES256", "kid": "edwards"},
        {"alg": "RS256", "kid": "rsa"},
        {"alg": "EdDSA", "kid": "edwards", "crit": ["b64"], "b64": False},
        {"alg": "EdDSA", "kid": "../edwards", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": _text(_raw(_STRANGER))}},
        {"alg": ["EdDSA"], "kid": ["edwards"]},
    )
    for header in headers:
        yield signed(header, _PAYLOAD).encode()
    yield signed(_HEADERS[0], {**_PAYLOAD, "exp": 1e400, "nbf": "x"}).encode()
    yield signed(_HEADERS[0], {**_PAYLOAD, "aud": _AUDIENCE, "exp": 10**400}).encode()
    yield from (b"", b".", b"..", f"{unsigned}.".encode(), f"{genuine}=".encode(), f"{genuine}.x".encode())
    yield f"{_text(b'[' * 5000)}.{_text(b'[' * 5000)}.".encode()
    yield f"{_text(json.dumps(_HEADERS[0]).encode('utf-16'))}.{unsigned.partition('.')[2]}.AA".encode()


def _raw(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""


TARGET = Target("tokens", try_input, seeds, mutate, TOKEN_SIZE_LIMIT + 16)
