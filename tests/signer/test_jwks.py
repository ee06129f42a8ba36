"""An issuer's keys from a file and from a real HTTPS server, and JWK sets that are none."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from yarl import URL

from byok_api.errors import Reason, Refusal
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import Issuer
from byok_service.proxies import DIRECT, Proxies, Proxy
from byok_signer import jwks
from byok_signer.jwks import FileKeys, JwksError, UrlKeys, parse_jwks
from tests.support.connect_proxy import connect_proxy
from tests.support.pki import NOW

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
Jwk = dict[str, Any]


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def _rsa(bits: int = 2048) -> Jwk:
    return RSAAlgorithm.to_jwk(_rsa_key(bits).public_key(), as_dict=True)


def _ec(curve: ec.EllipticCurve) -> Jwk:
    return ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True)


def _ed25519() -> Jwk:
    return OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)


def _private() -> Jwk:
    return ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)


GOOD_KEY = {**_ec(ec.SECP256R1()), "kid": "good"}


def _set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


TAKEN: dict[str, tuple[Callable[[], Jwk], tuple[str, ...]]] = {
    "RSA": (_rsa, RSA_ALGORITHMS),
    "RSA for one algorithm": (lambda: {**_rsa(), "alg": "PS384"}, ("PS384",)),
    "P-256": (lambda: _ec(ec.SECP256R1()), ("ES256",)),
    "P-384": (lambda: _ec(ec.SECP384R1()), ("ES384",)),
    "P-521": (lambda: _ec(ec.SECP521R1()), ("ES512",)),
    "Ed25519": (_ed25519, ("EdDSA",)),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_public_key_verifies_its_own_algorithms_only(case: str) -> None:
    make, algorithms = TAKEN[case]
    assert parse_jwks(_set({**make(), "kid": "k", "use": "sig"}))["k"].algorithms == algorithms


SKIPPED: dict[str, Callable[[], object]] = {
    "shared secret": lambda: {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
    "private key": _private,
    "for encryption": lambda: {**_rsa(), "use": "enc"},
    "short RSA": lambda: _rsa(1024),
    "secp256k1": lambda: _ec(ec.SECP256K1()),
    "algorithm of another key type": lambda: {**_rsa(), "alg": "ES256"},
    "shared-secret algorithm": lambda: {**_rsa(), "alg": "HS256"},
    "point off the curve": lambda: {**_ec(ec.SECP256R1()), "x": "AAAA"},
    "no coordinates": lambda: {"kty": "EC", "crv": "P-256"},
    "modulus a number": lambda: {"kty": "RSA", "n": 5, "e": "AQAB"},
    "unknown type": lambda: {"kty": "AKP", "alg": "ML-DSA-44"},
    "type a list": lambda: {"kty": ["RSA"]},
    "empty": dict,
}


@pytest.mark.parametrize("case", SKIPPED)
def test_a_key_that_cannot_verify_tokens_is_skipped(case: str) -> None:
    made = SKIPPED[case]()
    entry = {**made, "kid": "bad"} if isinstance(made, dict) else made
    assert set(parse_jwks(_set(entry, GOOD_KEY))) == {"good"}


@pytest.mark.parametrize("key_id", [None, 7, "", "k" * (jwks.KEY_ID_LIMIT + 1), ["good"]])
def test_a_key_without_usable_id_is_skipped(key_id: object) -> None:
    assert set(parse_jwks(_set({**_ec(ec.SECP256R1()), "kid": key_id}, "text", GOOD_KEY))) == {"good"}


def test_the_first_of_two_keys_with_one_id_counts() -> None:
    first = parse_jwks(_set(GOOD_KEY))["good"]
    assert parse_jwks(_set(GOOD_KEY, {**_ed25519(), "kid": "good"}))["good"].algorithms == first.algorithms


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"keys": {}}',
        b'{"keys": []}',
        _set({"kty": "oct", "kid": "k", "k": "AAAA"}),
        _set(*[GOOD_KEY] * (jwks.SET_LENGTH_LIMIT + 1)),
        _set(GOOD_KEY) + b" " * jwks.SET_SIZE_LIMIT,
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(data: bytes) -> None:
    with pytest.raises(JwksError):
        parse_jwks(data)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    issuer, path = Issuer(), tmp_path / "jwks.json"
    issuer.write_jwks(path)
    keys = FileKeys(path)
    (before,) = parse_jwks(path.read_bytes())
    assert await keys.find(before) is not None
    issuer.rotate()
    issuer.withdraw()
    issuer.write_jwks(path)
    (after,) = parse_jwks(path.read_bytes())
    assert await keys.find(after) is not None
    assert await keys.find(before) is None


@pytest.mark.parametrize("content", [None, b"", b"{}", b"x" * (jwks.SET_SIZE_LIMIT + 1)])
async def test_a_file_that_goes_bad_withdraws_its_keys(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(_set(GOOD_KEY))
    keys = FileKeys(path)
    assert await keys.find("good") is not None
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refusal, match="jwks") as caught:
        await keys.find("good")
    assert caught.value.reason is Reason.IssuerUnavailable
    path.write_bytes(_set(GOOD_KEY))
    assert await keys.find("good") is not None


@dataclass
class Server:
    """A real HTTPS server of a JWK set, and the clock of who asks it."""

    issuer: Issuer
    url: str = ""
    ca_file: Path = Path()
    status: int = 200
    fetches: int = 0
    now: float = 1000.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    open_gate: asyncio.Event | None = None

    async def answer(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        self.asked.set()
        if self.open_gate is not None:
            await self.open_gate.wait()
        headers = {"Location": self.url} if self.status == 302 else {}
        return web.Response(status=self.status, body=self.issuer.jwks(), headers=headers)

    def keys(self, ca_file: Path | None = None, proxies: Proxies = DIRECT) -> UrlKeys:
        return UrlKeys(self.url, ca_file=ca_file or self.ca_file, clock=lambda: self.now, proxies=proxies)

    @property
    def key_id(self) -> str:
        return list(parse_jwks(self.issuer.jwks()))[-1]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    authority = TlsAuthority.create(now=NOW)
    certificate = authority.issue(now=NOW, names=["localhost", "localhost.example"])
    (tmp_path / "ca.pem").write_text(authority.trust_anchor_pem)
    (tmp_path / "tls.pem").write_text(certificate.certificate_pem + certificate.key_pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "tls.pem")
    served = Server(Issuer(), ca_file=tmp_path / "ca.pem")
    app = web.Application()
    app.router.add_get("/openid/v1/jwks", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    served.url = f"https://localhost:{runner.addresses[0][1]}/openid/v1/jwks"
    try:
        yield served
    finally:
        await runner.cleanup()


@pytest.fixture
async def keys(server: Server) -> AsyncIterator[UrlKeys]:
    opened = server.keys()
    try:
        yield opened
    finally:
        await opened.close()


async def test_a_url_is_fetched_once_for_known_keys(server: Server, keys: UrlKeys) -> None:
    for _ in range(3):
        assert await keys.find(server.key_id) is not None
    assert server.fetches == 1


async def test_a_url_is_fetched_through_the_proxy_unless_it_is_excepted(server: Server) -> None:
    port = URL(server.url).port
    server.url = f"https://localhost.example:{port}/openid/v1/jwks"
    async with connect_proxy() as proxy:
        proxy.places[f"localhost.example:{port}"] = port or 0
        proxy.authorization = "Basic dTpodXNo"
        there = Proxy.parse(f"http://u:hush@localhost:{proxy.port}")
        for no_proxy, fetched in (("", True), (".example", False)):
            keys = server.keys(proxies=Proxies.parse(there, no_proxy))
            if fetched:
                assert await keys.find(server.key_id) is not None
            else:
                with pytest.raises(Refusal):
                    await keys.find(server.key_id)
            await keys.close()
        assert len(proxy.asked) == 1


async def test_unknown_key_ids_cause_one_fetch_in_ten_seconds(server: Server, keys: UrlKeys) -> None:
    await keys.find(server.key_id)
    server.issuer.rotate()
    for number in range(20):
        assert await keys.find(f"made up {number}") is None
    assert await keys.find(server.key_id) is None
    assert server.fetches == 1
    server.now += jwks.REFETCH_SECONDS
    assert await keys.find(server.key_id) is not None
    assert server.fetches == 2


async def test_calls_at_the_same_time_share_one_fetch(server: Server, keys: UrlKeys) -> None:
    found = await asyncio.gather(*(keys.find(server.key_id) for _ in range(10)))
    assert all(found)
    assert server.fetches == 1


async def test_a_caller_who_gives_up_does_not_end_the_fetch_of_others(server: Server, keys: UrlKeys) -> None:
    server.open_gate = asyncio.Event()
    impatient = asyncio.create_task(keys.find(server.key_id))
    patient = asyncio.create_task(keys.find(server.key_id))
    async with asyncio.timeout(5):
        await server.asked.wait()
    impatient.cancel()
    server.open_gate.set()
    assert await patient is not None
    assert server.fetches == 1


async def test_a_withdrawn_key_is_forgotten_after_the_refresh(server: Server, keys: UrlKeys) -> None:
    old = server.key_id
    await keys.find(old)
    server.issuer.rotate()
    server.issuer.withdraw()
    server.now += jwks.REFRESH_SECONDS + 1
    await keys.find(server.key_id)
    assert await keys.find(old) is None


async def test_known_keys_outlive_an_outage_for_an_hour(server: Server, keys: UrlKeys) -> None:
    await keys.find(server.key_id)
    server.status = 503
    server.now += jwks.STALE_SECONDS
    assert await keys.find(server.key_id) is not None
    server.now += jwks.REFETCH_SECONDS + 1
    with pytest.raises(Refusal, match="status 503"):
        await keys.find(server.key_id)
    server.status = 200
    server.now += 2
    assert await keys.find(server.key_id) is not None


@pytest.mark.parametrize("status", [302, 401, 404, 500])
async def test_any_answer_but_ok_is_an_outage(server: Server, keys: UrlKeys, status: int) -> None:
    server.status = status
    with pytest.raises(Refusal, match=f"status {status}") as caught:
        await keys.find(server.key_id)
    assert (caught.value.reason, caught.value.retry_after) == (Reason.IssuerUnavailable, 2.0)
    assert server.fetches == 1


async def test_a_server_of_another_ca_is_not_believed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text(TlsAuthority.create(now=NOW).trust_anchor_pem)
    keys = server.keys(tmp_path / "other.pem")
    with pytest.raises(Refusal, match="ClientConnectorCertificateError"):
        await keys.find(server.key_id)
    await keys.close()
    assert server.fetches == 0


async def test_closing_gives_up_a_fetch_under_way(server: Server) -> None:
    server.open_gate = asyncio.Event()
    keys = server.keys()
    waiting = asyncio.create_task(keys.find(server.key_id))
    async with asyncio.timeout(5):
        await server.asked.wait()
        await keys.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
