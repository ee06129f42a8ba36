"""The Kms port over keys in this process, for tests: nothing in the signer's settings leads here.

It refuses as AWS KMS does, by the same error codes and the same table, and signs with the emulated KMS's data plane.
"""
# ruff: noqa: ASYNC109 - the port's timeouts; nothing here takes time

import asyncio
import uuid
from dataclasses import dataclass

from byok_api.algorithms import SigningAlgorithm, algorithms_of
from byok_api.audit import Attempt, Outcome
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee, session_tags
from byok_api.references import KeyArn
from byok_api.signatures import p1363_from_der
from byok_sandbox.kms.keys import AlgorithmMismatchError, SoftwareKey
from byok_signer.kms.errors import Action, KmsError, Verdict, told_of_attempts, verdict_for
from byok_signer.kms.messages import Payload, payload_of_digest, payload_of_message, payload_of_nothing
from byok_signer.kms.port import (
    Allowed,
    KeyDescription,
    KeyHandle,
    OnLost,
    PublicKeyAnswer,
    SignAnswer,
)

ACCOUNT = "111122223333"
SIGNER = f"arn:aws:iam::{ACCOUNT}:role/byok-signer"
INSTALLATION = "sandbox"
GRANTED = frozenset({"Sign", "GetPublicKey"})


@dataclass
class StoredKey:
    """A key, what its owner made of it, and what its policy grants the signer."""

    arn: KeyArn
    material: SoftwareKey
    state: str = "Enabled"
    granted: frozenset[str] = GRANTED


class KeyStore:
    """The owners' side: keys are made, pointed to by aliases, changed and withdrawn here."""

    def __init__(self) -> None:
        self._keys: dict[str, StoredKey] = {}
        self._aliases: dict[str, StoredKey] = {}

    def create(self, spec: str, *, region: str = "eu-central-1", multi_region: bool = False) -> StoredKey:
        """Make a key that the signer may use; NotEmulatedError for a spec with which KMS cannot sign."""
        key_id = f"mrk-{uuid.uuid4().hex}" if multi_region else str(uuid.uuid4())
        return self._store(f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}", SoftwareKey.generate(spec))

    def replicate(self, key: StoredKey, region: str) -> StoredKey:
        """Make a multi-Region key available in another Region."""
        return self._store(key.arn.text.replace(f":{key.arn.region}:", f":{region}:", 1), key.material)

    def point(self, alias: str, key: StoredKey) -> KeyArn:
        """Point an alias, new or not, to a key of its Region."""
        arn = KeyArn(f"arn:aws:kms:{key.arn.region}:{ACCOUNT}:alias/{alias}")
        self._aliases[arn.text] = key
        return arn

    def find(self, arn: KeyArn) -> StoredKey:
        """Find a key by its ARN; KeyError if there is none."""
        return self._keys[arn.text]

    def use(self, key: KeyHandle, operation: str, arn: KeyArn, timeout: float) -> tuple[StoredKey, str]:
        """Find a key and a request id for an operation; KmsError as AWS KMS would refuse it."""
        action, request_id = Action(key.name, f"kms:{operation}", arn.text), str(uuid.uuid4())
        if timeout <= 0:
            raise action.refused(Verdict(Reason.KmsDeadlineExceeded, Outcome.UNKNOWN), "no time was given")
        stored = self._aliases.get(arn.text) or self._keys.get(arn.text)
        code = _refusal_of(stored, operation)
        if stored is None or code is not None:
            raise _refused(action, code or "NotFoundException", request_id)
        return stored, request_id

    def use_to_sign(
        self, key: KeyHandle, arn: KeyArn, algorithm: SigningAlgorithm, payload: Payload, timeout: float
    ) -> tuple[StoredKey, str]:
        """Find a key for Sign, and check that it can sign this."""
        stored, request_id = self.use(key, "Sign", arn, timeout)
        try:
            stored.material.check(algorithm.facts.kms, payload.data, payload.message_type)
        except AlgorithmMismatchError as error:
            action = Action(key.name, "kms:Sign", arn.text)
            raise _refused(action, "InvalidKeyUsageException", request_id) from error
        return stored, request_id

    def _store(self, arn: str, material: SoftwareKey) -> StoredKey:
        self._keys[arn] = stored = StoredKey(KeyArn(arn), material)
        return stored


def _refusal_of(stored: StoredKey | None, operation: str) -> str | None:
    if stored is None:
        return "NotFoundException"
    if operation not in stored.granted:
        return "AccessDeniedException"
    # KMS developer guide, "Key states of AWS KMS keys".
    if operation in ("DescribeKey", "GetKeyPolicy"):
        return None
    return {"Enabled": None, "Disabled": "DisabledException"}.get(stored.state, "KMSInvalidStateException")


