"""Checkpoints: the head of a chain, signed with a key that whoever holds the file does not have.

What is signed is the chain's head at the checkpoint's own intent. The hash in it covers every record up to there, and
through the chain starts those of the chains before: none of them can be made anew without the key.
"""

import base64
from dataclasses import replace

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit.events import Attempt, AuditEvent, Kind, Outcome
from byok_api.audit.records import AuditId, Head
from byok_api.signatures import SignatureError, spki_sha256_of_der, verify

_CONTEXT = "byok audit checkpoint v1"


class CheckpointError(ValueError):
    """A checkpoint does not prove what it claims."""


def statement(head: Head) -> bytes:
    """Say which head a checkpoint signs, in bytes that are nothing else.

    They begin with a letter: no COSE Sig_structure (a CBOR array, 0x84) or certificate request (a DER sequence, 0x30).
    """
    return f"{_CONTEXT}\n{head.id}\n{head.hash}\n".encode("ascii")


def checkpoint_intent(key_arn: str, algorithm: SigningAlgorithm) -> AuditEvent:
    """Make the record that announces a checkpoint, and whose head it will sign."""
    return AuditEvent(kind=Kind.INTENT, key_arn=key_arn, algorithm=algorithm)


def checkpoint(
    intent: AuditEvent, head: Head, *, spki: bytes, signature: bytes, attempts: tuple[Attempt, ...]
) -> AuditEvent:
    """Make the record of a signature over `statement(head)`, ECDSA as IEEE P1363, where `head` is that intent."""
    return replace(
        intent,
        kind=Kind.CHECKPOINT,
        outcome=Outcome.SIGNED,
        intent=head.sequence,
        attempts=attempts,
        head=str(head.id),
        head_hash=head.hash,
        public_key=base64.b64encode(spki).decode("ascii"),
        signature=base64.b64encode(signature).decode("ascii"),
    )


def check_checkpoint(event: AuditEvent, *, head: Head | None, key: PublicKeyTypes | None) -> str:
    """Check a checkpoint that was signed, and return the SHA-256 of its key's SubjectPublicKeyInfo.

    CheckpointError unless it signs `head`, its intent (None: not known), with `key` (None: with any that it names).
    """
    try:
        signed = Head(*AuditId.parse(event.head or ""), event.head_hash or "")
        spki = base64.b64decode(event.public_key or "", validate=True)
        signature = base64.b64decode(event.signature or "", validate=True)
        named = load_der_public_key(spki)
        algorithm = SigningAlgorithm(event.algorithm or "")
    except (ValueError, UnsupportedAlgorithm):
        raise CheckpointError("its head, key, algorithm or signature is malformed") from None
    if head is not None and signed != head:
        raise CheckpointError(f"it does not sign its intent {head.id} as that stands here")
    fingerprint = spki_sha256_of_der(spki)
    if key is not None and named != key:
        raise CheckpointError(f"it is signed with another key, whose SPKI has the SHA-256 {fingerprint}")
    try:
        verify(named, algorithm, signature, message=statement(signed))
    except SignatureError as error:
        raise CheckpointError(str(error)) from None
    return fingerprint
