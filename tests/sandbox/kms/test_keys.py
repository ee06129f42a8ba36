"""The software key signs as AWS KMS does: right digest, right salt, right limits."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm
from byok_api.signatures import p1363_from_der, verify
from byok_sandbox.kms.keys import (
    ALGORITHMS_BY_SPEC,
    AlgorithmMismatchError,
    MessageRefusedError,
    MessageType,
    NotEmulatedError,
    SignatureMismatchError,
    SoftwareKey,
)

MESSAGE = b"a claim" * 100
C2PA = [
    (spec, algorithm)
    for algorithm in SigningAlgorithm
    for spec in algorithm.facts.key_specs
    if spec not in {"RSA_3072", "RSA_4096"}
]


@pytest.fixture(scope="module")
def keys() -> dict[str, SoftwareKey]:
    specs = ALGORITHMS_BY_SPEC.keys() - {"RSA_3072", "RSA_4096"}
    return {spec: SoftwareKey.generate(spec) for spec in specs}


@pytest.mark.parametrize(("spec", "algorithm"), C2PA)
def test_every_c2pa_signature_of_a_raw_message_verifies(
    keys: dict[str, SoftwareKey], spec: str, algorithm: SigningAlgorithm
) -> None:
    signature = keys[spec].sign(algorithm.facts.kms, MESSAGE)
    if algorithm.facts.coordinate_size:
        signature = p1363_from_der(signature, algorithm)
    verify(load_der_public_key(keys[spec].spki), algorithm, signature, message=MESSAGE)


@pytest.mark.parametrize(("spec", "algorithm"), [pair for pair in C2PA if pair[1].facts.digest_size])
def test_a_digest_is_signed_as_it_is_and_never_hashed_again(
    keys: dict[str, SoftwareKey], spec: str, algorithm: SigningAlgorithm
) -> None:
    signature = keys[spec].sign(algorithm.facts.kms, algorithm.digest(MESSAGE), "DIGEST")
    if algorithm.facts.coordinate_size:
        signature = p1363_from_der(signature, algorithm)
    verify(load_der_public_key(keys[spec].spki), algorithm, signature, message=MESSAGE)


def test_pkcs1_and_secp256k1_sign_too_since_kms_does_although_c2pa_forbids_them(keys: dict[str, SoftwareKey]) -> None:
    rsa_public = load_der_public_key(keys["RSA_2048"].spki)
    assert isinstance(rsa_public, rsa.RSAPublicKey)
    signature = keys["RSA_2048"].sign("RSASSA_PKCS1_V1_5_SHA_384", MESSAGE)
    rsa_public.verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA384())
    ec_public = load_der_public_key(keys["ECC_SECG_P256K1"].spki)
    assert isinstance(ec_public, ec.EllipticCurvePublicKey)
    ec_public.verify(keys["ECC_SECG_P256K1"].sign("ECDSA_SHA_256", MESSAGE), MESSAGE, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("ECC_NIST_P256", "ECDSA_SHA_384"),
        ("ECC_NIST_P384", "ECDSA_SHA_256"),
        ("ECC_NIST_P256", "RSASSA_PSS_SHA_256"),
        ("RSA_2048", "ED25519_SHA_512"),
        ("ECC_NIST_EDWARDS25519", "ECDSA_SHA_512"),
        ("ECC_NIST_P256", "NO_SUCH_ALGORITHM"),
    ],
)
def test_an_algorithm_that_does_not_fit_the_spec_is_refused(
    keys: dict[str, SoftwareKey], spec: str, algorithm: str
) -> None:
    with pytest.raises(AlgorithmMismatchError, match=algorithm):
        keys[spec].sign(algorithm, MESSAGE)


@pytest.mark.parametrize(
    ("spec", "algorithm", "message", "message_type"),
    [
        ("ECC_NIST_P256", "ECDSA_SHA_256", b"", "RAW"),
        ("ECC_NIST_P256", "ECDSA_SHA_256", bytes(4097), "RAW"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512", bytes(4097), "RAW"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512", bytes(64), "DIGEST"),
        ("ECC_NIST_P256", "ECDSA_SHA_256", bytes(31), "DIGEST"),
        ("ECC_NIST_P256", "ECDSA_SHA_256", bytes(33), "DIGEST"),
        ("ECC_NIST_P521", "ECDSA_SHA_512", bytes(32), "DIGEST"),
        ("RSA_2048", "RSASSA_PSS_SHA_384", bytes(32), "DIGEST"),
    ],
)
def test_a_message_of_wrong_length_or_type_is_refused(
    keys: dict[str, SoftwareKey], spec: str, algorithm: str, message: bytes, message_type: MessageType
) -> None:
    with pytest.raises(MessageRefusedError):
        keys[spec].sign(algorithm, message, message_type)


@pytest.mark.parametrize("size", [1, 4096])
def test_a_raw_message_of_one_to_4096_bytes_is_signed(keys: dict[str, SoftwareKey], size: int) -> None:
    key = keys["ECC_NIST_EDWARDS25519"]
    key.verify("ED25519_SHA_512", bytes(size), key.sign("ED25519_SHA_512", bytes(size)))


def test_what_is_not_emulated_says_so(keys: dict[str, SoftwareKey]) -> None:
    with pytest.raises(NotEmulatedError):
        keys["ECC_NIST_EDWARDS25519"].sign("ED25519_PH_SHA_512", bytes(64), "DIGEST")
    with pytest.raises(NotEmulatedError, match="SM2"):
        SoftwareKey.generate("SM2")


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("ECC_NIST_P256", "ECDSA_SHA_256"),
        ("RSA_2048", "RSASSA_PSS_SHA_256"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512"),
    ],
)
def test_a_signature_over_something_else_or_garbage_is_refused(
    keys: dict[str, SoftwareKey], spec: str, algorithm: str
) -> None:
    for signature in (keys[spec].sign(algorithm, b"another"), b"", b"garbage", bytes(600)):
        with pytest.raises(SignatureMismatchError):
            keys[spec].verify(algorithm, MESSAGE, signature)


def test_verify_takes_a_digest_for_the_message_it_is_of(keys: dict[str, SoftwareKey]) -> None:
    key = keys["ECC_NIST_P384"]
    signature = key.sign("ECDSA_SHA_384", MESSAGE)
    key.verify("ECDSA_SHA_384", hashlib.sha384(MESSAGE).digest(), signature, "DIGEST")


def test_private_material_is_never_printed(keys: dict[str, SoftwareKey]) -> None:
    assert "private" not in repr(keys["ECC_NIST_P256"])
