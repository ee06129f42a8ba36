"""Who is calling: a ServiceAccount, proven by a projected token, or nobody.

The token's signature is checked against its issuer's keys, and then what a cluster writes into such tokens
(Kubernetes, "Managing Service Accounts", bound service account token). No message carries any of a token's text.
"""

import base64
import binascii
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from math import inf
from typing import Any, Generic, Protocol, TypeVar

import jwt

from byok_api.errors import Reason, Refusal
from byok_api.references import NAME_LIMIT, NAME_PATTERN, NAMESPACE_PATTERN
from byok_signer.jwks import ALGORITHMS, KEY_ID_LIMIT, IssuerKey, IssuerKeys

TOKEN_SIZE_LIMIT = 4 * 1024
"""Characters; a cluster's tokens have about 1,200. PyJWT looks at each."""
SKEW = timedelta(seconds=30)
"""How far the issuer's clock may run ahead of ours; expiry gets no such grace."""
REMEMBERED = timedelta(seconds=60)
"""How long an accepted token is not checked again, and so how long a withdrawn key of the issuer still counts."""
REFUSED = timedelta(seconds=10)
"""How long a refused token is not checked again."""
CACHE_LIMIT = 10_000
"""Tokens remembered, accepted and refused ones each."""

_SUBJECT = re.compile(rf"system:serviceaccount:({NAMESPACE_PATTERN}):({NAME_PATTERN})")
_FIELD_LIMIT = 253
_LAST_SECOND = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_JWS = jwt.PyJWS(algorithms=ALGORITHMS)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Pod:
    """The pod that a token is bound to."""

    name: str
    uid: str


@dataclass(frozen=True)
class Caller:
    """A ServiceAccount that has proven who it is."""

    username: str
    """`system:serviceaccount:<namespace>:<name>`."""
    namespace: str
    service_account: str
    uid: str
    """The ServiceAccount's, which a new one of the same name does not share."""
    pod: Pod | None
    """None where the token is bound to no pod, as TokenRequest can make it."""
    expires_at: datetime
    groups: tuple[str, ...] = ()
    """As the API server has them; none where it was not asked."""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """More that the API server says of the caller, for whoever decides what it may do; sorted."""
    credential: bytes = field(default=b"", repr=False, compare=False)
    """SHA-256 of the token."""
    confirmed_at: float = field(default=inf, compare=False)
    """When the API server was asked about the token, by the monotonic clock; infinity where it was not."""

    @cached_property
    def fingerprint(self) -> bytes:
        """Everything by which rights are decided, hashed."""
        said = [self.username, self.uid, self.groups, self.extra]
        return hashlib.sha256(json.dumps(said).encode()).digest()


class Authenticator(Protocol):
    """Finds out who presents a token."""

    async def authenticate(self, token: str | None) -> Caller:
        """Name the caller.

        Refusal TokenMissing, TokenInvalid, TokenExpired, IssuerUnavailable, ClusterUnavailable or CallerLimited.
        """

    def recall(self, caller: Caller) -> Caller | None:
        """Give what is known of a caller by now, without waiting; None if that is too old, Refusal if it is gone."""


class JwtAuthenticator:
    """Accepts one issuer's ServiceAccount tokens for one audience.

    `clock` gives aware UTC times.
    """

    def __init__(self, *, issuer: str, audience: str, keys: IssuerKeys, clock: Callable[[], datetime]) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._clock = clock
        # Apart, so that a flood of made-up tokens displaces no caller's.
        self._accepted: _Cache[Caller] = _Cache()
        # In words: a Refusal that was raised keeps its traceback, and so the whole call with its token and message.
        self._refused: _Cache[tuple[Reason, str]] = _Cache()

    async def authenticate(self, token: str | None) -> Caller:
        """Check shape, issuer, audience, expiry, subject and then the signature, once a minute for each token."""
        if not token:
            raise Refusal(
                Reason.TokenMissing,
                "the call carries no bearer token; send 'authorization: Bearer <token>' as metadata",
            )
        if len(token) > TOKEN_SIZE_LIMIT:
            raise _invalid(f"it has {len(token)} characters; at most {TOKEN_SIZE_LIMIT} are taken")
        if not token.isascii():
            raise _invalid("it is not a JSON Web Token")
        # The token itself is kept nowhere.
        digest, now = hashlib.sha256(token.encode()).digest(), self._clock()
        if caller := self._accepted.get(digest, now):
            return caller
        if refused := self._refused.get(digest, now):
            raise Refusal(*refused)
        return await self._check(token, digest)

    def recall(self, caller: Caller) -> Caller:
        """Give the caller back: whom a token names does not change."""
        return caller

    async def _check(self, token: str, digest: bytes) -> Caller:
        jws, now = _read_jws(token), self._clock()
        try:
            # First, since it costs a tenth of a signature; the issuer vouches for it only with that.
            caller = self._caller(jws.payload, now, digest)
        except Refusal as refusal:
            self._remembered(digest, refusal, now)
            raise
        key = await self._key_of(jws)
        if not _is_signed(token, jws, key):
            # Not by way of a variable: its frame would hold the refusal that holds the frame.
            raise self._remembered(
                digest, _invalid("its signature is not its issuer's, or of an algorithm that is not taken"), now
            )
        # A token whose time has not come may be good in a moment; so this is not remembered.
        _check_begun(jws.payload, now)
        self._accepted.put(digest, caller, until=min(caller.expires_at, now + REMEMBERED))
        return caller

    def _remembered(self, digest: bytes, refusal: Refusal, now: datetime) -> Refusal:
        self._refused.put(digest, (refusal.reason, refusal.message), until=now + REFUSED)
        return refusal

    async def _key_of(self, jws: "_Jws") -> IssuerKey:
        key_id = jws.header.get("kid")
        if not isinstance(key_id, str) or not 0 < len(key_id) <= KEY_ID_LIMIT:
            raise _invalid("its header names no key (kid)")
        key = await self._keys.find(key_id)
        if key is None:
            # Not remembered: the issuer may have made the key a moment ago.
            raise _invalid("it is signed with a key that its issuer does not have, or has withdrawn")
        return key

    def _caller(self, payload: dict[str, Any], now: datetime, digest: bytes) -> Caller:
        if payload.get("iss") != self._issuer:
            raise _invalid(f"its issuer is not {self._issuer}")
        audience = payload.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise _invalid(f"it is not for audience {self._audience}")
        expires_at = _moment(payload, "exp")
        if expires_at is None:
            raise _invalid("it never expires; only projected tokens, which do, are taken")
        if now >= expires_at:
            raise Refusal(
                Reason.TokenExpired, f"the bearer token expired at {expires_at.isoformat()}; read the token file again"
            )
        return _service_account(payload, expires_at, digest)


