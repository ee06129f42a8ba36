"""Makes the signer's CA and its serving certificates, with fresh P-256 keys.

Profile: RFC 5280, sections 4.2.1.1 to 4.2.1.12. Each CA has a subject of its own, since verifiers look issuers up by
name and during a rotation there are two.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from byok_operator.certificates import CA_VALIDITY, SERVING_VALIDITY, Pair

# Clocks of the machines that verify may run behind.
_BACKDATED = timedelta(minutes=5)
_SUBJECT = "byok-signer"


def make_authority(*, now: datetime) -> Pair:
    """Make a self-signed CA that issues leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"{_SUBJECT} CA {identifier.digest.hex()[:16]}")
    certificate = (
        _builder(name, key, until=now + CA_VALIDITY, now=now)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue_serving(authority: Pair, names: Sequence[str], *, now: datetime) -> Pair:
    """Issue a server certificate for DNS names; it never outlives its CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    until = min(now + SERVING_VALIDITY, issuer.not_valid_after_utc)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    certificate = (
        _builder(_name(_SUBJECT), key, until=until, now=now)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key as PEM (PKCS #8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, until: datetime, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(**bits: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=bits.get("digital_signature", False),
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=bits.get("key_cert_sign", False),
        crl_sign=bits.get("crl_sign", False),
        encipher_only=False,
        decipher_only=False,
    )
