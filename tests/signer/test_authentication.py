"""Tokens of a real issuer, and every way in which one can be wrong."""

import base64
import gc
import hmac
import json
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byok_api.errors import Reason, Refusal
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_signer import authentication
from byok_signer.authentication import Caller, JwtAuthenticator, Pod
from byok_signer.jwks import FileKeys

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT = ServiceAccount("media", "media-job", "11111111-2222-3333-4444-555555555555")
Claims = dict[str, object]


class World:
    """An issuer, a clock that the test turns, and the authenticator between them."""

    def __init__(self, folder: Path) -> None:
        self.issuer = Issuer()
        self.now = NOW
        self.jwks = folder / "jwks.json"
        self.issuer.write_jwks(self.jwks)
        self.authenticator = JwtAuthenticator(
            issuer=self.issuer.name,
            audience="byok-signer",
            keys=FileKeys(self.jwks),
            clock=lambda: self.now,
        )

    def token(self, lifetime: timedelta = timedelta(hours=1)) -> str:
        return self.issuer.mint(ACCOUNT, now=self.now, lifetime=lifetime)

    def claims(self) -> Claims:
        claims: Claims = jwt.decode(self.token(), options={"verify_signature": False})
        return claims

    async def refusal_of(self, token: str | None) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.authenticator.authenticate(token)
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_projected_token_names_its_service_account_and_pod(world: World) -> None:
    caller = await world.authenticator.authenticate(world.token())
    assert caller == Caller(
        username="system:serviceaccount:media:media-job",
        namespace="media",
        service_account="media-job",
        uid=ACCOUNT.uid,
        pod=Pod("media-job-0", caller.pod.uid if caller.pod else ""),
        expires_at=NOW + timedelta(hours=1),
    )


async def test_a_token_that_is_bound_to_no_pod_is_taken(world: World) -> None:
    claims = world.claims()
    claims["kubernetes.io"] = {"namespace": "media", "serviceaccount": {"name": "media-job", "uid": "u"}}
    assert (await world.authenticator.authenticate(world.issuer.sign(claims))).pod is None


def _set(claim: str, value: object) -> Callable[[Claims], Claims]:
    return lambda claims: {**claims, claim: value}


def _drop(claim: str) -> Callable[[Claims], Claims]:
    return lambda claims: {name: value for name, value in claims.items() if name != claim}


def _bound(**parts: object) -> Callable[[Claims], Claims]:
    bound = {"namespace": "media", "serviceaccount": {"name": "media-job", "uid": "u"}}
    return _set("kubernetes.io", {**bound, **parts})


