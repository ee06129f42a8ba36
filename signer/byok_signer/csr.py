"""PKCS#10 certificate requests (RFC 2986) for keys that only KMS can use: what is to be signed, then the whole.

cryptography's builder takes any object of its private key classes and calls `sign` of it at once, and KMS is asked
without holding up others. So a request is built twice: first with a key that only takes note of what it is to sign.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Never, NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asym_utils
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption
from cryptography.utils import Buffer

from byok_api.algorithms import SigningAlgorithm
from byok_api.signatures import PublicKey, algorithms_for

_HASHES: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

_Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class RequestedNames:
    """Whom a certificate is to be for."""

    subject: x509.Name
    alternatives: tuple[x509.GeneralName, ...] = ()


@dataclass(frozen=True)
class Unsigned:
    """A request without its signature; ValueError if the key cannot be used with the algorithm."""

    public_key: PublicKey
    algorithm: SigningAlgorithm
    names: RequestedNames

    def __post_init__(self) -> None:
        if self.algorithm not in algorithms_for(self.public_key):
            raise ValueError(f"the public key cannot be used with {self.algorithm}")

    def message(self) -> bytes:
        """Return what is to be signed: the CertificationRequestInfo in DER."""
        return self._build(lambda _: b"not yet").tbs_certrequest_bytes

    def signed(self, signature: bytes) -> x509.CertificateSigningRequest:
        """Put in the signature (of ECDSA the DER form); ValueError if it is not one over `message`."""
        request = self._build(lambda _: signature)
        if not request.is_signature_valid:
            raise ValueError("the certificate request's signature does not verify")
        return request

    def _build(self, sign: _Sign) -> x509.CertificateSigningRequest:
        builder = x509.CertificateSigningRequestBuilder().subject_name(self.names.subject)
        if self.names.alternatives:
            extension = x509.SubjectAlternativeName(self.names.alternatives)
            builder = builder.add_extension(extension, critical=False)
        name = self.algorithm.facts.hash_name
        digest = _HASHES[name] if name else None
        pss = None
        if digest is not None and isinstance(self.public_key, rsa.RSAPublicKey):
            # RFC 8230, section 2: the salt is as long as the digest.
            pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        return builder.sign(_remote_key(self.public_key, sign), digest, rsa_padding=pss)


def _remote_key(public_key: PublicKey, sign: _Sign) -> CertificateIssuerPrivateKeyTypes:
    match public_key:
        case ec.EllipticCurvePublicKey():
            return _EllipticCurveKey(public_key, sign)
        case rsa.RSAPublicKey():
            return _RsaKey(public_key, sign)
        case ed25519.Ed25519PublicKey():
            return _Ed25519Key(public_key, sign)


class _InKms:
    """What every private key class offers and a key in KMS does not."""

    def private_numbers(self) -> Never:
        _refuse()

    def private_bytes(
        self,
        encoding: object,
        format: object,  # noqa: A002 - cryptography's name for it
        encryption_algorithm: KeySerializationEncryption,
    ) -> Never:
        del encoding, format, encryption_algorithm
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _EllipticCurveKey(_InKms, ec.EllipticCurvePrivateKey):
    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign: _Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        del signature_algorithm  # Unsigned has chosen it
        return self._sign(bytes(data))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> Never:
        del algorithm, peer_public_key
        _refuse()


class _RsaKey(_InKms, rsa.RSAPrivateKey):
    def __init__(self, public_key: rsa.RSAPublicKey, sign: _Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(
        self,
        data: bytes,
        padding: padding.AsymmetricPadding,
        algorithm: asym_utils.Prehashed | hashes.HashAlgorithm | asym_utils.NoDigestInfo,
    ) -> bytes:
        del padding, algorithm  # see above
        return self._sign(data)

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> Never:
        del ciphertext, padding
        _refuse()


class _Ed25519Key(_InKms, ed25519.Ed25519PrivateKey):
    def __init__(self, public_key: ed25519.Ed25519PublicKey, sign: _Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    def public_key(self) -> ed25519.Ed25519PublicKey:
        return self._public_key

    def sign(self, data: Buffer) -> bytes:
        return self._sign(bytes(data))

    def private_bytes_raw(self) -> Never:
        _refuse()


def _refuse() -> NoReturn:
    raise TypeError("this key is in KMS: it signs, and nothing else")
