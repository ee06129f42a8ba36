"""CreateKey and the operations on metadata that moto alone does not do as KMS does."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from byok_sandbox.kms.arns import REGION, KeyReference, partition_of
from byok_sandbox.kms.authorization import check_lockout
from byok_sandbox.kms.calls import Handler, KmsCall
from byok_sandbox.kms.faults import AwsFaultError, invalid_value
from byok_sandbox.kms.keys import ALGORITHMS_BY_SPEC, SoftwareKey
from byok_sandbox.kms.policies import Policy, PolicyError, parse_policy
from byok_sandbox.kms.store import KeyStore, NewKey, metadata_of

_DESCRIPTION_LIMIT = 8192
_WINDOW_DAYS = range(7, 31)
_TAG = re.compile(r"[\w\s+=.:/@-]{0,256}")
_TAG_LIMIT = 50
_SIGN = frozenset({"SIGN_VERIFY"})
_AGREE = frozenset({"KEY_AGREEMENT"})
_ENCRYPT = frozenset({"ENCRYPT_DECRYPT"})
_MAC = frozenset({"GENERATE_VERIFY_MAC"})
_USAGES: Mapping[str, frozenset[str]] = {
    "SYMMETRIC_DEFAULT": _ENCRYPT,
    **dict.fromkeys(("HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"), _MAC),
    **dict.fromkeys(("RSA_2048", "RSA_3072", "RSA_4096"), _SIGN | _ENCRYPT),
    **dict.fromkeys(("ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"), _SIGN | _AGREE),
    **dict.fromkeys(("ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519"), _SIGN),
}
_NOT_EMULATED = frozenset(
    {"SM2", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"},
)


async def create_key(store: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Make a key; asymmetric material is generated off the event loop."""
    new = _new_key(call)
    if new.policy is not None:
        any_key = KeyReference(call.caller.account, call.region, "new", None)
        check_lockout(call, read_policy(new.policy), any_key.arn)
    material = None
    if new.spec in ALGORITHMS_BY_SPEC and new.origin == "AWS_KMS":
        material = await asyncio.to_thread(SoftwareKey.generate, new.spec)
    key = store.create(call.caller.account, call.region, new, material)
    call.keys.append(key)
    return {"KeyMetadata": metadata_of(key, store.related(key))}


