"""Which quota of AWS's a signature counts against."""

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_signer.quota import Family, QuotaKey, family_of

# KMS Developer Guide, Request quotas: one quota for RSA keys, one for elliptic curve (ECC) keys; key spec reference:
# ECC_NIST_EDWARDS25519 is an elliptic curve.
TABLE = {
    "ES256": Family.ECC,
    "ES384": Family.ECC,
    "ES512": Family.ECC,
    "Ed25519": Family.ECC,
    "PS256": Family.RSA,
    "PS384": Family.RSA,
    "PS512": Family.RSA,
}


def test_every_algorithm_has_a_family() -> None:
    assert set(TABLE) == set(SigningAlgorithm)


@pytest.mark.parametrize(("algorithm", "family"), TABLE.items())
def test_a_family_is_that_of_the_keys_that_sign(algorithm: str, family: Family) -> None:
    assert family_of(SigningAlgorithm(algorithm)) is family


def test_a_quota_is_named_in_words() -> None:
    quota = QuotaKey("111122223333", "eu-west-1", Family.ECC)
    assert str(quota) == "account 111122223333's quota for ECC keys in eu-west-1"
