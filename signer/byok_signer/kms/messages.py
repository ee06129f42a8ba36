"""What `kms:Sign` is sent of what is to be signed: a digest where the algorithm has one, else the message itself."""

from dataclasses import dataclass
from typing import Literal

from byok_api.algorithms import RAW_MESSAGE_LIMIT, SigningAlgorithm
from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_signer.kms.errors import KmsError

_NOTHING = b"byok-operator asks with DryRun and signs nothing"


@dataclass(slots=True)  # not frozen: one is made for every signature, and freezing doubles the cost
class Payload:
    """`Message` and `MessageType` of `kms:Sign`."""

    data: bytes
    message_type: Literal["RAW", "DIGEST"]


def payload_of_message(key: ObjectName, algorithm: SigningAlgorithm, message: bytes) -> Payload:
    """Hash `message` if the algorithm does; `MessageTooLong` beyond 4,096 bytes if it does not."""
    if algorithm.facts.hash_name is not None:
        return Payload(algorithm.digest(message), "DIGEST")
    if len(message) > RAW_MESSAGE_LIMIT:
        raise KmsError(
            Reason.MessageTooLong,
            f"key {key}: {len(message)} bytes to sign; KMS takes at most {RAW_MESSAGE_LIMIT} with {algorithm}. "
            f"{Reason.MessageTooLong.facts.remedy}",
            metadata={"key": str(key)},
        )
    return Payload(message, "RAW")


def payload_of_digest(key: ObjectName, algorithm: SigningAlgorithm, digest: bytes) -> Payload:
    """Take a digest as it is; `DigestMismatch` if the algorithm has none, or one of another length."""
    size = algorithm.facts.digest_size
    if len(digest) != size:
        wanted = f"a digest of {size} bytes" if size else "the message itself, never a digest"
        raise KmsError(
            Reason.DigestMismatch,
            f"key {key}: a digest of {len(digest)} bytes; {algorithm} signs {wanted}. "
            f"{Reason.DigestMismatch.facts.remedy}",
            metadata={"key": str(key)},
        )
    return Payload(digest, "DIGEST")


def payload_of_nothing(key: ObjectName, algorithm: SigningAlgorithm) -> Payload:
    """Make something to ask about that is no claim."""
    return payload_of_message(key, algorithm, _NOTHING)
