"""The sandbox's AWS for a cluster; that a signer in a pod finds it is the e2e tier's to show."""

import asyncio
import configparser
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import boto3
import pytest

from byok_api.manifests import load_documents
from byok_sandbox import cluster
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.cluster import Account, Place, running_account
from byok_sandbox.tls_front import tls_front
from tests.testenv.ports import free_ports

HOST = "localhost"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    kms, tsa = free_ports(2)
    return Place(tmp_path_factory.mktemp("account"), HOST, kms, tsa, TlsAuthority.create(now=datetime.now(UTC)))


@pytest.fixture(scope="module")
def account(place: Place) -> Iterator[Account]:
    with running_account(place) as running:
        yield running


@pytest.fixture
async def served(place: Place, account: Account) -> AsyncIterator[int]:
    certificate = place.tls.issue(now=datetime.now(UTC), names=(HOST,))
    async with tls_front(certificate, ("127.0.0.1", 0), account.address, place.folder) as port:
        yield port


@pytest.fixture
def ca_file(account: Account, tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_text(account.secret["ca.crt"])
    return path


async def test_the_signers_credentials_sign_over_tls_with_a_key_of_the_examples(
    account: Account, served: int, ca_file: Path
) -> None:
    profile = configparser.ConfigParser()
    profile.read_string(account.secret["credentials"])
    kms = boto3.client(
        "kms",
        endpoint_url=f"https://{HOST}:{served}",
        region_name="eu-central-1",
        verify=str(ca_file),
        aws_access_key_id=profile["default"]["aws_access_key_id"],
        aws_secret_access_key=profile["default"]["aws_secret_access_key"],
    )
    key, *_ = load_documents(account.config["2-byokkey.yaml"].encode(), "2-byokkey.yaml")
    arn = key["spec"]["aws"]["keyArn"]
    call = partial(kms.sign, KeyId=arn, Message=bytes(32), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
    assert (await asyncio.to_thread(call))["Signature"]


async def test_plaintext_and_an_unknown_ca_are_refused(served: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(HOST, served, ssl=ssl.create_default_context())
    reader, writer = await asyncio.open_connection("127.0.0.1", served)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert not (await reader.read()).startswith(b"HTTP")
    writer.close()


def test_everything_that_is_told_can_be_applied_but_for_the_trust_anchors(account: Account) -> None:
    for name, text in account.config.items():
        if name.endswith(".yaml"):
            assert load_documents(text.encode(), name)
    assert set(account.config) >= {"1-namespaces.yaml", "2-byokkey.yaml", "4-stamped.yaml", "trust-anchors.pem"}


def test_secrets_are_told_in_the_secret_alone(account: Account) -> None:
    (_, secret), (_, config) = cluster.documents(account, "byok-system")
    owner = json.loads(secret["stringData"]["administrator.json"])
    assert secret["metadata"] == config["metadata"] == {"name": "byok-sandbox", "namespace": "byok-system"}
    assert not [text for text in config["data"].values() if owner["secretAccessKey"] in text or "PRIVATE" in text]
    assert owner["secretAccessKey"] not in repr(account)


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cluster.main(["--namespace=a", "--host=b", "--kms-port=http"])
    assert "--kms-port: 'http' is no port" in capsys.readouterr().err
