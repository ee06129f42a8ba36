"""`byok-signer` as a process where nothing of AWS is reached but through a proxy, told as other programs are."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from byok_api.audit import Kind, verify_chain
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import Issuer
from byok_sandbox.tls_front import tls_front
from tests.support.connect_proxy import connect_proxy
from tests.support.fake_api_server import FakeApiServer
from tests.support.kms_stand_in import kms_stand_in
from tests.support.manifests import KEY_ARN
from tests.support.signer import until
from tests.support.signer_process import CREDENTIALS, prepare, serving_process, signer_process

KMS, STS = "kms.eu-central-1.amazonaws.com", "sts.eu-central-1.amazonaws.com"


async def _web_identity(request: web.Request) -> web.Response:
    """Answer STS AssumeRoleWithWebIdentity."""
    assert b"WebIdentityToken=projected-token" in await request.read()
    expiration = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    fields = {"AccessKeyId": "ASIA1", "SecretAccessKey": "hush", "SessionToken": "token", "Expiration": expiration}
    body = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    result = f"<AssumeRoleWithWebIdentityResult><Credentials>{body}</Credentials></AssumeRoleWithWebIdentityResult>"
    text = f"<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>"
    return web.Response(text=text, content_type="text/xml")


@asynccontextmanager
async def _sts() -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_post("/", _web_identity)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_credentials_and_signatures_come_through_the_proxy_and_its_password_is_not_logged(tmp_path: Path) -> None:
    authority = TlsAuthority.create(now=datetime.now(UTC))
    certificate = authority.issue(now=datetime.now(UTC), names=[KMS, STS])
    (tmp_path / "ca").write_text(authority.trust_anchor_pem)
    (tmp_path / "token").write_text("projected-token")
    flags = prepare(tmp_path, Issuer()) | {
        "checkpoint-key": KEY_ARN,
        "aws-ca-file": f"{tmp_path}/ca",
        "log-level": "debug",
    }
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(connect_proxy())
        proxy.authorization = "Basic c2lnbmVyOnMzY3JldA=="
        kms, sts = await stack.enter_async_context(kms_stand_in()), await stack.enter_async_context(_sts())
        for host, behind in ((KMS, urlsplit(kms.url).port or 0), (STS, sts)):
            front = tls_front(certificate, ("127.0.0.1", 0), ("127.0.0.1", behind), tmp_path)
            proxy.places[f"{host}:443"] = await stack.enter_async_context(front)
        environ = {
            "HTTPS_PROXY": f"http://signer:s3cret@localhost:{proxy.port}",
            "NO_PROXY": "10.0.0.0/8,.svc",
            "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/byok-signer",
            "AWS_WEB_IDENTITY_TOKEN_FILE": f"{tmp_path}/token",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }
        signer = await stack.enter_async_context(serving_process(tmp_path, flags, environ))
        signer.process.terminate()
        assert await signer.ended() == 0
        assert set(proxy.targets) == {f"{KMS}:443", f"{STS}:443"}
        assert kms.signed
    assert "s3cret" not in signer.log
    assert verify_chain((tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)).kinds[Kind.CHECKPOINT]


async def test_a_kubeconfigs_api_server_is_asked_as_the_environment_says_whatever_the_proxy_for_kms(
    tmp_path: Path,
) -> None:
    flags = prepare(tmp_path, Issuer()) | {"kubernetes": FakeApiServer().kubeconfig(tmp_path)}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig.read_text().replace("http://127.0.0.1:0", "https://api.example:6443"))
    for name in ("manifests", "token-issuer", "token-jwks-file"):
        del flags[name]
    async with connect_proxy() as ours, connect_proxy() as theirs:
        flags["https-proxy"] = f"http://localhost:{ours.port}"
        environ = {"https_proxy": f"http://localhost:{theirs.port}", "NO_PROXY": "10.0.0.0/8"}
        async with signer_process(tmp_path, flags, {**CREDENTIALS, **environ}):
            await until(lambda: bool(theirs.asked or ours.asked))
        assert set(theirs.targets) == {"api.example:6443"}
        assert ours.asked == []
