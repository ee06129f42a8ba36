"""The sandbox's issuer writes what a cluster would: see tests/signer/test_authentication.py for who accepts it."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_signer.jwks import parse_jwks

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT = ServiceAccount("media", "media-job")


def test_a_token_has_the_claims_of_a_projected_one() -> None:
    claims = jwt.decode(Issuer("https://issuer").mint(ACCOUNT, now=NOW), options={"verify_signature": False})
    assert set(claims) == {"aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("https://issuer", ["byok-signer"], ACCOUNT.username)
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (1772366400, 1772366400, 1772370000)
    assert claims["kubernetes.io"]["serviceaccount"] == {"name": "media-job", "uid": ACCOUNT.uid}
    assert set(claims["kubernetes.io"]) == {"namespace", "node", "pod", "serviceaccount"}


def test_two_tokens_of_an_account_differ_in_their_id_only() -> None:
    issuer = Issuer()
    first, second = (jwt.decode(issuer.mint(ACCOUNT, now=NOW), options={"verify_signature": False}) for _ in range(2))
    assert first.pop("jti") != second.pop("jti")
    assert first == second


def test_keys_stay_published_through_rotation_until_they_are_withdrawn() -> None:
    issuer = Issuer()
    (old,) = parse_jwks(issuer.jwks())
    issuer.rotate()
    assert old in parse_jwks(issuer.jwks())
    assert jwt.get_unverified_header(issuer.mint(ACCOUNT, now=NOW))["kid"] != old
    issuer.withdraw()
    assert old not in parse_jwks(issuer.jwks())


def test_only_public_keys_are_published() -> None:
    assert b'"d"' not in Issuer().jwks()


def test_a_token_file_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path, issuer = tmp_path / "token", Issuer()
    issuer.write_token(path, ACCOUNT, now=NOW)
    with path.open() as still_open:
        issuer.write_token(path, ACCOUNT, now=NOW, lifetime=timedelta(seconds=5))
        before, after = still_open.read(), path.read_text()
    assert before.count(".") == after.count(".") == 2
    assert before != after
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_token_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(OSError, match="token"):
        Issuer().write_token(tmp_path / "token", ACCOUNT, now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
