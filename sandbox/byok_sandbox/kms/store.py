"""The keys, in memory: moto holds metadata, aliases, tags and key policies; material and grants are kept here.

moto's own faults are kept out by not letting it near what it gets wrong: it never sees a key's material, and what it
answers about a key is made here. Each store has moto backends of its own, so that two emulators share nothing.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.models import Key, KmsBackend
from moto.kms.responses import KmsResponse
from moto.utilities.tagging_service import TaggingService

from byok_sandbox.kms.arns import KeyReference
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.grants import Grant
from byok_sandbox.kms.keys import ALGORITHMS_BY_SPEC, SoftwareKey

# What moto generates for this spec costs next to nothing and is never used: SoftwareKey makes the material.
_STAND_IN_SPEC = "ECC_NIST_P256"


@dataclass
class Material:
    """What a key shares with its replicas in other Regions."""

    key: SoftwareKey | None
    """None until material is imported, and for keys that are not asymmetric."""
    primary_region: str


@dataclass
class StoredKey:
    """A KMS key in one Region."""

    moto: Key
    material: Material
    tagger: TaggingService
    grants: dict[str, Grant] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """The key ARN."""
        return str(self.moto.arn)

    @property
    def account(self) -> str:
        """The account that owns the key."""
        return str(self.moto.account_id)

    @property
    def state(self) -> str:
        """`Enabled`, `Disabled`, `PendingDeletion` or `PendingImport`."""
        return str(self.moto.key_state)

    @property
    def usage(self) -> str:
        """`SIGN_VERIFY` for signing keys."""
        return str(self.moto.key_usage)

    @property
    def spec(self) -> str:
        """The key spec."""
        return str(self.moto.key_spec)

    @property
    def policy(self) -> str:
        """The key policy, JSON."""
        return str(self.moto.policy)

    @property
    def tags(self) -> Mapping[str, str]:
        """The key's tags."""
        return dict(self.tagger.get_tag_dict_for_resource(self.moto.id))

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names of the aliases that point to it now."""
        return tuple(self.moto.aliases)


@dataclass(frozen=True)
class NewKey:
    """What CreateKey was asked for."""

    spec: str
    usage: str
    policy: str | None
    description: str
    multi_region: bool
    origin: str
    tags: list[dict[str, str]]


class _Response(KmsResponse):
    def __init__(self, backend: KmsBackend, body: str) -> None:
        super().__init__()
        self.body = body
        self.region = backend.region_name
        self.current_account = backend.account_id
        self._backend = backend

    @property
    def kms_backend(self) -> KmsBackend:
        return self._backend


class KeyStore:
    """Every key of every account and Region."""

    def __init__(self) -> None:
        self._backends: dict[tuple[str, str], KmsBackend] = {}
        self._keys: dict[tuple[str, str, str], StoredKey] = {}

    def find(self, reference: KeyReference) -> StoredKey | None:
        """Find the key that a reference points to now."""
        key_id = reference.key_id or self._alias_target(reference)
        return self._keys.get((reference.account, reference.region, key_id)) if key_id else None

    def create(self, account: str, region: str, new: NewKey, material: SoftwareKey | None) -> StoredKey:
        """Add a key."""
        backend = self._backend(account, region)
        key = backend.create_key(
            new.policy, new.usage, _STAND_IN_SPEC, new.description, new.tags, new.multi_region, new.origin
        )
        key.key_spec = new.spec
        if new.origin == "EXTERNAL":
            key.key_state, key.enabled = "PendingImport", False
        held = Material(None if new.origin == "EXTERNAL" else material, region)
        return self._keep(StoredKey(key, held, backend.tagger))

    def adopt(self, reference: KeyReference, material: SoftwareKey) -> StoredKey:
        """Add a signing key that was made before, under the id that it had; AwsFaultError if one has it."""
        if reference.key_id is None or self.find(reference) is not None:
            raise AwsFaultError("AlreadyExistsException", f"{reference.arn} is there, or no key's ARN.")
        new = NewKey(material.spec, "SIGN_VERIFY", None, "", multi_region=False, origin="AWS_KMS", tags=[])
        stored = self.create(reference.account, reference.region, new, material)
        keys, key = self._backend(reference.account, reference.region).keys, stored.moto
        del keys[key.id], self._keys[reference.account, reference.region, str(key.id)]
        key.id, key.arn = reference.key_id, reference.arn
        keys[key.id] = key
        return self._keep(stored)

    def replicate(self, primary: StoredKey, region: str, *, policy: str | None, description: str) -> StoredKey:
        """Add a replica with the same id and material in another Region; it has its own policy, aliases and grants."""
        key = copy.copy(primary.moto)
        key.region = region
        key.arn = KeyReference(primary.account, region, key.id, None).arn
        key.policy = policy or key.generate_default_policy()
        key.description, key.aliases, key.grants, key.rotations = description, {}, {}, []
        backend = self._backend(primary.account, region)
        backend.keys[key.id] = key
        return self._keep(StoredKey(key, primary.material, backend.tagger))

    def related(self, key: StoredKey) -> Iterator[StoredKey]:
        """List a multi-Region key and all that share its material, in order of their Regions."""
        for (account, _, key_id), stored in sorted(self._keys.items()):
            if (account, key_id) == (key.account, key.moto.id):
                yield stored

    def grants(self) -> Iterator[tuple[StoredKey, Grant]]:
        """List every grant on every key."""
        for stored in self._keys.values():
            for grant in stored.grants.values():
                yield stored, grant

    def forward(self, account: str, region: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Let moto answer an operation; AwsFaultError for what it refuses or cannot make sense of."""
        response = _Response(self._backend(account, region), json.dumps(parameters))
        method = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation)[1:]
        try:
            answer = json.loads(getattr(response, method)()) or {}
        except JsonRESTError as error:
            raise AwsFaultError(error.error_type, error.message) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # moto does not check types and presence of parameters, it trips over them.
            raise AwsFaultError("ValidationException", f"The parameters of {operation} are not valid.") from error
        return dict(answer)

    def _alias_target(self, reference: KeyReference) -> str | None:
        for key in self._backend(reference.account, reference.region).keys.values():
            if reference.alias in key.aliases:
                return str(key.id)
        return None

    def _backend(self, account: str, region: str) -> KmsBackend:
        found = self._backends.get((account, region))
        if found is None:
            found = self._backends[account, region] = KmsBackend(region, account)
        return found

    def _keep(self, stored: StoredKey) -> StoredKey:
        self._keys[stored.account, str(stored.moto.region), str(stored.moto.id)] = stored
        return stored


