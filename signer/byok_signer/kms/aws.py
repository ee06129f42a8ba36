"""The Kms port on AWS KMS (AWS KMS API reference; AWS JSON 1.1 protocol)."""
# ruff: noqa: ASYNC109 - the timeout is spent over retries and replicas

import base64
import json
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee, session_tags
from byok_api.references import KeyArn
from byok_signer.kms import answers
from byok_signer.kms.calls import Call, Caller, Read, T
from byok_signer.kms.client import Identity, Observe, SignedClient
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.credentials import Frozen, OwnCredentials, default_chain
from byok_signer.kms.endpoints import Endpoints
from byok_signer.kms.errors import Action, KmsError
from byok_signer.kms.http1 import HttpAnswer
from byok_signer.kms.messages import Payload, payload_of_digest, payload_of_message, payload_of_nothing
from byok_signer.kms.port import Allowed, KeyDescription, KeyHandle, OnLost, PublicKeyAnswer, SignAnswer
from byok_signer.kms.roles import AssumedRoles, RoleIdentity
from byok_signer.kms.sts import Sts, account_of
from byok_signer.kms.transport import Transport


class AwsKms:
    """Calls KMS in the Region of each key's ARN, over one pool of connections; use it from one event loop."""

    def __init__(
        self,
        config: KmsConfig,
        *,
        chain: Callable[[], Frozen | None] = default_chain,
        observe: Observe = lambda _operation, _outcome, _seconds: None,
    ) -> None:
        self._config = config
        self._transport = Transport(config.ca_file, proxies=config.proxies)
        client, endpoints = SignedClient(self._transport, time.time, observe), Endpoints(config)
        self._own = OwnCredentials(chain)
        self._sts = Sts(client, endpoints, self._own, config.attempt_timeout)
        self._roles = AssumedRoles(self._sts.assume_role, config.installation)
        self._caller = Caller(client, endpoints, config)

    async def get_public_key(self, key: KeyHandle, *, timeout: float) -> PublicKeyAnswer:
        """Read the public key behind `key.arn`, resolving an alias."""
        if not key.arn.is_alias:
            _check_replicas(key, key.arn)

        def read(action: Action, arn: KeyArn, answer: HttpAnswer, request_id: str) -> PublicKeyAnswer:
            return answers.public_key_answer(action, answers.fields_of(action, answer), key, arn, request_id)

        call = self._call(key, "GetPublicKey", (key.arn, *key.replicas), "", read)
        return (await self._caller.run(call, timeout=timeout))[0]

    async def sign(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        message: bytes,
        timeout: float,
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        """Sign `message`, hashed here where the algorithm hashes; `MessageTooLong` beyond 4,096 bytes with Ed25519."""
        return await self._sign(key, algorithm, payload_of_message(key.name, algorithm, message), timeout, on_lost)

    async def sign_digest(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        digest: bytes,
        timeout: float,
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        """Sign a digest made elsewhere; `DigestMismatch` if its length is not the algorithm's, or it has none."""
        return await self._sign(key, algorithm, payload_of_digest(key.name, algorithm, digest), timeout, on_lost)

    async def try_sign(self, key: KeyHandle, algorithm: SigningAlgorithm, *, timeout: float) -> Allowed:
        """Ask with DryRun whether Sign is allowed; no signature is made."""
        return await self._ask(key, "Sign", _sign_members(algorithm, payload_of_nothing(key.name, algorithm)), timeout)

    async def try_create_grant(self, key: KeyHandle, *, timeout: float) -> Allowed:
        """Ask with DryRun whether CreateGrant is allowed, which it should not be."""
        arn = key.signing_arn
        # Some principal must be named; the key's own account is one that always exists.
        grantee = f"arn:{arn.partition}:iam::{arn.account}:root"
        return await self._ask(
            key, "CreateGrant", _members({"GranteePrincipal": grantee, "Operations": ["Sign"]}), timeout
        )

    async def try_get_key_policy(self, key: KeyHandle, *, timeout: float) -> Allowed:
        """Ask whether GetKeyPolicy is allowed, which it should not be."""
        call = self._call(key, "GetKeyPolicy", (key.signing_arn,), _members({"PolicyName": "default"}), _allowed)
        return (await self._caller.run(call, timeout=timeout))[0]

    async def describe_key(self, key: KeyHandle, *, timeout: float) -> KeyDescription:
        """Read facts that are nice to know; expect `KeyAccessDenied`."""

        def read(action: Action, arn: KeyArn, answer: HttpAnswer, request_id: str) -> KeyDescription:
            return answers.description_of(action, answers.fields_of(action, answer), arn, request_id)

        call = self._call(key, "DescribeKey", (key.arn,), "", read)
        return (await self._caller.run(call, timeout=timeout))[0]

    async def grantee(self, key: KeyHandle, *, timeout: float) -> Grantee:
        """Name the identity that calls KMS for this key, which its policy must allow."""
        own, role = await self._sts.own_arn(key, timeout=timeout), self._role_of(key)
        if role is None:
            return Grantee(own)
        return Grantee(role, session_tags(self._config.installation, key.name), assumed_by=own)

    async def calling_account(self, key: KeyHandle, *, timeout: float) -> str:
        """Name the account that this key's calls are charged to: 12 digits; the key's own if that cannot be told."""
        role = self._role_of(key)
        if role is not None:
            return account_of(role) or key.arn.account
        return await self._sts.own_account(key, timeout=timeout) or key.arn.account

    async def close(self) -> None:
        """Drop connections; calls in flight fail."""
        self._sts.close()
        self._roles.close()
        self._own.close()
        await self._transport.close()

    async def _sign(
        self, key: KeyHandle, algorithm: SigningAlgorithm, payload: Payload, timeout: float, on_lost: OnLost | None
    ) -> SignAnswer:
        signing_arn = key.signing_arn
        _check_replicas(key, signing_arn)

        def read(action: Action, arn: KeyArn, answer: HttpAnswer, request_id: str) -> tuple[KeyArn, bytes, bytes, str]:
            signature, der = answers.signature_of(action, answers.fields_of(action, answer), arn, algorithm)
            return arn, signature, der, request_id

        call = self._call(key, "Sign", (signing_arn, *key.replicas), _sign_members(algorithm, payload), read)
        call.on_lost = on_lost
        (arn, signature, der, request_id), attempts = await self._caller.run(call, timeout=timeout)
        return SignAnswer(signature, der, arn, request_id, attempts)

    async def _ask(self, key: KeyHandle, operation: str, members: str, timeout: float) -> Allowed:
        """Ask with DryRun about the key itself: a replica has a policy of its own."""
        members += _members({"DryRun": True})
        identity = partial(self._identity, key)
        call = Call(key, operation, (key.signing_arn,), members, _dry_run, identity, dry_run=True)
        return (await self._caller.run(call, timeout=timeout))[0]

    def _call(
        self, key: KeyHandle, operation: str, targets: tuple[KeyArn, ...], members: str, read: Read[T]
    ) -> Call[T]:
        return Call(key, operation, targets, members, read, partial(self._identity, key))

    def _identity(self, key: KeyHandle, arn: KeyArn) -> Identity:
        role = self._role_of(key)
        return self._own if role is None else RoleIdentity(self._roles, key, role, arn)

    def _role_of(self, key: KeyHandle) -> str | None:
        return key.role_arn or self._config.role_arn


def _members(fields: dict[str, object]) -> str:
    """Write members of a JSON object that has others before them."""
    return f",{json.dumps(fields)[1:-1]}"


def _sign_members(algorithm: SigningAlgorithm, payload: Payload) -> str:
    # No character of these has to be escaped.
    message = base64.b64encode(payload.data).decode()
    return f',"Message":"{message}","MessageType":"{payload.message_type}","SigningAlgorithm":"{algorithm.facts.kms}"'


def _allowed(_action: Action, _arn: KeyArn, _answer: HttpAnswer, request_id: str) -> Allowed:
    return Allowed(request_id)


def _dry_run(action: Action, _arn: KeyArn, answer: HttpAnswer, request_id: str) -> Allowed:
    if answer.status == HTTPStatus.OK:
        raise action.answer_invalid("the endpoint ignored DryRun, and did what it was only asked about")
    return Allowed(request_id)


def _check_replicas(key: KeyHandle, arn: KeyArn) -> None:
    for replica in key.replicas:
        if not answers.is_replica(replica, arn):
            raise KmsError(
                Reason.KeyInvalid,
                f"key {key.name}: {replica} is not a replica of {arn}, as both must be the same multi-Region key "
                "(mrk-...) of one account; correct spec.aws.replicas",
                metadata={"key": str(key.name)},
            )