IN_AN_HOUR = int((NOW + timedelta(hours=1)).timestamp())
WRONG_CLAIMS: dict[str, tuple[Callable[[Claims], Claims], Reason, str]] = {
    "foreign issuer": (_set("iss", "https://elsewhere"), Reason.TokenInvalid, "issuer is not"),
    "no issuer": (_drop("iss"), Reason.TokenInvalid, "issuer is not"),
    "other audience": (_set("aud", ["vault"]), Reason.TokenInvalid, "audience byok-signer"),
    "part of the audience": (_set("aud", "byok-signer-2"), Reason.TokenInvalid, "audience byok-signer"),
    "no audience": (_drop("aud"), Reason.TokenInvalid, "audience byok-signer"),
    "audience of objects": (_set("aud", [{"byok-signer": 1}, None]), Reason.TokenInvalid, "audience byok-signer"),
    "no expiry": (_drop("exp"), Reason.TokenInvalid, "never expires"),
    "expiry as text": (_set("exp", str(IN_AN_HOUR)), Reason.TokenInvalid, "exp claim is not a time"),
    "expiry true": (_set("exp", value=True), Reason.TokenInvalid, "exp claim is not a time"),
    "expiry NaN": (_set("exp", float("nan")), Reason.TokenInvalid, "exp claim is not a time"),
    "expiry infinite": (_set("exp", float("inf")), Reason.TokenInvalid, "exp claim is not a time"),
    "expiry beyond all dates": (_set("exp", 10**400), Reason.TokenInvalid, "exp claim is not a time"),
    "expiry now": (_set("exp", int(NOW.timestamp())), Reason.TokenExpired, "expired at 2026-03-01T12:00:00"),
    "expired": (_set("exp", int(NOW.timestamp()) - 1), Reason.TokenExpired, "expired at"),
    "not yet valid": (_set("nbf", IN_AN_HOUR - 1), Reason.TokenExpired, "not valid before"),
    "issued in the future": (_set("iat", IN_AN_HOUR - 1), Reason.TokenExpired, "not valid before"),
    "begin as text": (_set("nbf", "soon"), Reason.TokenInvalid, "nbf claim is not a time"),
    "a user": (_set("sub", "alice"), Reason.TokenInvalid, "not a ServiceAccount"),
    "no subject": (_drop("sub"), Reason.TokenInvalid, "not a ServiceAccount"),
    "a node": (_set("sub", "system:node:worker-1"), Reason.TokenInvalid, "not a ServiceAccount"),
    "subject with a fifth part": (
        _set("sub", "system:serviceaccount:media:media-job:admin"),
        Reason.TokenInvalid,
        "not a ServiceAccount",
    ),
    "subject with a line break": (
        _set("sub", "system:serviceaccount:media:media-job\n"),
        Reason.TokenInvalid,
        "not a ServiceAccount",
    ),
    "no cluster claim": (_drop("kubernetes.io"), Reason.TokenInvalid, "kubernetes.io claim is missing"),
    "cluster claim a list": (_set("kubernetes.io", []), Reason.TokenInvalid, "kubernetes.io claim is missing"),
    "other namespace": (_bound(namespace="bank"), Reason.TokenInvalid, "another namespace"),
    "other account": (
        _bound(serviceaccount={"name": "root", "uid": "u"}),
        Reason.TokenInvalid,
        "another ServiceAccount",
    ),
    "account without uid": (_bound(serviceaccount={"name": "media-job"}), Reason.TokenInvalid, "no serviceaccount"),
    "account with empty uid": (
        _bound(serviceaccount={"name": "media-job", "uid": ""}),
        Reason.TokenInvalid,
        "empty or very long",
    ),
    "pod null": (_bound(pod=None), Reason.TokenInvalid, "no pod"),
    "pod without uid": (_bound(pod={"name": "p"}), Reason.TokenInvalid, "no pod"),
}


@pytest.mark.parametrize("case", WRONG_CLAIMS)
async def test_a_well_signed_token_with_wrong_claims_is_refused(world: World, case: str) -> None:
    change, reason, words = WRONG_CLAIMS[case]
    refusal = await world.refusal_of(world.issuer.sign(change(world.claims())))
    assert refusal.reason is reason
    assert words in refusal.message


@pytest.mark.parametrize("token", [None, ""])
async def test_a_call_without_token_is_told_how_to_send_one(world: World, token: str | None) -> None:
    refusal = await world.refusal_of(token)
    assert refusal.reason is Reason.TokenMissing
    assert "authorization: Bearer" in refusal.message


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _nested(depth: int) -> str:
    return base64.urlsafe_b64encode(b"[" * depth).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "....",
        "ö.ö.ö",
        "\ud800",
        f"{_part([])}.{_part({})}.",
        f"{_part({'alg': 'ES256'})}.{_part({})}.",
        f"{_part({'alg': 'ES256', 'kid': 7})}.{_part({})}.",
        f"{_part({'alg': 'ES256', 'kid': ''})}.{_part({})}.",
        f"{_part({'alg': 'ES256', 'kid': 'k' * 300})}.{_part({})}.",
        f"{_nested(9000)}.{_part({})}.",
        "e" * (authentication.TOKEN_SIZE_LIMIT + 1),
    ],
)
async def test_what_is_no_token_is_refused(world: World, token: str) -> None:
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid


async def test_a_deeply_nested_payload_is_refused(world: World) -> None:
    header = jwt.get_unverified_header(world.token())
    assert (await world.refusal_of(f"{_part(header)}.{_nested(9000)}.AAAA")).reason is Reason.TokenInvalid


async def test_a_signed_payload_that_is_no_object_is_refused(world: World) -> None:
    assert "not an object" in (await world.refusal_of(world.issuer.sign([1]))).message


async def test_a_token_of_another_issuers_key_under_a_known_id_is_refused(world: World) -> None:
    kid = jwt.get_unverified_header(world.token())["kid"]
    forged = jwt.encode(
        world.claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": kid}
    )
    refusal = await world.refusal_of(forged)
    assert refusal.reason is Reason.TokenInvalid
    assert "signature" in refusal.message


async def test_a_token_without_signature_is_refused(world: World) -> None:
    header = {**jwt.get_unverified_header(world.token()), "alg": "none"}
    assert (await world.refusal_of(f"{_part(header)}.{_part(world.claims())}.")).reason is Reason.TokenInvalid


async def test_the_public_key_is_no_shared_secret(world: World) -> None:
    header = {**jwt.get_unverified_header(world.token()), "alg": "HS256"}
    signed = f"{_part(header)}.{_part(world.claims())}"
    seal = base64.urlsafe_b64encode(hmac.digest(world.jwks.read_bytes(), signed.encode(), "sha256")).rstrip(b"=")
    assert "algorithm that is not taken" in (await world.refusal_of(f"{signed}.{seal.decode()}")).message


async def test_changed_claims_are_refused(world: World) -> None:
    header, _, signature = world.token().split(".")
    forged = f"{header}.{_part({**world.claims(), 'exp': IN_AN_HOUR + 1})}.{signature}"
    assert "signature" in (await world.refusal_of(forged)).message


@pytest.mark.parametrize(
    ("header", "taken"), [({}, True), ({"crit": ["b64"], "b64": False}, False), ({"crit": []}, False)]
)
async def test_a_token_that_says_that_something_else_is_signed_is_refused(
    world: World, header: Claims, *, taken: bool
) -> None:
    key, ecdsa = ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    jwk = {**ecdsa.to_jwk(key.public_key(), as_dict=True), "kid": "k"}
    world.jwks.write_text(json.dumps({"keys": [jwk]}))
    signed = f"{_part({'alg': 'ES256', 'kid': 'k', **header})}.{_part(world.claims())}"
    seal = base64.urlsafe_b64encode(ecdsa.sign(signed.encode(), key)).rstrip(b"=").decode()
    if taken:
        assert (await world.authenticator.authenticate(f"{signed}.{seal}")).username == ACCOUNT.username
    else:
        assert "signature" in (await world.refusal_of(f"{signed}.{seal}")).message


async def test_what_costs_little_is_looked_at_before_the_signature(world: World) -> None:
    token = world.issuer.sign({**world.claims(), "aud": "vault"})
    world.jwks.unlink()
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid


async def test_a_little_clock_skew_is_forgiven_at_the_beginning_only(world: World) -> None:
    token = world.token()
    world.now = NOW - authentication.SKEW
    assert (await world.authenticator.authenticate(token)).username == ACCOUNT.username
    world.now = NOW + timedelta(hours=1)
    assert (await world.refusal_of(token)).reason is Reason.TokenExpired


async def test_an_accepted_token_ends_with_its_expiry(world: World) -> None:
    token = world.token(timedelta(seconds=20))
    await world.authenticator.authenticate(token)
    world.now = NOW + timedelta(seconds=20)
    assert (await world.refusal_of(token)).reason is Reason.TokenExpired


async def test_a_token_whose_time_comes_is_accepted_then(world: World) -> None:
    token = world.issuer.mint(ACCOUNT, now=NOW + timedelta(minutes=1))
    assert (await world.refusal_of(token)).reason is Reason.TokenExpired
    world.now = NOW + timedelta(minutes=1)
    assert (await world.authenticator.authenticate(token)).namespace == "media"


