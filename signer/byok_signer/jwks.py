"""The public keys of the issuer of the callers' tokens: a JWK set (RFC 7517) from a file, a URL or the cluster."""

import asyncio
import json
import logging
import math
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from yarl import URL

from byok_api.errors import Reason, Refusal
from byok_service.kubernetes import KubernetesApi, KubernetesError
from byok_service.proxies import DIRECT, Proxies
from byok_service.settings import SettingsError

SET_SIZE_LIMIT = 256 * 1024
"""Bytes of a JWK set; the API server's has some 400 for each key."""
SET_LENGTH_LIMIT = 64
KEY_ID_LIMIT = 256
"""Characters of a `kid`."""
REFETCH_SECONDS = 10.0
"""Unknown key ids, which anyone can make up, cause at most one fetch in this time."""
REFRESH_SECONDS = 300.0
"""A fetched set is fetched again after this time, so that a withdrawn key is forgotten."""
STALE_SECONDS = 3600.0
"""A fetched set that could not be refreshed for this time is no longer used."""

_FETCH_TIMEOUT = 5.0
_RETRY_SECONDS = 2.0
_RSA_MINIMUM = 2048
_CLUSTER_KEYS = "/openid/v1/jwks"
_CLUSTER_DISCOVERY = "/.well-known/openid-configuration"
_ISSUER_LIMIT = 1024
_LOG = logging.getLogger(__name__)

VerificationKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS = (*_RSA_ALGORITHMS, *_CURVE_ALGORITHMS.values(), "EdDSA")
"""Signature algorithms that are taken (RFC 7518, RFC 8037): asymmetric ones."""


@dataclass(frozen=True)
class IssuerKey:
    """A public key, and the algorithms that it may verify."""

    key: VerificationKey
    algorithms: tuple[str, ...]


KeySet = Mapping[str, IssuerKey]
"""By key id."""


class JwksError(Exception):
    """A JWK set is unreadable; str() says why, without its contents."""


class _FetchError(Exception):
    """A JWK set could not be fetched; str() says why."""


class IssuerKeys(Protocol):
    """Where an issuer's keys come from."""

    async def find(self, key_id: str) -> IssuerKey | None:
        """Look a key up; None if the issuer has no such key; Refusal IssuerUnavailable if its keys cannot be read."""

    async def close(self) -> None:
        """Let go of connections."""


class FileKeys:
    """A JWK set in a file, read now and again whenever the file changes; SettingsError if it cannot be read now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._keys: KeySet = MappingProxyType({})
        try:
            self._read()
        except (OSError, JwksError) as error:
            raise SettingsError(f"--token-jwks-file {path}: {_cause(error)}") from None

    async def find(self, key_id: str) -> IssuerKey | None:
        """Look a key up in the file as it is now."""
        try:
            if _identity(self._path.stat()) != self._seen:
                self._read()
        except (OSError, JwksError) as error:
            # Forgotten, so that keys which the issuer withdraws with a file that is broken are withdrawn.
            self._seen = None
            raise _unavailable(f"{self._path}: {_cause(error)}", retry_after=_RETRY_SECONDS) from error
        return self._keys.get(key_id)

    async def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _read(self) -> None:
        with self._path.open("rb") as file:
            seen = _identity(os.fstat(file.fileno()))
            self._keys = parse_jwks(file.read(SET_SIZE_LIMIT + 1))
        self._seen = seen


class _FetchedKeys(ABC):
    """A JWK set that is fetched when first needed, every five minutes, and for an unknown key id."""

    def __init__(self, source: str, *, stale_seconds: float, clock: Callable[[], float]) -> None:
        self._source = source
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._fetching: asyncio.Task[None] | None = None
        self._keys: KeySet = MappingProxyType({})
        self._fetched: float | None = None
        self._tried: float | None = None
        self._failure = ""

    async def find(self, key_id: str) -> IssuerKey | None:
        """Look a key up in a set that is not stale."""
        if self._is_due(key_id):
            self._tried = self._clock()
            # A task of its own: it serves every caller who waits, so the first one's deadline must not end it.
            self._fetching = asyncio.create_task(self._fetch())
        if self._fetching is not None and not self._has(key_id):
            await asyncio.shield(self._fetching)
        if not self._is_usable():
            raise _unavailable(f"{self._source}: {self._failure}", retry_after=_RETRY_SECONDS)
        return self._keys.get(key_id)

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    @abstractmethod
    async def _download(self) -> bytes:
        """Fetch the set; _FetchError, JwksError."""

    def _has(self, key_id: str) -> bool:
        return self._is_usable() and key_id in self._keys

    def _is_usable(self) -> bool:
        return self._fetched is not None and self._age(self._fetched) <= self._stale_seconds

    def _is_due(self, key_id: str) -> bool:
        wanted = key_id not in self._keys or self._age(self._fetched) > REFRESH_SECONDS
        return wanted and self._age(self._tried) >= (REFETCH_SECONDS if self._is_usable() else _RETRY_SECONDS)

    def _age(self, moment: float | None) -> float:
        return math.inf if moment is None else self._clock() - moment

    async def _fetch(self) -> None:
        try:
            self._keys = parse_jwks(await self._download())
        except (_FetchError, JwksError) as error:
            self._failure = str(error)
            _LOG.warning("the token issuer's keys could not be fetched", extra={"cause": self._failure})
        else:
            self._fetched = self._clock()


class UrlKeys(_FetchedKeys):
    """A JWK set at a URL; one that could not be fetched again for an hour is not used.

    `clock` gives seconds that never go back. Must be used from one event loop.
    """

    def __init__(
        self, url: str, *, ca_file: Path | None, clock: Callable[[], float], proxies: Proxies = DIRECT
    ) -> None:
        super().__init__(url, stale_seconds=STALE_SECONDS, clock=clock)
        self._url = url
        proxy = proxies.of(URL(url))
        self._proxy = None if proxy is None else proxy.url
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give up a fetch that is under way, and close the connections."""
        await super().close()
        if self._session is not None:
            await self._session.close()

    async def _download(self) -> bytes:
        try:
            return await self._read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _FetchError(type(error).__name__) from error

    async def _read(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_FETCH_TIMEOUT),
            )
        async with self._session.get(self._url, proxy=self._proxy, allow_redirects=False) as answer:
            if answer.status != 200:  # noqa: PLR2004 - HTTP's OK
                raise JwksError(f"answered with status {answer.status}")
            body = bytearray()
            async for part in answer.content.iter_chunked(16 * 1024):
                body += part
                if len(body) > SET_SIZE_LIMIT:
                    break
            return bytes(body)