def metadata_of(key: StoredKey, related: Iterator[StoredKey]) -> dict[str, Any]:
    """Describe a key as DescribeKey, CreateKey and ReplicateKey do (AWS KMS API reference, KeyMetadata)."""
    moto = key.moto
    metadata = {
        "AWSAccountId": key.account,
        "Arn": key.arn,
        "CreationDate": moto.creation_date,
        "CustomerMasterKeySpec": key.spec,
        "Description": moto.description,
        "Enabled": key.state == "Enabled",
        "KeyId": moto.id,
        "KeyManager": "CUSTOMER",
        "KeySpec": key.spec,
        "KeyState": key.state,
        "KeyUsage": key.usage,
        "MultiRegion": bool(moto.multi_region),
        "Origin": moto.origin,
        **algorithms_of(key),
    }
    if moto.origin == "EXTERNAL" and key.state != "PendingImport":
        metadata["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE"
    if key.state == "PendingDeletion" and isinstance(moto.deletion_date, datetime):
        metadata["DeletionDate"] = moto.deletion_date.timestamp()
    if moto.multi_region:
        regions = [{"Arn": each.arn, "Region": each.moto.region} for each in related]
        primary = key.material.primary_region
        metadata["MultiRegionConfiguration"] = {
            "MultiRegionKeyType": "PRIMARY" if moto.region == primary else "REPLICA",
            "PrimaryKey": next(each for each in regions if each["Region"] == primary),
            "ReplicaKeys": [each for each in regions if each["Region"] != primary],
        }
    return metadata


def algorithms_of(key: StoredKey) -> dict[str, list[str]]:
    """List what a key can be used for, under the name that KMS gives the list for its usage."""
    if key.usage == "SIGN_VERIFY":
        return {"SigningAlgorithms": list(ALGORITHMS_BY_SPEC[key.spec])}
    if key.usage == "GENERATE_VERIFY_MAC":
        return {"MacAlgorithms": [key.spec.replace("HMAC_", "HMAC_SHA_")]}
    if key.usage == "KEY_AGREEMENT":
        return {"KeyAgreementAlgorithms": ["ECDH"]}
    symmetric = key.spec == "SYMMETRIC_DEFAULT"
    return {"EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"] if symmetric else ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]}
