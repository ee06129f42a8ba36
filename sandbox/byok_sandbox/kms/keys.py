"""What AWS KMS does with an asymmetric key's material: generate, describe, sign, verify; no input, no output, no moto.

Shared by the emulated KMS, the software key of the tests and the benchmarks' stand-in, so that all sign as KMS does.
Source of every rule: AWS KMS API reference, Sign and Verify; KMS developer guide, "Key spec reference".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

MESSAGE_LIMIT = 4096
"""Bytes that Sign and Verify take at most; longer messages are hashed by the caller and sent as DIGEST."""

MessageType = Literal["RAW", "DIGEST"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_RSA_BITS: Mapping[str, int] = MappingProxyType({"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096})
_CURVES: Mapping[str, ec.EllipticCurve] = MappingProxyType(
    {
        "ECC_NIST_P256": ec.SECP256R1(),
        "ECC_NIST_P384": ec.SECP384R1(),
        "ECC_NIST_P521": ec.SECP521R1(),
        "ECC_SECG_P256K1": ec.SECP256K1(),
    },
)
_ED25519_SPEC = "ECC_NIST_EDWARDS25519"
_HASHES: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()},
)
_RSA_ALGORITHMS = tuple(f"RSASSA_{scheme}_SHA_{size}" for scheme in ("PKCS1_V1_5", "PSS") for size in (256, 384, 512))

ALGORITHMS_BY_SPEC: Mapping[str, tuple[str, ...]] = MappingProxyType(
    dict.fromkeys(_RSA_BITS, _RSA_ALGORITHMS)
    | {
        "ECC_NIST_P256": ("ECDSA_SHA_256",),
        "ECC_NIST_P384": ("ECDSA_SHA_384",),
        "ECC_NIST_P521": ("ECDSA_SHA_512",),
        "ECC_SECG_P256K1": ("ECDSA_SHA_256",),
        _ED25519_SPEC: ("ED25519_SHA_512", "ED25519_PH_SHA_512"),
    },
)
"""The SigningAlgorithms that KMS lists for each key spec with which it can sign."""

SIGNING_ALGORITHMS = frozenset(name for names in ALGORITHMS_BY_SPEC.values() for name in names)


class KeyMaterialError(Exception):
    """What every refusal of a software key has in common.

    KeyMaterialError
    +- AlgorithmMismatchError   InvalidKeyUsageException
    +- MessageRefusedError      ValidationException
    +- NotEmulatedError         UnsupportedOperationException
    +- SignatureMismatchError   KMSInvalidSignatureException
    """


class AlgorithmMismatchError(KeyMaterialError):
    """The key's spec cannot sign with the algorithm that was asked for."""


class MessageRefusedError(KeyMaterialError):
    """The message is empty, too long, not of the digest's length, or of a type that the algorithm does not take."""


class NotEmulatedError(KeyMaterialError):
    """AWS KMS can do this and this software key cannot."""


class SignatureMismatchError(KeyMaterialError):
    """The signature is malformed, or was not made by this key over this message."""


