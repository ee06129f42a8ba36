"""`byokctl doctor`: each check alone at fault, and what it says to do."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_sandbox.ca import TlsAuthority
from tests.support.command_line import Cli
from tests.support.fake_signer import NOT_SERVING, FakeSigner, serving
from tests.testenv.ports import refusing_port

WriteToken = Callable[..., None]


@pytest.fixture
def tls() -> TlsAuthority:
    return TlsAuthority.create(now=datetime.now(UTC))


@pytest.fixture
def signer(tmp_path: Path, tls: TlsAuthority, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSigner]:
    """A signer with TLS, and the variables that lead to it, but to no cluster."""
    (tmp_path / "ca.pem").write_text(tls.trust_anchor_pem)
    with serving(tmp_path, tls=tls) as fake:
        monkeypatch.setenv("BYOK_SIGNER_ADDRESS", fake.address)
        monkeypatch.setenv("BYOK_SIGNER_CA_FILE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("BYOK_SIGNER_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        yield fake


@pytest.fixture
def write_token(tmp_path: Path, signer: FakeSigner) -> WriteToken:
    """Write a token with other claims than a good one's."""

    def write(**claims: object) -> None:
        now = int(time.time())
        good: dict[str, object] = {
            "aud": ["byok-signer"],
            "sub": "system:serviceaccount:media:job",
            "iat": now,
            "exp": now + 600,
        }
        payload = base64.urlsafe_b64encode(json.dumps(good | claims).encode()).decode().rstrip("=")
        token = f"e30.{payload}.c2ln"
        signer.accepted_tokens = {token}
        (tmp_path / "token").write_text(token)

    write()
    return write


def _verdicts(cli: Cli, *arguments: str) -> dict[str, tuple[str, str]]:
    document = cli("doctor", *arguments, "-o", "json").document
    return {check["check"]: (check["verdict"], check["found"]) for check in document["checks"]}


def test_a_job_that_can_sign_is_told_so(cli: Cli, write_token: WriteToken) -> None:
    write_token()
    ended = cli("doctor", "--recipe", "media/photo")
    assert ended.status == 0, ended.out
    verdicts = _verdicts(cli, "--recipe", "media/photo")
    assert {verdict for verdict, _ in verdicts.values()} == {"good", "skipped", "warning"} - {"warning"}
    assert verdicts["token"][1].startswith("system:serviceaccount:media:job, until ")
    assert verdicts["cluster"][0] == "skipped"


BAD_TOKENS = [
    ({"aud": ["vault"]}, "token", "is for audience ['vault'], not byok-signer"),
    ({"sub": "alice"}, "token", "is alice's, no ServiceAccount's"),
    ({"exp": 1_000_000_000}, "token", "expired at 2001-09-09"),
    ({"iat": 32_503_680_000}, "clock", " s from now by this machine's clock"),
    ({"exp": "soon"}, "token", "the token's times are no times"),
]


@pytest.mark.parametrize(("claims", "check", "expected"), BAD_TOKENS)
def test_a_token_that_will_be_refused_is_told_why(
    cli: Cli, write_token: WriteToken, claims: dict[str, object], check: str, expected: str
) -> None:
    write_token(**claims)
    verdict, found = _verdicts(cli)[check]
    assert (verdict, expected in found) == ("bad", True), found


def test_a_file_that_holds_no_token_is_named(cli: Cli, write_token: WriteToken, tmp_path: Path) -> None:
    write_token()
    (tmp_path / "token").write_text("opaque")
    assert _verdicts(cli)["token"] == ("bad", "TokenInvalid: the token file does not hold a JSON Web Token")


def test_a_signer_that_is_not_there_is_told(cli: Cli, write_token: WriteToken, monkeypatch: pytest.MonkeyPatch) -> None:
    write_token()
    with refusing_port() as nobody:
        monkeypatch.setenv("BYOK_SIGNER_ADDRESS", f"127.0.0.1:{nobody}")
        verdicts = _verdicts(cli)
        assert verdicts["connection"][0] == verdicts["TLS"][0] == "bad"
        assert cli("doctor").status == 3


def test_a_ca_that_the_signer_has_no_certificate_of_is_told(cli: Cli, write_token: WriteToken, tmp_path: Path) -> None:
    write_token()
    (tmp_path / "ca.pem").write_text(TlsAuthority.create(now=datetime.now(UTC)).trust_anchor_pem)
    verdict, found = _verdicts(cli)["TLS"]
    assert (verdict, "is not trusted" in found) == ("bad", True)


def test_a_recipe_that_is_refused_is_told_with_the_signers_reason(
    cli: Cli, write_token: WriteToken, signer: FakeSigner
) -> None:
    write_token()
    signer.recipe_failures.append(Refusal(Reason.RecipeNotAllowed, "recipe media/photo: there is no such recipe"))
    ended = cli("doctor", "--recipe", "media/photo")
    assert ended.status == 1
    assert "bad  recipe: RecipeNotAllowed: recipe media/photo" in ended.out


REFUSAL = Refusal(Reason.RecipeNotAllowed, "recipe media/photo: there is no such recipe")
EXPECTED = ("doctor", "--recipe", "media/photo", "--expect-refusal", "RecipeNotAllowed")


def test_a_refusal_that_is_expected_is_good(cli: Cli, write_token: WriteToken, signer: FakeSigner) -> None:
    write_token()
    signer.recipe_failures.append(REFUSAL)
    ended = cli(*EXPECTED)
    assert (ended.status, "good  recipe: refused, as it shall be: RecipeNotAllowed" in ended.out) == (0, True)
    assert "good  health: " in ended.out


def test_no_refusal_where_one_is_expected_is_bad(cli: Cli, write_token: WriteToken) -> None:
    write_token()
    ended = cli(*EXPECTED)
    assert (ended.status, "may be used, and shall be refused: RecipeNotAllowed" in ended.out) == (1, True)


def test_another_refusal_than_the_expected_one_is_bad(cli: Cli, write_token: WriteToken, signer: FakeSigner) -> None:
    write_token()
    signer.recipe_failures.append(Refusal(Reason.KeyDeactivated, "key media/brand is deactivated"))
    ended = cli(*EXPECTED)
    assert (ended.status, "bad  recipe: KeyDeactivated" in ended.out) == (1, True)


@pytest.mark.parametrize(
    "arguments", [("--recipe", "media/photo", "--expect-refusal", "No"), ("--expect-refusal", "No")]
)
def test_an_expected_refusal_is_named_and_is_a_recipes(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("doctor", *arguments).status == 2


def test_a_signer_that_takes_no_calls_is_told(cli: Cli, write_token: WriteToken, signer: FakeSigner) -> None:
    write_token()
    signer.health = NOT_SERVING
    verdict, found = _verdicts(cli)["health"]
    assert (verdict, "does not take calls" in found) == ("bad", True)


def test_without_settings_the_rest_is_skipped(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BYOK_SIGNER_ADDRESS", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    verdicts = _verdicts(cli)
    assert verdicts.pop("configuration")[0] == "bad"
    assert {verdict for verdict, _ in verdicts.values()} == {"skipped"}
