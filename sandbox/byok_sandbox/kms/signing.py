"""Sign, Verify and GetPublicKey, as the AWS KMS API reference has them."""

import asyncio
import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from byok_sandbox.kms.calls import KmsCall
from byok_sandbox.kms.faults import AwsFaultError, invalid_value
from byok_sandbox.kms.keys import (
    MESSAGE_LIMIT,
    SIGNING_ALGORITHMS,
    AlgorithmMismatchError,
    KeyMaterialError,
    MessageRefusedError,
    MessageType,
    NotEmulatedError,
    SignatureMismatchError,
    SoftwareKey,
)
from byok_sandbox.kms.store import KeyStore, algorithms_of

SIGNATURE_LIMIT = 6144
"""Bytes of `Signature` that Verify takes."""

# Names in KMS of algorithms and message types for keys that the sandbox does not make.
_OTHER_ALGORITHMS = frozenset({"SM2DSA", "ML_DSA_SHAKE_256"})
_MESSAGE_TYPES = ("EXTERNAL_MU", "DIGEST", "RAW")
_CODES: Mapping[type[KeyMaterialError], str] = MappingProxyType(
    {
        AlgorithmMismatchError: "InvalidKeyUsageException",
        MessageRefusedError: "ValidationException",
        NotEmulatedError: "UnsupportedOperationException",
        SignatureMismatchError: "KMSInvalidSignatureException",
    },
)


def validate(call: KmsCall) -> None:
    """Check algorithm and message type against the names that KMS knows, and lengths against its limits."""
    algorithm = call.text("SigningAlgorithm")
    if algorithm not in SIGNING_ALGORITHMS | _OTHER_ALGORITHMS:
        allowed = sorted(SIGNING_ALGORITHMS | _OTHER_ALGORITHMS)
        raise invalid_value(algorithm, "signingAlgorithm", f"Member must satisfy enum value set: {allowed}")
    message_type = call.text("MessageType", "RAW")
    if message_type not in _MESSAGE_TYPES:
        raise invalid_value(message_type, "messageType", f"Member must satisfy enum value set: {[*_MESSAGE_TYPES]}")
    _check_lengths(call)


def check_message(call: KmsCall) -> None:
    """Check usage, algorithm and message against the key."""
    if call.key.usage != "SIGN_VERIFY":
        raise AwsFaultError(
            "InvalidKeyUsageException",
            f"{call.key.arn} key usage is {call.key.usage} which is not valid for {call.operation.name}.",
        )
    try:
        _material(call).check(call.text("SigningAlgorithm"), call.blob("Message"), _message_type(call))
    except KeyMaterialError as error:
        raise _fault(error) from error


def check_asymmetric(call: KmsCall) -> None:
    """Refuse keys that have no public half."""
    if call.key.material.key is None:
        raise AwsFaultError("UnsupportedOperationException", f"{call.key.arn} is not an asymmetric key.")


async def sign(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Sign a message or digest."""
    algorithm = call.text("SigningAlgorithm")
    material, message, message_type = _material(call), call.blob("Message"), _message_type(call)
    if algorithm.startswith("RSA"):
        signature = await asyncio.to_thread(material.sign, algorithm, message, message_type)
    else:
        signature = material.sign(algorithm, message, message_type)
    encoded = base64.b64encode(signature).decode()
    return {"KeyId": call.key.arn, "Signature": encoded, "SigningAlgorithm": algorithm}


async def verify(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Verify a signature; one that does not hold is an error and not an answer."""
    algorithm = call.text("SigningAlgorithm")
    try:
        _material(call).verify(algorithm, call.blob("Message"), call.blob("Signature"), _message_type(call))
    except KeyMaterialError as error:
        raise _fault(error) from error
    return {"KeyId": call.key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm}


async def get_public_key(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Answer the public key as DER SubjectPublicKeyInfo, and what it can be used for."""
    return {
        "KeyId": call.key.arn,
        "PublicKey": base64.b64encode(_material(call).spki).decode(),
        "CustomerMasterKeySpec": call.key.spec,
        "KeySpec": call.key.spec,
        "KeyUsage": call.key.usage,
        **algorithms_of(call.key),
    }


def _check_lengths(call: KmsCall) -> None:
    for name, limit in (("Message", MESSAGE_LIMIT), ("Signature", SIGNATURE_LIMIT)):
        if name not in call.operation.required:
            continue
        size = len(call.blob(name))
        if not 0 < size <= limit:
            bound = "greater than or equal to 1" if size == 0 else f"less than or equal to {limit}"
            raise AwsFaultError(
                "ValidationException",
                f"1 validation error detected: Value at '{name.lower()}' failed to satisfy constraint: "
                f"Member must have length {bound}",
            )


def _message_type(call: KmsCall) -> MessageType:
    text = call.text("MessageType", "RAW")
    if text == "EXTERNAL_MU":
        raise AwsFaultError(
            "ValidationException", f"Message type {text} is incompatible with key spec {call.key.spec}."
        )
    return "DIGEST" if text == "DIGEST" else "RAW"


def _material(call: KmsCall) -> SoftwareKey:
    if call.key.material.key is None:
        raise AwsFaultError("KMSInvalidStateException", f"{call.key.arn} is pending import.")
    return call.key.material.key


def _fault(error: KeyMaterialError) -> AwsFaultError:
    # KMS says nothing about a signature that does not hold.
    message = "" if isinstance(error, SignatureMismatchError) else str(error)
    return AwsFaultError(_CODES[type(error)], message)