@dataclass(frozen=True)
class SoftwareKey:
    """An asymmetric key whose private half lives in this process; never for production.

    Generating an RSA key, and signing with one, takes milliseconds to seconds: call these off the event loop.
    """

    spec: str
    private_key: PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, spec: str) -> Self:
        """Make new material for a KMS key spec; NotEmulatedError for one that is none of `ALGORITHMS_BY_SPEC`."""
        if spec in _RSA_BITS:
            return cls(spec, rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[spec]))
        if spec in _CURVES:
            return cls(spec, ec.generate_private_key(_CURVES[spec]))
        if spec == _ED25519_SPEC:
            return cls(spec, ed25519.Ed25519PrivateKey.generate())
        raise NotEmulatedError(f"no software key of spec {spec!r}: use one of {', '.join(ALGORITHMS_BY_SPEC)}")

    @classmethod
    def load(cls, pem: bytes) -> Self:
        """Read material from an unencrypted private key; NotEmulatedError for one that no signing key of KMS has."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise NotEmulatedError("expected a private key in PEM, without a password") from error
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return cls(_ED25519_SPEC, key)
        if isinstance(key, rsa.RSAPrivateKey) and f"RSA_{key.key_size}" in _RSA_BITS:
            return cls(f"RSA_{key.key_size}", key)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            for spec, curve in _CURVES.items():
                if curve.name == key.curve.name:
                    return cls(spec, key)
        raise NotEmulatedError(f"no KMS key can have this material: use one of {', '.join(ALGORITHMS_BY_SPEC)}")

    @property
    def pem(self) -> bytes:
        """The material, unencrypted."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The SigningAlgorithms that KMS lists for this spec."""
        return ALGORITHMS_BY_SPEC[self.spec]

    @cached_property
    def spki(self) -> bytes:
        """The public key as KMS's GetPublicKey answers it: DER SubjectPublicKeyInfo (RFC 5280, section 4.1)."""
        return self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def check(self, algorithm: str, message: bytes, message_type: MessageType) -> None:
        """Raise the KeyMaterialError with which `sign` and `verify` would refuse this message, and do nothing else."""
        if algorithm not in self.algorithms:
            raise AlgorithmMismatchError(f"Algorithm {algorithm} is incompatible with key spec {self.spec}.")
        if algorithm == "ED25519_PH_SHA_512":
            raise NotEmulatedError("The sandbox does not sign with ED25519_PH_SHA_512; C2PA does not allow it.")
        if not 0 < len(message) <= MESSAGE_LIMIT:
            raise MessageRefusedError(f"Message must have 1 to {MESSAGE_LIMIT} bytes, not {len(message)}.")
        if message_type == "DIGEST":
            if algorithm == "ED25519_SHA_512":
                raise MessageRefusedError(f"Message type DIGEST is incompatible with algorithm {algorithm}.")
            if len(message) != _hash_of(algorithm).digest_size:
                raise MessageRefusedError(f"Digest is invalid length for algorithm {algorithm}.")

    def sign(self, algorithm: str, message: bytes, message_type: MessageType = "RAW") -> bytes:
        """Sign `message`, or with DIGEST the digest that it is, as KMS does.

        ECDSA comes as DER (RFC 3279, section 2.2.3), PSS with a salt as long as the digest (RFC 8017), Ed25519 as its
        64 bytes (RFC 8032). KeyMaterialError, as `check` says.
        """
        self.check(algorithm, message, message_type)
        match self.private_key:
            case ed25519.Ed25519PrivateKey():
                return self.private_key.sign(message)
            case ec.EllipticCurvePrivateKey():
                return self.private_key.sign(_digest(algorithm, message, message_type), _ecdsa(algorithm))
            case rsa.RSAPrivateKey():
                digest, prehashed = _digest(algorithm, message, message_type), Prehashed(_hash_of(algorithm))
                return self.private_key.sign(digest, _padding(algorithm), prehashed)

    def verify(self, algorithm: str, message: bytes, signature: bytes, message_type: MessageType = "RAW") -> None:
        """Check a signature in the form that `sign` answers; SignatureMismatchError if it does not hold."""
        self.check(algorithm, message, message_type)
        try:
            match self.private_key:
                case ed25519.Ed25519PrivateKey():
                    self.private_key.public_key().verify(signature, message)
                case ec.EllipticCurvePrivateKey():
                    digest = _digest(algorithm, message, message_type)
                    self.private_key.public_key().verify(signature, digest, _ecdsa(algorithm))
                case rsa.RSAPrivateKey():
                    digest, prehashed = _digest(algorithm, message, message_type), Prehashed(_hash_of(algorithm))
                    self.private_key.public_key().verify(signature, digest, _padding(algorithm), prehashed)
        except InvalidSignature as error:
            raise SignatureMismatchError("The signature does not verify with this key.") from error


def _hash_of(algorithm: str) -> hashes.HashAlgorithm:
    return _HASHES[algorithm[-3:]]


def _digest(algorithm: str, message: bytes, message_type: MessageType) -> bytes:
    return message if message_type == "DIGEST" else hashlib.new(_hash_of(algorithm).name, message).digest()


def _ecdsa(algorithm: str) -> ec.ECDSA:
    return ec.ECDSA(Prehashed(_hash_of(algorithm)))


def _padding(algorithm: str) -> padding.AsymmetricPadding:
    if "_PSS_" not in algorithm:
        return padding.PKCS1v15()
    hash_algorithm = _hash_of(algorithm)
    return padding.PSS(mgf=padding.MGF1(hash_algorithm), salt_length=hash_algorithm.digest_size)