def _refused(action: Action, code: str, request_id: str) -> KmsError:
    refusal = action.refused(verdict_for(code), code)
    return told_of_attempts(refusal, (Attempt(request_id, Outcome.FAILED),))


@dataclass
class SoftwareKms:
    """Signs with the keys of a store; a key's replicas are never needed, for nothing here fails."""

    keys: KeyStore

    async def get_public_key(self, key: KeyHandle, *, timeout: float) -> PublicKeyAnswer:
        """Read the public key behind `key.arn`, resolving an alias."""
        stored, request_id = self.keys.use(key, "GetPublicKey", key.arn, timeout)
        material = stored.material
        named = tuple(a for a in algorithms_of(material.spec) if a.facts.kms in material.algorithms)
        return PublicKeyAnswer(stored.arn, material.spki, material.spec, "SIGN_VERIFY", named, request_id)

    async def sign(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        message: bytes,
        timeout: float,
        on_lost: OnLost | None = None,  # noqa: ARG002 - the port's; no answer is ever lost here
    ) -> SignAnswer:
        """Sign `message`, hashed here where the algorithm hashes; `MessageTooLong` beyond 4,096 bytes with Ed25519."""
        return await self._sign(key, algorithm, payload_of_message(key.name, algorithm, message), timeout)

    async def sign_digest(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        digest: bytes,
        timeout: float,
        on_lost: OnLost | None = None,  # noqa: ARG002 - the port's; no answer is ever lost here
    ) -> SignAnswer:
        """Sign a digest made elsewhere; `DigestMismatch` if its length is not the algorithm's, or it has none."""
        return await self._sign(key, algorithm, payload_of_digest(key.name, algorithm, digest), timeout)

    async def try_sign(self, key: KeyHandle, algorithm: SigningAlgorithm, *, timeout: float) -> Allowed:
        """Ask with DryRun whether Sign is allowed; no signature is made."""
        payload = payload_of_nothing(key.name, algorithm)
        return Allowed(self.keys.use_to_sign(key, key.signing_arn, algorithm, payload, timeout)[1])

    async def try_create_grant(self, key: KeyHandle, *, timeout: float) -> Allowed:
        """Ask with DryRun whether CreateGrant is allowed, which it should not be."""
        return Allowed(self.keys.use(key, "CreateGrant", key.signing_arn, timeout)[1])

    async def try_get_key_policy(self, key: KeyHandle, *, timeout: float) -> Allowed:
        """Ask whether GetKeyPolicy is allowed, which it should not be."""
        return Allowed(self.keys.use(key, "GetKeyPolicy", key.signing_arn, timeout)[1])

    async def describe_key(self, key: KeyHandle, *, timeout: float) -> KeyDescription:
        """Read facts that are nice to know; expect `KeyAccessDenied`."""
        stored, request_id = self.keys.use(key, "DescribeKey", key.arn, timeout)
        return KeyDescription(stored.arn, stored.state, "AWS_KMS", "/mrk-" in stored.arn.text, request_id)

    async def grantee(self, key: KeyHandle, *, timeout: float) -> Grantee:  # noqa: ARG002 - the port's; always known
        """Name the identity that calls KMS for this key, which its policy must allow."""
        if key.role_arn is None:
            return Grantee(SIGNER)
        return Grantee(key.role_arn, session_tags(INSTALLATION, key.name), assumed_by=SIGNER)

    async def calling_account(self, key: KeyHandle, *, timeout: float) -> str:  # noqa: ARG002 - the port's
        """Name the account that this key's calls are charged to: 12 digits."""
        return (key.role_arn or SIGNER).split(":")[4]

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def _sign(self, key: KeyHandle, algorithm: SigningAlgorithm, payload: Payload, timeout: float) -> SignAnswer:
        arn = key.signing_arn
        stored, request_id = self.keys.use_to_sign(key, arn, algorithm, payload, timeout)
        # An RSA signature takes milliseconds, which is long for an event loop.
        signature = await asyncio.to_thread(
            stored.material.sign, algorithm.facts.kms, payload.data, payload.message_type
        )
        der = signature if algorithm.facts.coordinate_size else b""
        attempts = (Attempt(request_id, Outcome.SIGNED),)
        return SignAnswer(p1363_from_der(der, algorithm) if der else signature, der, stored.arn, request_id, attempts)