async def test_a_withdrawn_key_counts_for_a_minute_at_most(world: World) -> None:
    token = world.token()
    await world.authenticator.authenticate(token)
    world.issuer.rotate()
    world.issuer.withdraw()
    world.issuer.write_jwks(world.jwks)
    world.now = NOW + authentication.REMEMBERED
    refusal = await world.refusal_of(token)
    assert "withdrawn" in refusal.message


async def test_tokens_of_a_new_key_are_taken_once_it_is_published(world: World) -> None:
    await world.authenticator.authenticate(world.token())
    world.issuer.rotate()
    token = world.token()
    assert (await world.refusal_of(token)).reason is Reason.TokenInvalid
    world.issuer.write_jwks(world.jwks)
    assert (await world.authenticator.authenticate(token)).username == ACCOUNT.username


async def test_an_unreadable_key_set_is_an_outage_that_passes(world: World) -> None:
    token = world.token()
    world.jwks.rename(world.jwks.with_suffix(".away"))
    refusal = await world.refusal_of(token)
    assert (refusal.reason, refusal.retry_after) == (Reason.IssuerUnavailable, 2.0)
    world.jwks.with_suffix(".away").rename(world.jwks)
    assert (await world.authenticator.authenticate(token)).username == ACCOUNT.username


async def test_a_flood_of_bad_tokens_displaces_no_accepted_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "CACHE_LIMIT", 3)
    token = world.token()
    await world.authenticator.authenticate(token)
    for number in range(10):
        await world.refusal_of(world.issuer.sign({"number": number}))
    world.jwks.unlink()  # only what is remembered can be answered now
    assert (await world.authenticator.authenticate(token)).username == ACCOUNT.username


async def test_the_memory_for_tokens_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "CACHE_LIMIT", 3)
    tokens = [world.token() for _ in range(4)]
    for token in tokens:
        await world.authenticator.authenticate(token)
    world.jwks.unlink()
    assert (await world.refusal_of(tokens[0])).reason is Reason.IssuerUnavailable
    assert (await world.authenticator.authenticate(tokens[1])).username == ACCOUNT.username


async def test_a_refused_token_is_answered_from_memory_for_a_while(world: World) -> None:
    token = world.token()[:-8] + "AAAAAAAA"
    first = await world.refusal_of(token)
    world.jwks.unlink()
    assert (await world.refusal_of(token)).message == first.message
    world.now = NOW + authentication.REFUSED
    assert (await world.refusal_of(token)).reason is Reason.IssuerUnavailable


@pytest.mark.parametrize("ending", ["", "AAAAAAAA"], ids=["expired", "signature"])
async def test_what_is_remembered_of_a_refusal_holds_on_to_no_call(world: World, ending: str) -> None:
    """A traceback leads to the frames of the call, and those to the token and to megabytes of request."""
    token = world.token()
    world.now += timedelta(hours=2)
    refused = weakref.ref(await world.refusal_of(token[: len(token) - len(ending)] + ending))
    gc.collect()
    assert refused() is None


@pytest.mark.parametrize("case", WRONG_CLAIMS)
async def test_no_message_carries_text_of_the_token(world: World, case: str) -> None:
    marked = {**WRONG_CLAIMS[case][0](world.claims()), "jti": "SECRET-MARK"}
    token = world.issuer.sign(marked)
    refusal = await world.refusal_of(token)
    for part in (*token.split("."), "SECRET-MARK", "elsewhere", "vault", "alice", "bank", ACCOUNT.uid):
        assert part not in f"{refusal.message} {refusal.metadata}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claim=st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "kubernetes.io"]), value=json_values)
async def test_any_value_of_any_claim_gets_an_answer(tmp_path: Path, claim: str, value: object) -> None:
    world = World(tmp_path)
    try:
        await world.authenticator.authenticate(world.issuer.sign({**world.claims(), claim: value}))
    except Refusal as refusal:
        assert refusal.reason in {Reason.TokenInvalid, Reason.TokenExpired}  # noqa: PT017 - acceptance is an answer too
    else:
        assert claim in {"nbf", "iat", "exp"}