async def describe_key(store: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Describe a key."""
    return {"KeyMetadata": metadata_of(call.key, store.related(call.key))}


async def replicate_key(store: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Make a replica of a multi-Region primary key in another Region of its partition."""
    region, primary = call.text("ReplicaRegion"), call.key
    if not primary.moto.multi_region or primary.material.primary_region != call.region:
        raise AwsFaultError("UnsupportedOperationException", f"{primary.arn} is not a multi-Region primary key.")
    if REGION.fullmatch(region) is None or partition_of(region) != partition_of(call.region):
        raise AwsFaultError("ValidationException", f"Replica Region {region[:40]!r} is not valid.")
    if any(str(key.moto.region) == region for key in store.related(primary)):
        raise AwsFaultError("AlreadyExistsException", f"{primary.arn} already has a key in {region}.")
    policy = call.parameters.get("Policy")
    if policy is not None:
        check_lockout(call, read_policy(policy), KeyReference(primary.account, region, str(primary.moto.id), None).arn)
    replica = store.replicate(primary, region, policy=policy, description=call.text("Description"))
    call.keys.append(replica)
    return {
        "ReplicaKeyMetadata": metadata_of(replica, store.related(replica)),
        "ReplicaPolicy": replica.policy,
        "ReplicaTags": [],
    }


async def put_key_policy(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Replace the key policy; it counts from the next call on."""
    _check_policy_name(call)
    text = call.text("Policy")
    check_lockout(call, read_policy(text), call.key.arn)
    call.key.moto.policy = text
    return {}


async def get_key_policy(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Answer the key policy."""
    _check_policy_name(call)
    return {"Policy": call.key.policy, "PolicyName": "default"}


async def schedule_key_deletion(store: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Start the waiting time after which a key is deleted."""
    days = call.parameters.get("PendingWindowInDays", 30)
    if days not in _WINDOW_DAYS:
        raise invalid_value(str(days), "pendingWindowInDays", "Member must be from 7 to 30")
    answer = await forward(store, call)
    return {**answer, "KeyState": call.key.state, "PendingWindowInDays": days}


async def forward(store: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Let moto do it: it is told plain key ids, and names keys by ARN in its answer as KMS does."""
    named = dict(zip([name for name in call.operation.keys if name in call.parameters], call.keys, strict=False))
    parameters = {**call.parameters, **{name: str(key.moto.id) for name, key in named.items() if name != "AliasName"}}
    owner = call.key.account if call.keys else call.caller.account
    answer = store.forward(owner, call.region, call.operation.name, parameters)
    if call.keys and "KeyId" in answer:
        answer["KeyId"] = call.key.arn
    return answer


def unsupported(name: str) -> Handler:
    """Make the handler of an operation that KMS has and the sandbox has not."""

    async def refuse(_: KeyStore, __: KmsCall) -> Mapping[str, Any]:
        raise AwsFaultError("UnsupportedOperationException", f"The sandbox does not emulate {name}.")

    return refuse


def read_policy(text: str) -> Policy:
    """Read a key policy; AwsFaultError MalformedPolicyDocumentException says what is wrong with it."""
    try:
        return parse_policy(text)
    except PolicyError as error:
        raise AwsFaultError("MalformedPolicyDocumentException", str(error)) from error


def _new_key(call: KmsCall) -> NewKey:
    spec = call.text("KeySpec") or call.text("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT")
    usage = call.text("KeyUsage", "" if spec in ALGORITHMS_BY_SPEC or spec.startswith("HMAC") else "ENCRYPT_DECRYPT")
    if spec in _NOT_EMULATED:
        raise AwsFaultError("UnsupportedOperationException", f"The sandbox does not emulate keys of spec {spec}.")
    if spec not in _USAGES:
        raise invalid_value(spec, "keySpec", f"Member must satisfy enum value set: {sorted(_USAGES)}")
    if not usage:
        raise AwsFaultError(
            "ValidationException",
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
        )
    if usage not in _USAGES[spec]:
        raise AwsFaultError("ValidationException", f"KeyUsage {usage[:40]} is not compatible with KeySpec {spec}")
    origin = call.text("Origin", "AWS_KMS")
    if origin not in {"AWS_KMS", "EXTERNAL"}:
        raise AwsFaultError("UnsupportedOperationException", f"The sandbox does not emulate Origin {origin[:40]}.")
    if len(call.text("Description")) > _DESCRIPTION_LIMIT:
        raise AwsFaultError("ValidationException", f"Description has more than {_DESCRIPTION_LIMIT} characters.")
    policy = call.parameters.get("Policy")
    multi_region = call.flag("MultiRegion")
    return NewKey(spec, usage, policy, call.text("Description"), multi_region, origin, _tags(call))


def _tags(call: KmsCall) -> list[dict[str, str]]:
    tags = call.parameters.get("Tags", [])
    if len(tags) > _TAG_LIMIT:
        raise AwsFaultError("TagException", f"A key has at most {_TAG_LIMIT} tags.")
    for tag in tags:
        texts = [tag.get("TagKey"), tag.get("TagValue")] if isinstance(tag, dict) else [None]
        if not all(isinstance(text, str) and _TAG.fullmatch(text) for text in texts) or not texts[0]:
            raise AwsFaultError("TagException", "Each tag needs a TagKey and a TagValue of allowed characters.")
    return [{"TagKey": tag["TagKey"], "TagValue": tag["TagValue"]} for tag in tags]


def _check_policy_name(call: KmsCall) -> None:
    if call.text("PolicyName", "default") != "default":
        raise AwsFaultError("NotFoundException", "No such policy exists")
