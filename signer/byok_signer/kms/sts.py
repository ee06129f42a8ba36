"""What is asked of AWS STS as the signer's own identity (AWS STS API reference; AWS query protocol)."""
# ruff: noqa: ASYNC109 - the timeout is told to the client

import asyncio
import contextlib
import re
import time
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from byok_api.references import KeyArn
from byok_signer.kms.answers import sts_error_of
from byok_signer.kms.client import Identity, Request, SignedClient
from byok_signer.kms.credentials import SingleFlight
from byok_signer.kms.endpoints import Endpoints
from byok_signer.kms.errors import Action, KmsError
from byok_signer.kms.port import KeyHandle

VERSION = "2011-06-15"
_ARN_LIMIT = 2048
_ASK_AGAIN = 60.0
"""Seconds."""
_ACCOUNT = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::([0-9]{12}):.+")
_SESSION_ARN = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/[^/]+")


class Sts:
    """Asks STS in the Region of the key at hand."""

    def __init__(self, client: SignedClient, endpoints: Endpoints, own: Identity, timeout: float) -> None:
        self._client = client
        self._endpoints = endpoints
        self._own = own
        self._timeout = timeout
        self._own_arn: str | None = None
        self._flight = SingleFlight()
        self._failed_at: float | None = None

    async def assume_role(self, action: Action, arn: KeyArn, body: bytes) -> bytes:
        """Answer STS's XML; KmsError as the table says."""
        return await self._post(action, arn, body, self._timeout)

    async def own_arn(self, key: KeyHandle, *, timeout: float) -> str:
        """Name the signer's own identity as a policy must: a role's ARN without its path, which STS does not tell."""
        if self._own_arn is None:
            action = Action(key.name, "sts:GetCallerIdentity", "the signer's own identity")
            body = urlencode({"Action": "GetCallerIdentity", "Version": VERSION}).encode()
            self._own_arn = _arn_of(action, await self._post(action, key.arn, body, timeout))
        return self._own_arn

    async def own_account(self, key: KeyHandle, *, timeout: float) -> str | None:
        """Name the account of the signer's own identity; None if STS does not tell, for which only the first wait."""
        if self._own_arn is None:
            now = time.monotonic()
            if self._failed_at is None:
                with contextlib.suppress(KmsError, TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._flight.run(lambda: self._learn(key))
            elif now - self._failed_at >= _ASK_AGAIN:
                self._failed_at = now
                self._flight.start(lambda: self._learn(key))
        return account_of(self._own_arn or "")

    def close(self) -> None:
        """Stop asking."""
        self._flight.cancel()

    async def _learn(self, key: KeyHandle) -> None:
        try:
            await self.own_arn(key, timeout=self._timeout)
        except KmsError:
            self._failed_at = time.monotonic()
            raise

    async def _post(self, action: Action, arn: KeyArn, body: bytes, timeout: float) -> bytes:
        request = Request(action, self._endpoints.sts(arn), body, sts_error_of)
        return (await self._client.post(request, self._own, timeout=timeout)).body


def account_of(arn: str) -> str | None:
    """Read the account out of the ARN of an identity."""
    found = _ACCOUNT.fullmatch(arn)
    return found[1] if found else None


def _arn_of(action: Action, answer: bytes) -> str:
    try:
        root = ET.fromstring(answer)  # noqa: S314 - from STS over TLS, of limited size; expat bounds entities
    except ET.ParseError as error:
        raise action.answer_invalid("the answer is not XML") from error
    arn = root.findtext(".//{*}Arn") or ""
    if not arn.startswith("arn:") or len(arn) > _ARN_LIMIT:
        raise action.answer_invalid("the answer has no ARN")
    session = _SESSION_ARN.fullmatch(arn)
    return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}" if session else arn
