"""A certificate request that any Kms signs is one that a certificate authority takes."""

import dataclasses
from collections.abc import AsyncIterator
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from byok_api.algorithms import SigningAlgorithm
from byok_api.signatures import PublicKey, spki_of
from byok_signer.csr import RequestedNames, Unsigned
from tests.support.kms_benches import BENCHES, Bench, handle

NAMES = RequestedNames(
    x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"), x509.NameAttribute(NameOID.COMMON_NAME, "x")]),
    (x509.DNSName("media.example"),),
)


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with BENCHES[request.param]() as made:
        yield made


async def unsigned_of(bench: Bench, algorithm: SigningAlgorithm) -> tuple[Unsigned, bytes]:
    """A request for a new key, and what KMS signs it with."""
    key = handle(await bench.create(algorithm.facts.key_specs[0]))
    looked = await bench.kms.get_public_key(key, timeout=30)
    key = dataclasses.replace(key, resolved_arn=looked.key_arn)
    unsigned = Unsigned(cast("PublicKey", load_der_public_key(looked.spki)), algorithm, NAMES)
    signed = await bench.kms.sign(key, algorithm, message=unsigned.message(), timeout=30)
    return unsigned, signed.signature_der or signed.signature


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
async def test_it_verifies_and_names_the_algorithm(bench: Bench, algorithm: SigningAlgorithm) -> None:
    unsigned, signature = await unsigned_of(bench, algorithm)
    csr = unsigned.signed(signature)
    assert x509.load_der_x509_csr(csr.public_bytes(Encoding.DER)).is_signature_valid
    assert (csr.tbs_certrequest_bytes, spki_of(csr.public_key())) == (unsigned.message(), spki_of(unsigned.public_key))
    parameters = csr.signature_algorithm_parameters
    if csr.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        assert isinstance(parameters, padding.PSS)
        assert parameters._salt_length == algorithm.facts.digest_size  # noqa: SLF001 - there is no other way to it


async def test_another_signature_is_refused(bench: Bench) -> None:
    unsigned, _ = await unsigned_of(bench, SigningAlgorithm.ES256)
    _, other = await unsigned_of(bench, SigningAlgorithm.ES256)
    with pytest.raises(ValueError, match="does not verify"):
        unsigned.signed(other)


async def test_a_key_of_another_algorithm_makes_none(bench: Bench) -> None:
    unsigned, _ = await unsigned_of(bench, SigningAlgorithm.ES256)
    with pytest.raises(ValueError, match="cannot be used with PS256"):
        dataclasses.replace(unsigned, algorithm=SigningAlgorithm.PS256)
