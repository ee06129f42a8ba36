"""KMS's answers, read with suspicion: whatever is not what KMS would say to the request is refused.

Source of the shapes: AWS KMS API reference, Sign, GetPublicKey, DescribeKey; AWS JSON 1.1 protocol for errors.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm, algorithms_of
from byok_api.references import KeyArn
from byok_api.signatures import SignatureError, p1363_from_der
from byok_signer.kms.errors import Action
from byok_signer.kms.http1 import HttpAnswer
from byok_signer.kms.port import KeyDescription, KeyHandle, PublicKeyAnswer

_SIGNATURE_LIMIT = 1024
_SPKI_LIMIT = 2048
_JSON = json.JSONDecoder()
_CODE = re.compile(r"[A-Za-z0-9.]{1,100}")


def error_of(answer: HttpAnswer) -> tuple[str | None, str]:
    """Read KMS's error code and AWS's own message; None for an answer that no AWS service would give."""
    fields = _object(answer.body) or {}
    named = answer.error_type or fields.get("__type")
    if not isinstance(named, str) or answer.request_id is None:
        return None, ""
    # "com.amazonaws.kms#DisabledException" and "DisabledException:http://..." are both in use.
    code = named.split(":")[0].rsplit("#", 1)[-1]
    message = fields.get("message", fields.get("Message"))
    if _CODE.fullmatch(code) is None:
        return None, ""
    return code, message if isinstance(message, str) else ""


def sts_error_of(answer: HttpAnswer) -> tuple[str | None, str]:
    """Read STS's error code and AWS's own message; None for an answer that no AWS service would give."""
    try:
        root = ET.fromstring(answer.body)  # noqa: S314 - from STS over TLS, of limited size; expat bounds entities
    except ET.ParseError:
        return None, ""
    code = root.findtext(".//{*}Error/{*}Code") or ""
    if _CODE.fullmatch(code) is None:
        return None, ""
    return code, root.findtext(".//{*}Error/{*}Message") or ""


def fields_of(action: Action, answer: HttpAnswer) -> Mapping[str, Any]:
    """Read a good answer's JSON object."""
    fields = _object(answer.body)
    if fields is None:
        raise action.answer_invalid("the answer is not a JSON object")
    return fields


def signature_of(
    action: Action, fields: Mapping[str, Any], arn: KeyArn, algorithm: SigningAlgorithm
) -> tuple[bytes, bytes]:
    """Read a signature made with `arn`, as COSE wants it, and an ECDSA one in DER too."""
    if fields.get("KeyId") != arn.text:
        raise action.answer_invalid("the answer is from another key")
    facts = algorithm.facts
    if fields.get("SigningAlgorithm") != facts.kms:
        raise action.answer_invalid("the answer is of another algorithm")
    signature = _bytes(action, fields, "Signature", _SIGNATURE_LIMIT)
    if facts.coordinate_size is None:
        return signature, b""
    try:
        return p1363_from_der(signature, algorithm), signature
    except SignatureError as error:
        raise action.answer_invalid(f"the answer is {error}") from error


def public_key_answer(
    action: Action, fields: Mapping[str, Any], key: KeyHandle, asked: KeyArn, request_id: str
) -> PublicKeyAnswer:
    """Read GetPublicKey's answer; one from a replica is told of the key in its own Region, for both are one key."""
    arn = _key_arn(action, fields, asked)
    if asked in key.replicas:
        arn = KeyArn(arn.text.replace(f":{arn.region}:", f":{key.arn.region}:", 1))
    spki = _bytes(action, fields, "PublicKey", _SPKI_LIMIT)
    _check_public_key(action, spki)
    key_spec = _text(action, fields, "KeySpec")
    offered = fields.get("SigningAlgorithms")
    named = offered if isinstance(offered, list) else []
    return PublicKeyAnswer(
        key_arn=arn,
        spki=spki,
        key_spec=key_spec,
        key_usage=_text(action, fields, "KeyUsage"),
        algorithms=tuple(algorithm for algorithm in algorithms_of(key_spec) if algorithm.facts.kms in named),
        request_id=request_id,
    )


def _check_public_key(action: Action, spki: bytes) -> None:
    try:
        load_der_public_key(spki)
    except UnsupportedAlgorithm:
        return  # A key that this process cannot read is still a key; C2PA allows no algorithm of it.
    except ValueError as error:
        raise action.answer_invalid("the answer has no public key in DER") from error


def description_of(action: Action, fields: Mapping[str, Any], asked: KeyArn, request_id: str) -> KeyDescription:
    """Read DescribeKey's answer."""
    metadata = fields.get("KeyMetadata")
    if not isinstance(metadata, dict):
        raise action.answer_invalid("the answer has no KeyMetadata")
    return KeyDescription(
        key_arn=_key_arn(action, {"KeyId": metadata.get("Arn")}, asked),
        state=_text(action, metadata, "KeyState"),
        origin=_text(action, metadata, "Origin"),
        multi_region=metadata.get("MultiRegion") is True,
        request_id=request_id,
    )


def is_replica(arn: KeyArn, of: KeyArn) -> bool:
    """Whether both are the same multi-Region key (KMS developer guide, Multi-Region keys: same id, mrk-...)."""
    resource, other = arn.text.split(":", 5)[5], of.text.split(":", 5)[5]
    return resource == other and resource.startswith("key/mrk-") and arn.account == of.account


def _key_arn(action: Action, fields: Mapping[str, Any], asked: KeyArn) -> KeyArn:
    """Read which key answered: the one asked, or for an alias any of its account and Region."""
    try:
        arn = KeyArn(_text(action, fields, "KeyId"))
    except ValueError as error:
        raise action.answer_invalid("the answer names no key") from error
    place = (arn.partition, arn.region, arn.account) == (asked.partition, asked.region, asked.account)
    if arn.is_alias or not place or (arn != asked and not asked.is_alias):
        raise action.answer_invalid("the answer is from another key")
    return arn


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        fields = _JSON.decode(body.decode())
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _text(action: Action, fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > _SPKI_LIMIT:
        raise action.answer_invalid(f"the answer has no {name}")
    return value


def _bytes(action: Action, fields: Mapping[str, Any], name: str, limit: int) -> bytes:
    text = fields.get(name)
    if not isinstance(text, str) or len(text) > 2 * limit:
        raise action.answer_invalid(f"the answer has no {name}")
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise action.answer_invalid(f"the answer's {name} is not base64") from error
    if not value:
        raise action.answer_invalid(f"the answer's {name} is empty")
    return value
