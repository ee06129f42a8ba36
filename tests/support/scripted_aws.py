"""AwsKms on a server that answers as a script says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import ec

from byok_api.audit import Attempt
from byok_api.references import KeyArn, ObjectName
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.port import KeyHandle
from tests.support.scripted_kms import Reply, ScriptedServer, scripted_server, signing_reply

PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1())
PLACE = "arn:aws:kms:eu-central-1:111122223333"
ARN = KeyArn(f"{PLACE}:key/k-1")
KEY = KeyHandle(name=ObjectName("team", "photo"), arn=ARN, external_id="byok:test:team/photo")
GOOD = signing_reply(PRIVATE_KEY)
SESSION = (
    b"<AssumeRoleResponse><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>"
    b"<SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResponse>"
)
STATIC = Credentials("AKIATEST", "hush", "token")


@asynccontextmanager
async def kms_on(
    *script: Reply, retries: int = 0, patience: float = 5.0
) -> AsyncIterator[tuple[AwsKms, ScriptedServer]]:
    async with scripted_server(*script) as server:
        config = KmsConfig(installation="test", endpoint=server.url, retries=retries, attempt_timeout=patience)
        kms = AwsKms(config, chain=lambda: STATIC)
        try:
            yield kms, server
        finally:
            await kms.close()


def outcomes(attempts: tuple[Attempt, ...]) -> list[str]:
    return [f"{attempt.kms_request_id}:{attempt.outcome}" for attempt in attempts]