_Remembered = TypeVar("_Remembered")


class _Cache(Generic[_Remembered]):
    """What is known of tokens by their SHA-256, each until a moment, the most recently added ones."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, tuple[datetime, _Remembered]] = OrderedDict()

    def get(self, digest: bytes, now: datetime) -> _Remembered | None:
        until, remembered = self._entries.get(digest, (now, None))
        return remembered if now < until else None

    def put(self, digest: bytes, remembered: _Remembered, *, until: datetime) -> None:
        self._entries.pop(digest, None)
        self._entries[digest] = until, remembered
        if len(self._entries) > CACHE_LIMIT:
            self._entries.popitem(last=False)


@dataclass(frozen=True)
class _Jws:
    """A token in parts (RFC 7515, section 7.1), whoever made it."""

    header: dict[str, Any]
    payload: dict[str, Any]
    said: bytes
    """The payload as it stands there."""


def _read_jws(token: str) -> _Jws:
    # Not by PyJWT, which looks at each character in Python: most bad tokens cost next to nothing this way.
    signed, _, _ = token.rpartition(".")
    header, _, payload = signed.partition(".")
    try:
        said = _decoded(payload)
        jws = _Jws(json.loads(_decoded(header)), json.loads(said), said)
    except (ValueError, RecursionError):
        raise _invalid("it is not a JSON Web Token") from None
    if not isinstance(jws.header, dict):
        raise _invalid("it is not a JSON Web Token")
    if not isinstance(jws.payload, dict):
        raise _invalid("its payload is not an object")
    return jws


def _decoded(part: str) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise binascii.Error("not base64url")
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _is_signed(token: str, jws: _Jws, key: IssuerKey) -> bool:
    """Tell if the issuer has signed just what was read; PyJWT reads and decides for itself."""
    if "crit" in jws.header or "b64" in jws.header:
        # RFC 7515, section 4.1.11, and RFC 7797: extensions that say that something else is signed.
        return False
    try:
        return bytes(_JWS.decode(token, key.key, algorithms=key.algorithms)) == jws.said
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False


def _service_account(payload: dict[str, Any], expires_at: datetime, digest: bytes) -> Caller:
    subject = payload.get("sub")
    match = _SUBJECT.fullmatch(subject) if isinstance(subject, str) else None
    if match is None or len(match[2]) > NAME_LIMIT:
        raise _invalid("its subject is not a ServiceAccount")
    namespace, name = match[1], match[2]
    bound = payload.get("kubernetes.io")
    if not isinstance(bound, dict) or bound.get("namespace") != namespace:
        raise _invalid("its kubernetes.io claim is missing, or of another namespace than its subject")
    account, uid = _name_and_uid(bound.get("serviceaccount"), "serviceaccount")
    if account != name:
        raise _invalid("its kubernetes.io claim is of another ServiceAccount than its subject")
    pod = Pod(*_name_and_uid(bound["pod"], "pod")) if "pod" in bound else None
    return Caller(match[0], namespace, name, uid, pod, expires_at, credential=digest)


def _name_and_uid(claim: object, kind: str) -> tuple[str, str]:
    name, uid = (claim.get("name"), claim.get("uid")) if isinstance(claim, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(uid, str):
        raise _invalid(f"its kubernetes.io claim names no {kind} with name and uid")
    if not 0 < len(name) <= _FIELD_LIMIT or not 0 < len(uid) <= _FIELD_LIMIT:
        raise _invalid(f"its kubernetes.io claim names a {kind} with an empty or very long name or uid")
    return name, uid


def _check_begun(payload: dict[str, Any], now: datetime) -> None:
    for claim in ("nbf", "iat"):
        moment = _moment(payload, claim)
        if moment is not None and now + SKEW < moment:
            raise Refusal(
                Reason.TokenExpired,
                f"the bearer token is not valid before {moment.isoformat()}; compare the clocks",
            )


def _moment(payload: dict[str, Any], claim: str) -> datetime | None:
    """Read a NumericDate (RFC 7519, section 2)."""
    seconds = payload.get(claim)
    if seconds is None:
        return None
    # NaN, which Python's JSON has, compares with nothing.
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= _LAST_SECOND:
        raise _invalid(f"its {claim} claim is not a time")
    return datetime.fromtimestamp(seconds, UTC)


def _invalid(what: str) -> Refusal:
    return Refusal(
        Reason.TokenInvalid,
        f"the bearer token is refused: {what}; use a projected ServiceAccount token made for this signer",
    )
