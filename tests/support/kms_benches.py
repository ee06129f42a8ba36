"""Every Kms implementation together with what a key's owner does to keys behind it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
from botocore.credentials import Credentials

from byok_api.algorithms import SigningAlgorithm
from byok_api.keypolicy import Grantee, Statement, public_key_statement, sign_statement
from byok_api.references import KeyArn, ObjectName
from byok_sandbox.kms.emulator import DEFAULT_ACCOUNT, KmsEmulator
from byok_sandbox.kms.identities import AccessKey, Identity
from byok_sandbox.software_kms import GRANTED, KeyStore, SoftwareKms
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.port import KeyHandle, Kms, external_id_for

INSTALLATION = "test"
NAME = ObjectName("team", "photo")
SIGNER_ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/byok-signer"
REGION = "eu-central-1"


def handle(arn: KeyArn, **more: Any) -> KeyHandle:  # noqa: ANN401 - fields of KeyHandle
    return KeyHandle(name=NAME, arn=arn, external_id=external_id_for(INSTALLATION, NAME), **more)


class Bench(Protocol):
    """A Kms, and the hands of a key's owner."""

    @property
    def kms(self) -> Kms: ...

    async def create(self, spec: str) -> KeyArn:
        """Make a key that the signer may use."""
        ...

    async def point(self, alias: str, arn: KeyArn) -> KeyArn:
        """Make an alias, or move it."""
        ...

    async def disable(self, arn: KeyArn) -> None: ...

    async def schedule_deletion(self, arn: KeyArn) -> None: ...

    async def grant(self, arn: KeyArn, operations: frozenset[str]) -> None:
        """Let the signer do this much and no more."""
        ...


@dataclass
class SoftwareBench:
    kms: SoftwareKms

    async def create(self, spec: str) -> KeyArn:
        return self.kms.keys.create(spec).arn

    async def point(self, alias: str, arn: KeyArn) -> KeyArn:
        return self.kms.keys.point(alias, self.kms.keys.find(arn))

    async def disable(self, arn: KeyArn) -> None:
        self.kms.keys.find(arn).state = "Disabled"

    async def schedule_deletion(self, arn: KeyArn) -> None:
        self.kms.keys.find(arn).state = "PendingDeletion"

    async def grant(self, arn: KeyArn, operations: frozenset[str]) -> None:
        self.kms.keys.find(arn).granted = operations


@dataclass
class EmulatorBench:
    """AwsKms on the emulated KMS, whose administrator owns the keys and speaks through boto3."""

    kms: AwsKms
    emulator: KmsEmulator

    async def create(self, spec: str) -> KeyArn:
        answer = await self.administer("create_key", KeySpec=spec, KeyUsage="SIGN_VERIFY")
        arn = KeyArn(answer["KeyMetadata"]["Arn"])
        await self.grant(arn, GRANTED)
        return arn

    async def point(self, alias: str, arn: KeyArn) -> KeyArn:
        name = f"alias/{alias}"
        known = await self.administer("list_aliases")
        verb = "update_alias" if name in {entry["AliasName"] for entry in known["Aliases"]} else "create_alias"
        await self.administer(verb, AliasName=name, TargetKeyId=arn.text)
        return KeyArn(f"arn:aws:kms:{arn.region}:{arn.account}:{name}")

    async def disable(self, arn: KeyArn) -> None:
        await self.administer("disable_key", KeyId=arn.text)

    async def schedule_deletion(self, arn: KeyArn) -> None:
        await self.administer("schedule_key_deletion", KeyId=arn.text)

    async def grant(self, arn: KeyArn, operations: frozenset[str]) -> None:
        await self.put_policy(arn, [made for operation in operations for made in _statements(operation)])

    async def put_policy(self, arn: KeyArn, statements: list[Statement]) -> None:
        root = {"Effect": "Allow", "Principal": {"AWS": arn.account}, "Action": "kms:*", "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [root, *statements]}
        await self.administer("put_key_policy", KeyId=arn.text, PolicyName="default", Policy=json.dumps(policy))

    async def administer(self, verb: str, **parameters: Any) -> Any:  # noqa: ANN401 - boto3's
        return await asyncio.to_thread(getattr(self._client(), verb), **parameters)

    def _client(self) -> Any:  # noqa: ANN401 - boto3's
        administrator = self.emulator.administrator
        return boto3.client(
            "kms",
            region_name=REGION,
            endpoint_url=self.emulator.address,
            aws_access_key_id=administrator.access_key_id,
            aws_secret_access_key=administrator.secret_access_key,
        )


def _statements(operation: str) -> list[Statement]:
    signer = Grantee(SIGNER_ROLE)
    match operation:
        case "GetPublicKey":
            return [public_key_statement(signer)]
        case "Sign":
            return [sign_statement(signer, algorithm) for algorithm in SigningAlgorithm]
        case _:
            return [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": SIGNER_ROLE},
                    "Action": f"kms:{operation}",
                    "Resource": "*",
                }
            ]


def chain_of(key: AccessKey) -> Callable[[], Credentials]:
    """The credentials that the signer finds."""
    return lambda: Credentials(key.access_key_id, key.secret_access_key, key.session_token)


@asynccontextmanager
async def software_bench() -> AsyncIterator[Bench]:
    yield SoftwareBench(SoftwareKms(KeyStore()))


@asynccontextmanager
async def emulator_bench() -> AsyncIterator[EmulatorBench]:
    async with KmsEmulator() as emulator:
        emulator.directory.put(Identity(SIGNER_ROLE))
        credentials = emulator.directory.issue(SIGNER_ROLE)
        config = KmsConfig(installation=INSTALLATION, endpoint=emulator.address)
        kms = AwsKms(config, chain=chain_of(credentials))
        try:
            yield EmulatorBench(kms, emulator)
        finally:
            await kms.close()


BENCHES: dict[str, Callable[[], AbstractAsyncContextManager[Bench]]] = {
    "software": software_bench,
    "aws-on-emulator": emulator_bench,
}
