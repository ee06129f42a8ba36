"""Every operation that the emulated KMS does, and what each demands (AWS KMS API reference; key state table)."""

from collections.abc import Mapping
from types import MappingProxyType

from byok_sandbox.kms import granting, management, signing
from byok_sandbox.kms.calls import KEPT, USABLE, Operation

_ALL = (
    Operation(
        "Sign",
        signing.sign,
        required=("KeyId", "Message", "SigningAlgorithm"),
        states=USABLE,
        read_only=True,
        by_alias=True,
        cross_account=True,
        validate=signing.validate,
        check=signing.check_message,
        dry_run=True,
    ),
    Operation(
        "Verify",
        signing.verify,
        required=("KeyId", "Message", "Signature", "SigningAlgorithm"),
        states=USABLE,
        read_only=True,
        by_alias=True,
        cross_account=True,
        validate=signing.validate,
        check=signing.check_message,
        dry_run=True,
    ),
    Operation(
        "GetPublicKey",
        signing.get_public_key,
        states=USABLE,
        read_only=True,
        by_alias=True,
        cross_account=True,
        check=signing.check_asymmetric,
    ),
    Operation("DescribeKey", management.describe_key, read_only=True, by_alias=True, cross_account=True),
    Operation(
        "CreateGrant",
        granting.create_grant,
        required=("KeyId", "Operations"),
        states=USABLE,
        cross_account=True,
        check=granting.check_terms,
        dry_run=True,
    ),
    Operation("ListGrants", granting.list_grants, read_only=True, cross_account=True),
    Operation(
        "RevokeGrant",
        granting.revoke_grant,
        required=("KeyId", "GrantId"),
        cross_account=True,
        check=granting.check_grant_id,
        dry_run=True,
    ),
    Operation("CreateKey", management.create_key, required=(), keys=()),
    Operation("ReplicateKey", management.replicate_key, required=("KeyId", "ReplicaRegion"), states=USABLE),
    Operation("PutKeyPolicy", management.put_key_policy, required=("KeyId", "Policy")),
    Operation("GetKeyPolicy", management.get_key_policy, read_only=True),
    Operation("ScheduleKeyDeletion", management.schedule_key_deletion, states=KEPT),
    Operation("CancelKeyDeletion", management.forward, states=frozenset({"PendingDeletion"})),
    Operation("EnableKey", management.forward, states=frozenset({"Disabled", "Enabled"})),
    Operation("DisableKey", management.forward, states=frozenset({"Disabled", "Enabled"})),
    Operation("UpdateKeyDescription", management.forward, required=("KeyId", "Description"), states=KEPT),
    Operation(
        "CreateAlias",
        management.forward,
        required=("AliasName", "TargetKeyId"),
        keys=("TargetKeyId",),
        states=KEPT,
    ),
    Operation(
        "UpdateAlias",
        management.forward,
        required=("AliasName", "TargetKeyId"),
        keys=("TargetKeyId", "AliasName"),
        states=KEPT,
    ),
    Operation("DeleteAlias", management.forward, required=("AliasName",), keys=("AliasName",)),
    Operation("ListAliases", management.forward, required=(), read_only=True),
    Operation("ListKeys", management.forward, required=(), keys=(), read_only=True),
    Operation("ListKeyPolicies", management.forward, read_only=True),
    Operation("ListResourceTags", management.forward, read_only=True),
    Operation("TagResource", management.forward, required=("KeyId", "Tags"), states=KEPT),
    Operation("UntagResource", management.forward, required=("KeyId", "TagKeys"), states=KEPT),
)

RETIRE_GRANT = Operation("RetireGrant", granting.retire_grant, required=(), keys=())
"""Not decided by the key policy but by the grant itself."""

_NOT_EMULATED = (
    "ConnectCustomKeyStore",
    "CreateCustomKeyStore",
    "Decapsulate",
    "Decrypt",
    "DeleteCustomKeyStore",
    "DeleteImportedKeyMaterial",
    "DeriveSharedSecret",
    "DescribeCustomKeyStores",
    "DisableKeyRotation",
    "DisconnectCustomKeyStore",
    "EnableKeyRotation",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GenerateRandom",
    "GetKeyLastUsage",
    "GetKeyRotationStatus",
    "GetParametersForImport",
    "ImportKeyMaterial",
    "ListKeyRotations",
    "ListRetirableGrants",
    "ReEncrypt",
    "RotateKeyOnDemand",
    "UpdateCustomKeyStore",
    "UpdatePrimaryRegion",
    "VerifyMac",
)

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {operation.name: operation for operation in (*_ALL, RETIRE_GRANT)}
    | {name: Operation(name, management.unsupported(name), required=(), keys=()) for name in _NOT_EMULATED},
)
