"""The signer's own credentials: found by botocore's chain, renewed in a thread, shared by all who wait."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.credentials import Credentials as Found
from botocore.exceptions import ConnectTimeoutError, CredentialRetrievalError

from byok_api.errors import Reason
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.tls_front import tls_front
from byok_service.proxies import Proxies, Proxy
from byok_signer.kms.credentials import Frozen, OwnCredentials, default_chain
from byok_signer.kms.errors import KmsError
from tests.support.connect_proxy import connect_proxy

IRSA = "arn:aws:iam::111122223333:role/byok-signer"


class Chain:
    """Finds a new access key at every search, once it is let."""

    def __init__(self) -> None:
        self.searches = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    def __call__(self) -> Frozen | None:
        self.searches += 1
        assert self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        return Found(f"AKIA{self.searches}", "hush", "token")


async def test_the_event_loop_does_not_wait_for_the_chain_and_all_share_one_search() -> None:
    chain = Chain()
    chain.may_answer.clear()
    own = OwnCredentials(chain)
    waiting = [asyncio.create_task(own.get()) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    chain.may_answer.set()
    found = await asyncio.gather(*waiting[1:])
    own.close()
    assert {credentials.access_key for credentials in found} == {"AKIA1"}
    assert (chain.searches, waiting[0].cancelled()) == (1, True)


async def test_expired_credentials_are_replaced_once_for_all_who_hold_them() -> None:
    own = OwnCredentials(Chain())
    stale = await own.get()
    renewed = [await own.renew(stale) for _ in range(3)]
    own.close()
    assert [credentials.access_key for credentials in renewed] == ["AKIA2"] * 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CredentialRetrievalError(provider="x", error_msg="secret"), Reason.SignerCredentialsInvalid),
        (RuntimeError("refreshed credentials are still expired"), Reason.SignerCredentialsInvalid),
        (FileNotFoundError("/secret/token"), Reason.SignerCredentialsInvalid),
        (ConnectTimeoutError(endpoint_url="http://169.254.170.23"), Reason.KmsUnavailable),
    ],
)
async def test_a_chain_that_fails_is_told_without_its_words_and_tried_again(error: Exception, reason: Reason) -> None:
    chain = Chain()
    chain.error = error
    own = OwnCredentials(chain)
    with pytest.raises(KmsError) as caught:
        await own.get()
    assert caught.value.reason is reason
    assert "secret" not in caught.value.message
    chain.error = None
    assert (await own.get()).access_key == "AKIA2"
    own.close()


async def test_no_credentials_is_the_installations_fault() -> None:
    own = OwnCredentials(lambda: None)
    with pytest.raises(KmsError, match="default chain finds none") as caught:
        await own.get()
    own.close()
    assert caught.value.reason is Reason.SignerCredentialsInvalid


@pytest.mark.parametrize("token", ["to\r\nken", "to ken", "t\u00f6ken"])
async def test_credentials_that_no_header_can_carry_are_none(token: str) -> None:
    own = OwnCredentials(lambda: Found("AKIA1", "hush", token))
    with pytest.raises(KmsError, match="printable ASCII") as caught:
        await own.get()
    own.close()
    assert caught.value.reason is Reason.SignerCredentialsInvalid
    assert token not in caught.value.message


class Sources(BaseHTTPRequestHandler):
    """STS AssumeRoleWithWebIdentity, and the agent of EKS pod identities."""

    def do_GET(self) -> None:
        self._answer(self.headers["Authorization"], "pod-identity-token\n", json.dumps(_credentials("ASIAPOD")))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in _credentials("ASIAIRSA").items())
        fields = fields.replace("Token>", "SessionToken>")
        result = (
            f"<AssumeRoleWithWebIdentityResult><Credentials>{fields}</Credentials></AssumeRoleWithWebIdentityResult>"
        )
        answer = f"<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>"
        self._answer(body, "WebIdentityToken=projected-token", answer)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, got: str, wanted: str, answer: str) -> None:
        self.send_response(200 if wanted.strip() in got else 403)
        self.end_headers()
        self.wfile.write(answer.encode())


def _credentials(access_key: str) -> dict[str, str]:
    expiration = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return {"AccessKeyId": access_key, "SecretAccessKey": "hush", "Token": "token", "Expiration": expiration}


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "token").write_text("projected-token")
    (tmp_path / "pod").write_text("pod-identity-token")
    with ThreadingHTTPServer(("127.0.0.1", 0), Sources) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def found_by_default_chain() -> str:
    own = OwnCredentials(default_chain)
    try:
        return (await own.get()).access_key
    finally:
        own.close()


def as_irsa_does(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", IRSA)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


async def test_a_projected_token_is_exchanged_as_irsa_does(
    sources: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_irsa_does(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sources)
    assert await found_by_default_chain() == "ASIAIRSA"


async def test_the_agent_of_eks_pod_identities_is_asked(
    sources: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{sources}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "pod"))
    assert await found_by_default_chain() == "ASIAPOD"


async def test_sts_is_asked_through_the_proxy_and_the_agent_of_eks_pod_identities_never(
    sources: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_irsa_does(monkeypatch, tmp_path)
    made = TlsAuthority.create(now=datetime.now(UTC))
    (tmp_path / "ca").write_text(made.trust_anchor_pem)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca"))
    sts = made.issue(now=datetime.now(UTC), names=["sts.eu-central-1.amazonaws.com"])
    behind = ("127.0.0.1", urlsplit(sources).port or 0)
    async with tls_front(sts, ("127.0.0.1", 0), behind, tmp_path) as port, connect_proxy() as proxy:
        proxy.authorization = "Basic dTpodXNo"
        proxy.places["sts.eu-central-1.amazonaws.com:443"] = port
        told = Proxies.parse(Proxy.parse(f"http://u:hush@localhost:{proxy.port}"), "").variables()
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        assert await found_by_default_chain() == "ASIAIRSA"
        assert proxy.targets == ["sts.eu-central-1.amazonaws.com:443"]
        monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
        monkeypatch.setenv("HTTP_PROXY", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{sources}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "pod"))
        assert await found_by_default_chain() == "ASIAPOD"
        assert len(proxy.asked) == 1


async def test_an_environment_without_credentials_is_told(sources: str) -> None:
    assert sources
    with pytest.raises(KmsError, match="default chain finds none"):
        await found_by_default_chain()
