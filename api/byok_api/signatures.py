"""Public keys, and signatures verified with them, in the forms that KMS and COSE use."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from byok_api.algorithms import SigningAlgorithm

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_CURVES: Mapping[str, SigningAlgorithm] = MappingProxyType(
    {
        "secp256r1": SigningAlgorithm.ES256,
        "secp384r1": SigningAlgorithm.ES384,
        "secp521r1": SigningAlgorithm.ES512,
    },
)
_RSA = (SigningAlgorithm.PS256, SigningAlgorithm.PS384, SigningAlgorithm.PS512)
_RSA_BITS = (2048, 3072, 4096)
_HASHES: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()},
)


class SignatureError(Exception):
    """A signature is malformed, or was not made by this key over this message."""


def algorithms_for(public_key: PublicKeyTypes) -> tuple[SigningAlgorithm, ...]:
    """List the algorithms that C2PA allows with this key, the default first; empty if it allows none."""
    match public_key:
        case ec.EllipticCurvePublicKey():
            algorithm = _CURVES.get(public_key.curve.name)
            return (algorithm,) if algorithm else ()
        case rsa.RSAPublicKey():
            return _RSA if public_key.key_size in _RSA_BITS else ()
        case ed25519.Ed25519PublicKey():
            return (SigningAlgorithm.ED25519,)
        case _:
            return ()


def spki_of(public_key: PublicKeyTypes) -> bytes:
    """Encode a public key as DER SubjectPublicKeyInfo (RFC 5280, section 4.1)."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_sha256(public_key: PublicKeyTypes) -> str:
    """Hash a public key's SubjectPublicKeyInfo: 64 lower-case hexadecimal digits."""
    return spki_sha256_of_der(spki_of(public_key))


def spki_sha256_of_der(spki: bytes) -> str:
    """Hash a DER SubjectPublicKeyInfo: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(spki).hexdigest()


def p1363_from_der(signature: bytes, algorithm: SigningAlgorithm) -> bytes:
    """Rewrite an ECDSA signature from DER (KMS) to IEEE P1363 (COSE, RFC 9053 2.1); SignatureError if malformed."""
    size = algorithm.facts.coordinate_size
    if size is None:
        raise SignatureError(f"{algorithm} signatures have no DER form")
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except (ValueError, OverflowError) as error:
        raise SignatureError(f"not a DER {algorithm} signature") from error


def der_from_p1363(signature: bytes, algorithm: SigningAlgorithm) -> bytes:
    """Rewrite an ECDSA signature from IEEE P1363 to DER; SignatureError if malformed."""
    size = algorithm.facts.coordinate_size
    if size is None or len(signature) != 2 * size:
        raise SignatureError(f"not an {algorithm} signature in P1363 form")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))


def verify(public_key: PublicKeyTypes, algorithm: SigningAlgorithm, signature: bytes, *, message: bytes) -> None:
    """Check a COSE-form signature (P1363 for ECDSA) over `message`; SignatureError if it does not hold."""
    if isinstance(public_key, ed25519.Ed25519PublicKey) and algorithm is SigningAlgorithm.ED25519:
        try:
            public_key.verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError("the signature does not verify with the public key") from error
        return
    if algorithm.facts.hash_name is None:
        raise SignatureError(f"the public key cannot verify {algorithm}")
    verify_digest(public_key, algorithm, signature, digest=algorithm.digest(message))


def verify_digest(public_key: PublicKeyTypes, algorithm: SigningAlgorithm, signature: bytes, *, digest: bytes) -> None:
    """Check a COSE-form signature (P1363 for ECDSA) over a message's digest; SignatureError if it does not hold."""
    if algorithm not in algorithms_for(public_key) or algorithm.facts.hash_name is None:
        raise SignatureError(f"the public key cannot verify a digest with {algorithm}")
    if len(digest) != algorithm.facts.digest_size:
        raise SignatureError(f"{algorithm} takes a digest of {algorithm.facts.digest_size} bytes, not {len(digest)}")
    prehashed = Prehashed(_HASHES[algorithm.facts.hash_name])
    try:
        match public_key:
            case ec.EllipticCurvePublicKey():
                public_key.verify(der_from_p1363(signature, algorithm), digest, ec.ECDSA(prehashed))
            case rsa.RSAPublicKey():
                public_key.verify(signature, digest, _pss(algorithm), prehashed)
    except InvalidSignature as error:
        raise SignatureError("the signature does not verify with the public key") from error


def _pss(algorithm: SigningAlgorithm) -> padding.PSS:
    # RFC 8230, section 2: the salt is as long as the digest.
    hash_algorithm = _HASHES[algorithm.facts.hash_name or ""]
    return padding.PSS(mgf=padding.MGF1(hash_algorithm), salt_length=hash_algorithm.digest_size)
