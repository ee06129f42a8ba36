"""The emulated KMS in a thread of its own, with plain boto3 clients of it: boto3 blocks, the emulator must not be."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from byok_sandbox.kms.emulator import DEFAULT_ACCOUNT, KmsEmulator
from byok_sandbox.kms.identities import AccessKey, Identity
from byok_sandbox.kms.policies import parse_policy

REGION = "eu-central-1"
ACCOUNT = DEFAULT_ACCOUNT
OTHER_ACCOUNT = "444455556666"


class Aws:
    """A running emulator as somebody with boto3 sees it."""

    def __init__(self, emulator: KmsEmulator, stack: ExitStack) -> None:
        self.emulator = emulator
        self._stack = stack
        self._clients: dict[tuple[str, str, str], Any] = {}

    def kms(self, key: AccessKey | None = None, region: str = REGION) -> Any:  # noqa: ANN401 - made at run time
        return self._client("kms", key, region)

    def sts(self, key: AccessKey | None = None, region: str = REGION) -> Any:  # noqa: ANN401 - made at run time
        return self._client("sts", key, region)

    def role(self, name: str, *, account: str = ACCOUNT, actions: tuple[str, ...] = (), trust: str = "") -> AccessKey:
        """Make a role known, and credentials for it."""
        arn = f"arn:aws:iam::{account}:role/{name}"
        self.emulator.directory.put(Identity(arn, actions, trust_policy=parse_policy(trust) if trust else None))
        return self.emulator.directory.issue(arn)

    def new_key(self, spec: str = "ECC_NIST_P256", **parameters: Any) -> str:  # noqa: ANN401 - passed on to boto3
        """Create a signing key as the administrator and return its ARN."""
        answer = self.kms().create_key(**{"KeySpec": spec, "KeyUsage": "SIGN_VERIFY", **parameters})
        return str(answer["KeyMetadata"]["Arn"])

    def last_event(self) -> dict[str, Any]:
        return self.emulator.events.since()[-1]

    def _client(self, service: str, key: AccessKey | None, region: str) -> Any:  # noqa: ANN401 - boto3 has no base
        key = key or self.emulator.administrator
        name = (service, key.access_key_id, region)
        if name not in self._clients:
            session: Any = boto3.session.Session()
            client = session.client(
                service,
                region_name=region,
                endpoint_url=self.emulator.address,
                aws_access_key_id=key.access_key_id,
                aws_secret_access_key=key.secret_access_key,
                aws_session_token=key.session_token,
                config=Config(retries={"total_max_attempts": 1}),
            )
            self._clients[name] = self._stack.enter_context(closing(client))
        return self._clients[name]


@contextmanager
def running_emulator(*, events_file: Path | None = None, clock: Callable[[], float] = time.time) -> Iterator[Aws]:
    """Run an emulator until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kms-emulator")
    thread.start()
    emulator = KmsEmulator(events_file=events_file, clock=clock)
    try:
        asyncio.run_coroutine_threadsafe(emulator.start(), loop).result(30)
        with ExitStack() as stack:
            yield Aws(emulator, stack)
    finally:
        asyncio.run_coroutine_threadsafe(emulator.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def signed(
    aws: Aws, body: bytes = b"{}", *, service: str = "kms", target: str = "TrentService.ListKeys"
) -> dict[str, str]:
    """Sign a request of the administrator with botocore itself, to be sent by hand."""
    key = aws.emulator.administrator
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{aws.emulator.address}/", headers=headers, data=body)
    SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), service, REGION).add_auth(request)
    return {**dict(request.headers.items()), "Host": urlsplit(aws.emulator.address).netloc}


def code_of(error: ClientError) -> str:
    """Read the error code that AWS answered."""
    return str(error.response["Error"]["Code"])


def message_of(error: ClientError) -> str:
    """Read the message that AWS answered."""
    return str(error.response["Error"]["Message"])