class ClusterKeys(_FetchedKeys):
    """The keys of the cluster that the signer runs in, read with its own credentials.

    They are kept however long the API server is away: who may sign meanwhile is bounded by what it said of the caller.
    """

    def __init__(self, api: KubernetesApi, *, clock: Callable[[], float]) -> None:
        super().__init__("the API server", stale_seconds=math.inf, clock=clock)
        self._api = api

    async def _download(self) -> bytes:
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT):
                return await self._api.get_raw(_CLUSTER_KEYS)
        except KubernetesError as error:
            raise _FetchError(str(error)) from error
        except TimeoutError:
            raise _FetchError("it did not answer in time") from None


async def cluster_issuer(api: KubernetesApi) -> str:
    """Ask a cluster for its issuer (Kubernetes, "ServiceAccount issuer discovery").

    JwksError for what is no discovery document; ApiError, ApiUnavailable.
    """
    try:
        document = json.loads(await api.get_raw(_CLUSTER_DISCOVERY))
    except (ValueError, RecursionError):
        document = None
    issuer = document.get("issuer") if isinstance(document, dict) else None
    if not isinstance(issuer, str) or not 0 < len(issuer) <= _ISSUER_LIMIT:
        raise JwksError(f"the API server names no issuer at {_CLUSTER_DISCOVERY}")
    return issuer


def parse_jwks(data: bytes) -> KeySet:
    """Read the keys that can verify tokens, skipping all others; JwksError if that leaves none."""
    if len(data) > SET_SIZE_LIMIT:
        raise JwksError(f"the JWK set has over {SET_SIZE_LIMIT} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise JwksError("not JSON") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > SET_LENGTH_LIMIT:
        raise JwksError(f"not a JWK set: an object with at most {SET_LENGTH_LIMIT} keys")
    keys: dict[str, IssuerKey] = {}
    for entry in entries:
        key_id = entry.get("kid") if isinstance(entry, dict) else None
        key = _parse_key(entry) if isinstance(key_id, str) and 0 < len(key_id) <= KEY_ID_LIMIT else None
        if isinstance(key_id, str) and key is not None:
            # RFC 7517, section 4.5: ids should be distinct; where they are not, the first wins.
            keys.setdefault(key_id, key)
    if not keys:
        raise JwksError("the JWK set has no public key, with a key id, for a signature algorithm that is taken")
    return MappingProxyType(keys)


def _parse_key(entry: dict[str, Any]) -> IssuerKey | None:
    if entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict(entry).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    possible = _algorithms_of(key)
    named = entry.get("alg")
    algorithms = possible if named is None else tuple(algorithm for algorithm in possible if algorithm == named)
    return IssuerKey(key, algorithms) if algorithms else None


def _algorithms_of(key: object) -> tuple[str, ...]:
    match key:
        case rsa.RSAPublicKey() if key.key_size >= _RSA_MINIMUM:
            return _RSA_ALGORITHMS
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVE_ALGORITHMS:
            return (_CURVE_ALGORITHMS[key.curve.name],)
        case ed25519.Ed25519PublicKey():
            return ("EdDSA",)
        case _:
            # Private keys too: what publishes those is no set of public keys.
            return ()


def _cause(error: OSError | JwksError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _unavailable(detail: str, *, retry_after: float) -> Refusal:
    return Refusal(
        Reason.IssuerUnavailable,
        f"the token issuer's keys cannot be read from {detail}",
        retry_after=retry_after,
    )
