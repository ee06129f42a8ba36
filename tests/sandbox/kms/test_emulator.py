"""The emulated KMS in the process of its tests, beside whatever else runs in their event loop."""

import asyncio

import boto3
import pytest

from byok_sandbox.kms.emulator import KmsEmulator
from tests.testenv.ports import LOOPBACK, free_ports


def list_keys(emulator: KmsEmulator) -> None:
    key = emulator.administrator
    client = boto3.client(
        "kms",
        region_name="eu-central-1",
        endpoint_url=emulator.address,
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
    )
    try:
        assert client.list_keys()["Keys"] == []
    finally:
        client.close()


async def test_it_serves_while_the_block_lasts_and_two_share_nothing() -> None:
    async with KmsEmulator() as first, KmsEmulator() as second:
        assert first.address != second.address
        await asyncio.to_thread(list_keys, first)
        assert (len(first.events.since()), len(second.events.since())) == (1, 0)


async def test_after_the_block_nobody_listens() -> None:
    (port,) = free_ports(1)  # for who is given one by the kernel may be followed by somebody else
    async with KmsEmulator(port=port) as emulator:
        assert emulator.address == f"http://{LOOPBACK}:{port}"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(LOOPBACK, port)


async def test_it_can_be_stopped_before_it_was_started() -> None:
    await KmsEmulator().stop()


async def test_secrets_are_not_printed() -> None:
    key = KmsEmulator().administrator
    assert key.secret_access_key not in repr(key)
