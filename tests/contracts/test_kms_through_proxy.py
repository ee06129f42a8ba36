"""AWS by its own names, through a proxy: what signs without one signs with one, and what the proxy refuses is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.tls_front import tls_front
from byok_service.proxies import Proxies, Proxy
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import KeyHandle
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.kms_benches import INSTALLATION, SIGNER_ROLE, chain_of, emulator_bench, handle

ES256 = SigningAlgorithm.ES256
MESSAGE = b"a claim" * 400
PATIENCE = 30.0
KMS, STS = "kms.eu-central-1.amazonaws.com:443", "sts.eu-central-1.amazonaws.com:443"


@dataclass(frozen=True)
class Proxied:
    """AwsKms, which reaches AWS through a proxy only, and a key there."""

    kms: AwsKms
    proxy: ConnectProxy
    key: KeyHandle


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[Proxied]:
    async with _proxied(tmp_path) as made:
        yield made


@asynccontextmanager
async def _proxied(folder: Path) -> AsyncIterator[Proxied]:
    authority = TlsAuthority.create(now=datetime.now(UTC))
    certificate = authority.issue(now=datetime.now(UTC), names=[name.split(":")[0] for name in (KMS, STS)])
    (folder / "ca").write_text(authority.trust_anchor_pem)
    async with emulator_bench() as bench, connect_proxy() as proxy:
        behind = urlsplit(bench.emulator.address)
        listen = ("127.0.0.1", 0)
        async with tls_front(certificate, listen, (behind.hostname or "", behind.port or 0), folder) as port:
            proxy.places.update({KMS: port, STS: port})
            there = Proxy.parse(f"http://localhost:{proxy.port}")
            config = KmsConfig(
                installation=INSTALLATION, ca_file=folder / "ca", proxies=Proxies.parse(there, ""), retries=0
            )
            kms = AwsKms(config, chain=chain_of(bench.emulator.directory.issue(SIGNER_ROLE)))
            try:
                yield Proxied(kms, proxy, handle(await bench.create("ECC_NIST_P256")))
            finally:
                await kms.close()


async def test_what_is_signed_through_a_proxy_verifies_also_once_its_tunnels_have_ended(proxied: Proxied) -> None:
    looked = await proxied.kms.get_public_key(proxied.key, timeout=PATIENCE)
    key = handle(proxied.key.arn, resolved_arn=looked.key_arn)
    for _ in range(2):
        signed = await proxied.kms.sign(key, ES256, message=MESSAGE, timeout=PATIENCE)
        signatures.verify(load_der_public_key(looked.spki), ES256, signed.signature, message=MESSAGE)
        proxied.proxy.hang_up()
    assert set(proxied.proxy.targets) == {KMS}


async def test_sts_is_asked_through_the_proxy_too(proxied: Proxied) -> None:
    grantee = await proxied.kms.grantee(proxied.key, timeout=PATIENCE)
    assert grantee.principal == SIGNER_ROLE
    assert proxied.proxy.targets == [STS]


async def test_what_the_proxy_refuses_is_an_outage_that_names_it_and_no_attempt(proxied: Proxied) -> None:
    proxied.proxy.authorization = "Basic missing"
    with pytest.raises(KmsError, match=r"the proxy http://localhost:\d+ makes no connection .* status 407") as caught:
        await proxied.kms.sign(handle(proxied.key.arn, resolved_arn=proxied.key.arn), ES256, message=MESSAGE, timeout=5)
    assert (caught.value.reason, caught.value.attempts) == (Reason.KmsUnavailable, ())
