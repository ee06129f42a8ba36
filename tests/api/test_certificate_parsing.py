"""What is read as a certificate chain, and what garbage is answered."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.certificate_rules import Severity
from byok_api.certificates import CHAIN_LENGTH_LIMIT, CHAIN_SIZE_LIMIT, lint, parse_chain
from byok_api.errors import Reason, Refusal
from byok_api.signatures import spki_sha256
from byok_sandbox import ca
from tests.support import pki
from tests.support.pki import NOW


def test_a_chain_knows_its_leaf() -> None:
    identity = pki.identity()
    chain = parse_chain("text before\n" + identity.chain_pem + "\r\ntext after")
    assert chain == identity.chain
    assert chain.ders == tuple(item.public_bytes(Encoding.DER) for item in chain.certificates)
    assert chain.subject == "CN=ES256 signing key,O=Example Media"
    assert chain.spki_sha256 == spki_sha256(identity.public_key)


GOOD_PEM = pki.identity().chain_pem
GARBAGE = {
    "empty": ("", "must be PEM"),
    "no PEM": ("certificate", "must be PEM"),
    "cut off": (GOOD_PEM[: len(GOOD_PEM) - 40], "must be PEM"),
    "empty block": ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "certificate 1 cannot be read"),
    "not base64": ("-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n", "certificate 1 is not base64"),
    "no DER": ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1 cannot be read"),
    "a private key": (GOOD_PEM + "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "'PRIVATE KEY'"),
    "a CSR": ("-----BEGIN CERTIFICATE REQUEST-----\nMIIE\n-----END CERTIFICATE REQUEST-----\n", "REQUEST"),
    "too many": (GOOD_PEM * (CHAIN_LENGTH_LIMIT // 2 + 1), "at most 8"),
    "too long": (GOOD_PEM + " " * CHAIN_SIZE_LIMIT, "at most 32768"),
    "not ASCII": ("-----BEGIN CERTIFICATE-----\nÄÖÜ\n-----END CERTIFICATE-----\n", "must be PEM"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused_by_name(case: str) -> None:
    pem, words = GARBAGE[case]
    with pytest.raises(Refusal) as caught:
        parse_chain(pem)
    assert caught.value.reason is Reason.CertificateInvalid
    assert words in caught.value.message
    assert "MIIE" not in caught.value.message


def test_an_rsa_exponent_that_makes_verification_slow_is_refused() -> None:
    numbers = rsa.RSAPublicNumbers(e=2**2040 + 1, n=2**2047 + 1)
    with pytest.raises(Refusal, match="of certificate 1 has an exponent of over 64 bits") as caught:
        pki.Leaf(public_key=numbers.public_key()).chain()
    assert caught.value.reason is Reason.CertificateInvalid


# cryptography means to refuse it too, some day.
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("serial", [b"\x00", b"\xff"], ids=["zero", "negative"])
def test_a_serial_number_that_is_not_positive_is_refused(serial: bytes) -> None:
    version, integer = b"\xa0\x03\x02\x01\x02", b"\x02\x01"
    good, issuer = pki.Leaf(serial_number=1).chain().ders
    bad = good.replace(version + integer + b"\x01", version + integer + serial)
    with pytest.raises(Refusal, match="the serial number of certificate 1 is not positive") as caught:
        parse_chain(_pem(bad) + _pem(issuer))
    assert caught.value.reason is Reason.CertificateInvalid


def test_a_name_of_bits_is_refused() -> None:
    named, issuer = pki.Leaf(subject=ca.name("\0Media", "varied")).chain().ders
    utf8_string, bit_string = b"\x0c\x06\0Media", b"\x03\x06\0Media"
    with pytest.raises(Refusal, match="certificate 1 cannot be read") as caught:
        parse_chain(_pem(named.replace(utf8_string, bit_string)) + _pem(issuer))
    assert caught.value.reason is Reason.CertificateInvalid


def test_a_signature_that_is_not_of_whole_bytes_is_refused() -> None:
    chains = iter(lambda: pki.Leaf().chain(), None)
    good = next(chain.leaf for chain in chains if chain.ders[0][-1] % 2 == 0)
    tbs_and_more = good.public_bytes(Encoding.DER).removesuffix(b"\x00" + good.signature)
    bad = tbs_and_more + b"\x01" + good.signature
    with pytest.raises(Refusal, match="the signature of certificate 1 is not of whole bytes"):
        parse_chain(_pem(bad))


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_damaged_certificate_is_refused_or_linted_never_a_crash(position: int, value: int) -> None:
    der = bytearray(pki.identity().chain.ders[0])
    der[position % len(der)] ^= value
    try:
        chain = parse_chain(_pem(bytes(der)) + _pem(pki.identity().chain.ders[1]))
    except Refusal as refusal:
        assert refusal.reason is Reason.CertificateInvalid  # noqa: PT017 - most damage can be read
    else:
        assert any(finding.severity is Severity.ERROR for finding in lint(chain, now=NOW))


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
