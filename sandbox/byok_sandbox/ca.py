"""Throw-away certificate authorities: one for signing keys, as C2PA wants them, and one for TLS between the parts.

Their private keys live in this process only, so nobody but the sandbox's own verifier should trust them. They run no
OCSP responder, so their certificates name none.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from byok_api.certificate_rules import CLAIM_SIGNING
from byok_api.certificates import CertificateChain, parse_chain

CA_VALIDITY = timedelta(days=730)
LEAF_VALIDITY = timedelta(days=90)
"""What C2PA's certificate policy allows at assurance level 2."""
CSR_SIZE_LIMIT = 16 * 1024

# Clocks of the machines that verify may run behind.
_BACKDATED = timedelta(minutes=5)
_PURPOSES_SIGNING = (ExtendedKeyUsageOID.EMAIL_PROTECTION, CLAIM_SIGNING)

Extensions = tuple[tuple[x509.ExtensionType, bool], ...]
"""Each extension, and whether it is critical."""


class CsrError(ValueError):
    """A certificate signing request is unreadable, unsigned, or asks for what this CA does not certify."""


@dataclass(frozen=True)
class Request:
    """A certificate to be issued."""

    subject: x509.Name
    public_key: CertificatePublicKeyTypes
    validity: timedelta
    extensions: Extensions


@dataclass(frozen=True)
class Issuer:
    """A CA certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create_root(cls, subject: x509.Name, *, now: datetime) -> Self:
        """Make a self-signed root with a fresh P-256 key."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = Request(subject, key.public_key(), CA_VALIDITY, _ca_extensions(path_length=1))
        return cls(_builder(request, subject, now=now).sign(key, hashes.SHA256()), key)

    def create_intermediate(self, subject: x509.Name, *, now: datetime) -> Self:
        """Make a CA below this one, with a fresh P-256 key, which issues leaves only."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = Request(subject, key.public_key(), CA_VALIDITY, _ca_extensions(path_length=0))
        return type(self)(self.issue(request, now=now), key)

    def issue(self, request: Request, *, now: datetime) -> x509.Certificate:
        """Sign a certificate, adding authorityKeyIdentifier to its extensions."""
        ours = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours)
        builder = _builder(request, self.certificate.subject, now=now).add_extension(authority, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@dataclass(frozen=True)
class SigningAuthority:
    """A root and an intermediate that certify signing keys."""

    root: Issuer
    intermediate: Issuer

    @classmethod
    def create(cls, *, now: datetime, organization: str = "BYOK Sandbox") -> Self:
        """Make both with fresh keys."""
        root = Issuer.create_root(name(organization, f"{organization} Root CA"), now=now)
        return cls(root, root.create_intermediate(name(organization, f"{organization} Signing CA"), now=now))

    @property
    def trust_anchor_pem(self) -> str:
        """The root certificate: what a verifier needs to trust."""
        return pem_of([self.root.certificate])

    def certify(
        self,
        public_key: CertificatePublicKeyTypes,
        subject: x509.Name,
        *,
        now: datetime,
        validity: timedelta = LEAF_VALIDITY,
    ) -> CertificateChain:
        """Issue a leaf that C2PA takes; the chain is leaf and intermediate, without the root."""
        extensions = _leaf_extensions(_PURPOSES_SIGNING)
        return self._chain(Request(subject, public_key, validity, extensions), now=now)

    def certify_csr(self, csr_pem: str, *, now: datetime, validity: timedelta = LEAF_VALIDITY) -> CertificateChain:
        """Issue a leaf for the key and subject of a PEM CSR whose signature proves possession; CsrError otherwise."""
        if len(csr_pem) > CSR_SIZE_LIMIT:
            raise CsrError(f"the CSR has {len(csr_pem)} characters; at most {CSR_SIZE_LIMIT} are taken")
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            proven = csr.is_signature_valid
        except ValueError as error:
            raise CsrError("not a PEM certificate signing request with a signature that can be checked") from error
        if not proven:
            raise CsrError("the CSR is not signed by the key that it names: sign it with that key")
        if not csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME):
            raise CsrError("the CSR's subject names no organization (O), which C2PA wants: add it")
        return self.certify(csr.public_key(), csr.subject, now=now, validity=validity)

    def certify_time_stamping(
        self,
        public_key: CertificatePublicKeyTypes,
        subject: x509.Name,
        *,
        now: datetime,
    ) -> CertificateChain:
        """Issue a leaf for a time-stamping authority (RFC 3161, section 2.3: one purpose, critical)."""
        extensions = _leaf_extensions((ExtendedKeyUsageOID.TIME_STAMPING,), purposes_critical=True)
        return self._chain(Request(subject, public_key, LEAF_VALIDITY, extensions), now=now)

    def _chain(self, request: Request, *, now: datetime) -> CertificateChain:
        return parse_chain(pem_of([self.intermediate.issue(request, now=now), self.intermediate.certificate]))


@dataclass(frozen=True)
class ServerCertificate:
    """What a TLS server needs."""

    certificate_pem: str
    key_pem: str


@dataclass(frozen=True)
class TlsAuthority:
    """A root that issues server certificates, apart from the one for signing keys."""

    root: Issuer

    @classmethod
    def create(cls, *, now: datetime, organization: str = "BYOK Sandbox") -> Self:
        """Make it with a fresh key."""
        return cls(Issuer.create_root(name(organization, f"{organization} TLS CA"), now=now))

    @property
    def trust_anchor_pem(self) -> str:
        """The root certificate: what a TLS client needs to trust."""
        return pem_of([self.root.certificate])

    def issue(
        self,
        *,
        now: datetime,
        names: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
        validity: timedelta = LEAF_VALIDITY,
    ) -> ServerCertificate:
        """Issue a server certificate, with a fresh key, for DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName([_general_name(text) for text in names])
        extensions = (*_leaf_extensions((ExtendedKeyUsageOID.SERVER_AUTH,)), (alternatives, False))
        request = Request(name("BYOK Sandbox", names[0]), key.public_key(), validity, extensions)
        return ServerCertificate(
            pem_of([self.root.issue(request, now=now)]),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        )


def name(organization: str, common_name: str) -> x509.Name:
    """Make a subject with the organization that C2PA wants."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ],
    )


def pem_of(certificates: Sequence[x509.Certificate]) -> str:
    """Encode certificates as PEM, in the given order."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def key_usage(**bits: bool) -> x509.KeyUsage:
    """Make a key usage extension from the bits that are set."""
    return x509.KeyUsage(
        digital_signature=bits.get("digital_signature", False),
        content_commitment=bits.get("content_commitment", False),
        key_encipherment=bits.get("key_encipherment", False),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=bits.get("key_cert_sign", False),
        crl_sign=bits.get("crl_sign", False),
        encipher_only=False,
        decipher_only=False,
    )


def _builder(request: Request, issuer: x509.Name, *, now: datetime) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(issuer)
        .public_key(request.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now - _BACKDATED + request.validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)
    )
    for extension, critical in request.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder


def _ca_extensions(*, path_length: int) -> Extensions:
    return (
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage(key_cert_sign=True, crl_sign=True), True),
    )


def _leaf_extensions(purposes: Sequence[x509.ObjectIdentifier], *, purposes_critical: bool = False) -> Extensions:
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage(purposes), purposes_critical),
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
