"""The sandbox's AWS for a cluster; that a signer in a pod finds it is the e2e tier's to show."""

import asyncio
import base64
import configparser
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import boto3
import pytest
from aiohttp import web

from byok_api.algorithms import SigningAlgorithm
from byok_api.manifests import load_documents
from byok_sandbox import cluster
from byok_sandbox.cluster import STATE, Account, Place, recall, running_account
from byok_sandbox.kept import Kept
from byok_sandbox.tls_front import tls_front
from tests.support.api_server_thread import api_server_in_thread
from tests.support.fake_api_server import FakeApiServer
from tests.testenv.ports import free_ports

HOST = "localhost"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    kms, tsa = free_ports(2)
    return Place(tmp_path_factory.mktemp("account"), HOST, kms, tsa)


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept.create(now=datetime.now(UTC))


@pytest.fixture(scope="module")
def account(place: Place, kept: Kept) -> Iterator[Account]:
    with running_account(place, kept) as running:
        yield running


@pytest.fixture
async def served(place: Place, account: Account, kept: Kept) -> AsyncIterator[int]:
    certificate = kept.tls.issue(now=datetime.now(UTC), names=(HOST,))
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


def signature_by(account: Account, kept: Kept, algorithm: SigningAlgorithm) -> bytes:
    """Sign as the signer's role, by what a pod before told of it."""
    address, port = account.address
    kms = boto3.client(
        "kms",
        endpoint_url=f"http://{address}:{port}",
        region_name="eu-central-1",
        aws_access_key_id=kept.access_key_id,
        aws_secret_access_key=kept.secret_access_key,
    )
    arn, message = str(kept.keys[algorithm].certified.arn), bytes(algorithm.facts.digest_size or 32)
    kind: Literal["DIGEST", "RAW"] = "DIGEST" if algorithm.facts.digest_size else "RAW"
    answer = kms.sign(KeyId=arn, Message=message, MessageType=kind, SigningAlgorithm=cast("Any", algorithm.facts.kms))
    return bytes(answer["Signature"])


async def test_a_pod_goes_on_with_the_keys_of_the_one_before(tmp_path: Path, account: Account) -> None:
    async with FakeApiServer() as server:
        kubeconfig = str(server.kubeconfig(tmp_path))
        server.put("/secrets", {"metadata": {"name": "byok-sandbox", "namespace": "byok-system"}})
        assert await recall(kubeconfig, "byok-system") is None
        written = {name: base64.b64encode(text.encode()).decode() for name, text in account.secret.items()}
        stored = {"metadata": {"name": "byok-sandbox", "namespace": "byok-system"}, "data": written}
        server.put("/secrets", stored)
        recalled = await recall(kubeconfig, "byok-system")
    assert recalled is not None
    kms, tsa = free_ports(2)
    (tmp_path / "next").mkdir()
    with running_account(Place(tmp_path / "next", HOST, kms, tsa), recalled) as following:
        told = {name: text for name, text in following.config.items() if name != "4-stamped.yaml"}
        assert told == {name: text for name, text in account.config.items() if name != "4-stamped.yaml"}
        unlike = {name for name in account.secret if following.secret[name] != account.secret[name]}
        assert unlike == {"administrator.json"}
        for algorithm, key in recalled.keys.items():
            signature = await asyncio.to_thread(signature_by, following, recalled, algorithm)
            key.material.verify(
                algorithm.facts.kms,
                bytes(algorithm.facts.digest_size or 32),
                signature,
                "DIGEST" if algorithm.facts.digest_size else "RAW",
            )


@pytest.mark.parametrize("days", [0, 80])
async def test_what_is_about_to_expire_is_not_gone_on_with(tmp_path: Path, days: int) -> None:
    made = Kept.create(now=datetime.now(UTC) - timedelta(days=days))
    async with FakeApiServer() as server:
        data = {STATE: base64.b64encode(made.dump().encode()).decode()}
        server.put("/secrets", {"metadata": {"name": "byok-sandbox", "namespace": "byok-system"}, "data": data})
        found = await recall(str(server.kubeconfig(tmp_path)), "byok-system")
    assert (found is None) == (days == 80)


def test_what_was_kept_and_cannot_be_read_is_named_and_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with api_server_in_thread() as server:
        server.answers.append(web.json_response({"message": "not yet"}, status=403))
        data = {STATE: base64.b64encode(b"{}").decode()}
        server.put("/secrets", {"metadata": {"name": "byok-sandbox", "namespace": "a"}, "data": data})
        assert cluster.main(["--namespace=a", "--host=b", f"--kubernetes={server.kubeconfig(tmp_path)}"]) == 1
        assert [method for method, _ in server.requests] == ["GET", "GET"]
    assert "Secret byok-sandbox, state.json: madeAt: Field required; delete it" in capsys.readouterr().err


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cluster.main(["--namespace=a", "--host=b", "--kms-port=http"])
    assert "--kms-port: 'http' is no port" in capsys.readouterr().err
