"""The signer's own CA and serving certificate, as other programs take them."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from byok_operator.certificates import CA_VALIDITY, SERVING_VALIDITY, Pair, is_issued_by, pem_of
from byok_operator.issuing import issue_serving, make_authority
from tests.support.signer_certificates import BEGIN, NAMES, days, handshake

AUTHORITY, OTHER = make_authority(now=BEGIN), make_authority(now=BEGIN)
SERVING = issue_serving(AUTHORITY, NAMES, now=BEGIN)
STRANGER = issue_serving(OTHER, NAMES, now=BEGIN)


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize("name", NAMES)
def test_who_trusts_the_ca_takes_the_certificate_for_each_of_its_names(name: str, tmp_path: Path) -> None:
    handshake(SERVING, pem_of([AUTHORITY.certificate]), name, tmp_path)


@pytest.mark.parametrize("serving", [SERVING, STRANGER])
@pytest.mark.parametrize("trusted", [(AUTHORITY, OTHER), (OTHER, AUTHORITY)])
def test_who_trusts_both_takes_certificates_of_either(
    serving: Pair, trusted: tuple[Pair, Pair], tmp_path: Path
) -> None:
    handshake(serving, pem_of(each.certificate for each in trusted), NAMES[0], tmp_path)


@pytest.mark.parametrize(("serving", "name"), [(STRANGER, NAMES[0]), (SERVING, "byok-signer.elsewhere.svc")])
def test_another_ca_and_another_name_are_refused(serving: Pair, name: str, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(serving, pem_of([AUTHORITY.certificate]), name, tmp_path)


def test_a_ca_issues_leaves_only_and_a_leaf_serves_only() -> None:
    basic = AUTHORITY.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = AUTHORITY.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert purposes(SERVING.certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not SERVING.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_two_cas_have_two_names_and_all_keys_are_of_p_256_and_fresh() -> None:
    assert AUTHORITY.certificate.subject != OTHER.certificate.subject
    assert not is_issued_by(STRANGER.certificate, AUTHORITY.certificate)
    pairs = (AUTHORITY, OTHER, SERVING, STRANGER)
    assert {type(pair.key.curve) for pair in pairs} == {ec.SECP256R1}
    assert len({pair.key.private_numbers().private_value for pair in pairs}) == len(pairs)


def test_a_certificate_lives_as_long_as_it_should_and_never_longer_than_its_ca() -> None:
    assert AUTHORITY.certificate.not_valid_after_utc == BEGIN + CA_VALIDITY
    assert SERVING.certificate.not_valid_after_utc == BEGIN + SERVING_VALIDITY
    late = issue_serving(AUTHORITY, NAMES, now=BEGIN + CA_VALIDITY - days(1))
    assert late.certificate.not_valid_after_utc == AUTHORITY.certificate.not_valid_after_utc


def test_no_private_key_is_written_by_accident() -> None:
    assert "key" not in repr(SERVING)
    assert "PRIVATE" not in f"{SERVING!r} {SERVING}"
