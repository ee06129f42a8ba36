"""Certificate signing requests for keys that cannot be had, only asked to sign: KMS's.

cryptography's CSR builder takes any object of its private key classes. The ones here hold a public key and a callback.
"""

from collections.abc import Callable
from typing import Never, NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asym_utils
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
)
from cryptography.utils import Buffer

from byok_api.algorithms import SigningAlgorithm
from byok_api.signatures import PublicKey, algorithms_for

SignCallback = Callable[[bytes], bytes]
"""Signs a whole message with the algorithm of the CSR, ECDSA signatures being DER, as `kms:Sign` answers them."""

_HASHES: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def csr_for(public_key: PublicKey, algorithm: SigningAlgorithm, subject: x509.Name, *, sign: SignCallback) -> str:
    """Make a PEM CSR that `sign` signs; ValueError if the key cannot sign with the algorithm.

    What `sign` raises comes through. RSA keys sign with PSS, as C2PA and the key's policy want it.
    """
    if algorithm not in algorithms_for(public_key):
        raise ValueError(f"the public key cannot be used with {algorithm}")
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    digest = _HASHES[algorithm.facts.hash_name] if algorithm.facts.hash_name else None
    pss = None
    if digest is not None and isinstance(public_key, rsa.RSAPublicKey):
        pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
    csr = builder.sign(_remote_key(public_key, sign), digest, rsa_padding=pss)
    return csr.public_bytes(Encoding.PEM).decode()


def _remote_key(public_key: PublicKey, sign: SignCallback) -> CertificateIssuerPrivateKeyTypes:
    match public_key:
        case ec.EllipticCurvePublicKey():
            return _RemoteEllipticCurveKey(public_key, sign)
        case rsa.RSAPublicKey():
            return _RemoteRsaKey(public_key, sign)
        case ed25519.Ed25519PublicKey():
            return _RemoteEd25519Key(public_key, sign)


class _Unavailable:
    """What every private key class offers and a key in KMS does not."""

    def private_numbers(self) -> Never:
        _refuse()

    def private_bytes(
        self,
        encoding: Encoding,
        format: PrivateFormat,  # noqa: A002 - cryptography's name for it
        encryption_algorithm: KeySerializationEncryption,
    ) -> Never:
        del encoding, format, encryption_algorithm
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _RemoteEllipticCurveKey(_Unavailable, ec.EllipticCurvePrivateKey):
    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign: SignCallback) -> None:
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
        del signature_algorithm  # the callback knows it: csr_for chose both from one SigningAlgorithm
        return self._sign(bytes(data))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> Never:
        del algorithm, peer_public_key
        _refuse()


class _RemoteRsaKey(_Unavailable, rsa.RSAPrivateKey):
    def __init__(self, public_key: rsa.RSAPublicKey, sign: SignCallback) -> None:
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


class _RemoteEd25519Key(_Unavailable, ed25519.Ed25519PrivateKey):
    def __init__(self, public_key: ed25519.Ed25519PublicKey, sign: SignCallback) -> None:
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
