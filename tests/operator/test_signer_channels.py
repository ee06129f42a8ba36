"""Where the signers are, and what is read of the files by which they are reached."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from byok_operator.signer_channels import Endpoint, SignerDoor, UnusableFileError
from byok_sandbox.ca import TlsAuthority
from byok_service.setting_types import TcpAddress
from tests.support.pki import NOW
from tests.support.signer_certificates import of_no_version


def door(folder: Path, *hosts: str, server_name: str | None = None) -> SignerDoor:
    addresses = tuple(TcpAddress(host, 8443) for host in hosts)
    return SignerDoor(
        addresses=addresses, ca_file=folder / "ca.pem", token_file=folder / "token", server_name=server_name
    )


async def found(folder: Path, names: Mapping[str, list[str]], **options: str) -> tuple[set[Endpoint], list[str]]:
    async def resolve(host: str) -> list[str]:
        if host not in names:
            raise OSError("no such name")
        return names[host]

    return await door(folder, *(names or ["nowhere"]), **options).endpoints(resolve)


async def test_a_name_stands_for_all_its_addresses(tmp_path: Path) -> None:
    endpoints, faults = await found(tmp_path, {"signers": ["10.0.0.1", "10.0.0.2", "10.0.0.1"]})
    assert endpoints == {Endpoint("10.0.0.1", 8443, "signers"), Endpoint("10.0.0.2", 8443, "signers")}
    assert faults == []


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["10.0.0.1", "fd00::1"], {"10.0.0.1"}),
        (["10.0.0.1", "fd00::1", "fd00::2"], {"fd00::1", "fd00::2"}),
        (["fd00::1"], {"fd00::1"}),
    ],
)
async def test_a_pod_with_addresses_of_both_kinds_is_one_signer(
    tmp_path: Path, addresses: list[str], expected: set[str]
) -> None:
    endpoints, _ = await found(tmp_path, {"signers": addresses})
    assert {endpoint.ip for endpoint in endpoints} == expected


async def test_names_without_addresses_are_told(tmp_path: Path) -> None:
    assert await found(tmp_path, {"signers": []}) == (set(), ["signers: has no addresses"])
    assert await found(tmp_path, {}) == (set(), ["nowhere: no such name"])


async def test_one_name_in_all_certificates_can_be_given(tmp_path: Path) -> None:
    endpoints, _ = await found(tmp_path, {"a": ["10.0.0.1"]}, server_name="signer.byok-system.svc")
    assert endpoints == {Endpoint("10.0.0.1", 8443, "signer.byok-system.svc")}


@pytest.mark.parametrize(
    ("ip", "target", "text"),
    [("10.0.0.1", "ipv4:10.0.0.1:1", "10.0.0.1:1"), ("fd00::1", "ipv6:[fd00::1]:1", "[fd00::1]:1")],
)
def test_an_endpoint_is_written_as_grpc_and_people_want_it(ip: str, target: str, text: str) -> None:
    endpoint = Endpoint(ip, 1, "x")
    assert (endpoint.target, str(endpoint)) == (target, text)


def test_a_token_is_read_as_it_is_now(tmp_path: Path) -> None:
    reading = door(tmp_path)
    for token in ("a.b.c", "d.e.f"):
        reading.token_file.write_text(f"{token}\n")
        assert reading.token() == token


@pytest.mark.parametrize("content", [b"", b" \n", b"a b\x00", b"\xff\xfe", b"x" * 20_000, None])
def test_a_token_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    reading = door(tmp_path)
    if content is not None:
        reading.token_file.write_bytes(content)
    with pytest.raises(UnusableFileError, match=str(reading.token_file)):
        reading.token()


def test_ca_certificates_are_read_whole_and_nothing_else(tmp_path: Path) -> None:
    reading, pem = door(tmp_path), TlsAuthority.create(now=NOW).trust_anchor_pem
    reading.ca_file.write_text(pem)
    assert reading.trusted() == pem.encode()
    reading.ca_file.write_bytes("Zertifikat von Müller\n".encode("latin-1") + pem.encode())
    assert reading.trusted() == pem.encode()
    no_version = of_no_version(pem.encode()).decode()
    for damaged in ("", "garbage", pem + pem[:-30], no_version, pem + no_version, "x" * 2_000_000):
        reading.ca_file.write_text(damaged)
        with pytest.raises(UnusableFileError, match=str(reading.ca_file)):
            reading.trusted()
