"""Which way an API server is asked, by a real proxy: a kubeconfig's as by kubectl, the cluster's own straight."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from kubernetes.aio.config import incluster_config

from byok_sandbox.ca import TlsAuthority
from byok_sandbox.tls_front import tls_front
from byok_service.kubernetes import BYOK_KEYS, ApiUnavailable, KubernetesApi, SourceError
from byok_service.setting_types import IN_CLUSTER
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.fake_api_server import TOKEN, FakeApiServer

NAMES = ("api.example", "10.96.0.1", "fd00:10:96::1")
HOSTS = ("api.example:6443", "10.96.0.1:6443", "[fd00:10:96::1]:6443")


@dataclass
class Far:
    """An API server at HOSTS, none of which can be reached but through the proxy."""

    proxy: ConnectProxy
    port: int
    kubeconfig: Path

    @property
    def variables(self) -> dict[str, str]:
        return {"HTTPS_PROXY": f"http://signer:s3cret@localhost:{self.proxy.port}"}

    def at(self, host: str, **cluster: str) -> str:
        content = yaml.safe_load(self.kubeconfig.read_text())
        content["clusters"][0]["cluster"] |= {"server": f"https://{host}"} | cluster
        self.kubeconfig.write_text(yaml.safe_dump(content))
        return str(self.kubeconfig)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    authority = TlsAuthority.create(now=datetime.now(UTC))
    certificate = authority.issue(now=datetime.now(UTC), names=[*NAMES, "localhost", "127.0.0.1"])
    (tmp_path / "ca.crt").write_text(authority.trust_anchor_pem)
    async with (
        connect_proxy() as proxy,
        FakeApiServer() as server,
        tls_front(certificate, ("127.0.0.1", 0), ("127.0.0.1", server.port), tmp_path) as port,
    ):
        proxy.authorization = "Basic c2lnbmVyOnMzY3JldA=="
        proxy.places = dict.fromkeys(HOSTS, port)
        far = Far(proxy, port, Path(server.kubeconfig(tmp_path)))
        far.at(HOSTS[0], **{"certificate-authority": str(tmp_path / "ca.crt")})
        yield far


async def is_answered(source: str, environ: dict[str, str], patience: float = 30) -> bool:
    api = await KubernetesApi.connect(source, environ)
    try:
        async with asyncio.timeout(patience):
            await api.list(BYOK_KEYS)
    except (ApiUnavailable, TimeoutError):
        return False
    finally:
        await api.close()
    return True


@pytest.mark.parametrize("host", HOSTS)
async def test_a_kubeconfigs_api_server_is_asked_through_the_proxy_of_the_environment(far: Far, host: str) -> None:
    assert await is_answered(far.at(host), far.variables)
    assert set(far.proxy.targets) == {host}


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        (HOSTS[0], "api.example:6443"),
        (HOSTS[0], "10.*,.example"),
        (HOSTS[1], "10.0.0.0/8"),
        (HOSTS[2], "fd00:10:96::1"),
        (HOSTS[2], "fd00::/8"),
    ],
)
async def test_it_is_asked_straight_where_no_proxy_says_so(far: Far, host: str, no_proxy: str) -> None:
    # Not for long, for nobody may ever say that there is no way to an address.
    assert not await is_answered(far.at(host), far.variables | {"NO_PROXY": no_proxy}, 1)
    assert far.proxy.asked == []


@pytest.mark.parametrize("variables", [{}, {"NO_PROXY": "*"}, {"HTTPS_PROXY": "socks5://localhost:1"}])
async def test_its_own_proxy_url_wins_over_the_environment(far: Far, variables: dict[str, str]) -> None:
    source = far.at(HOSTS[0], **{"proxy-url": far.variables["HTTPS_PROXY"]})
    assert await is_answered(source, variables)
    assert far.proxy.targets == [HOSTS[0]]


@pytest.mark.parametrize("host", NAMES)
async def test_the_cluster_that_a_pod_is_in_is_never_asked_through_a_proxy(
    far: Far, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = far.kubeconfig.parent
    (folder / "token").write_text(TOKEN)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    for name, value in {"SERVICE_HOST": host, "SERVICE_PORT": "6443"}.items():
        monkeypatch.setenv(f"KUBERNETES_{name}", value)
    for name, value in far.variables.items():
        monkeypatch.setenv(name, value)
    assert not await is_answered(IN_CLUSTER, far.variables, 1)
    assert far.proxy.asked == []


@pytest.mark.parametrize("where", ["proxy-url", "HTTPS_PROXY"])
async def test_a_proxy_of_another_kind_is_refused_by_name_without_its_password(far: Far, where: str) -> None:
    url = "socks5://signer:s3cret@localhost:1080"
    source = far.at(HOSTS[0], **({where: url} if where == "proxy-url" else {}))
    with pytest.raises(SourceError, match=rf"kubeconfig: {where}: expected http\[s\]://") as caught:
        await KubernetesApi.connect(source, {where: url})
    assert "s3cret" not in str(caught.value)


async def test_an_api_server_on_this_machine_is_asked_straight(far: Far) -> None:
    for host in ("localhost", "127.0.0.1"):
        assert await is_answered(far.at(f"{host}:{far.port}"), far.variables)
    assert far.proxy.asked == []
