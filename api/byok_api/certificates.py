"""Certificate chains of signing keys, and a lint that names each rule of C2PA's certificate profile that one breaks.

c2pa itself answers most faults with "the certificate is invalid", and only once something was to be signed.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from byok_api import signatures
from byok_api.certificate_rules import CHECKS, RULES, Severity
from byok_api.errors import Reason, Refusal

CHAIN_SIZE_LIMIT = 32 * 1024
"""Characters of PEM that a chain may have."""
CHAIN_LENGTH_LIMIT = 8
"""Certificates that a chain may have."""
_EXPONENT_LIMIT = 64
"""Bits; KMS's keys have 17, and the time to verify a signature grows with them: 60-fold at the length of the key."""
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a certificate, its key or its extensions may raise (cryptography, X.509 reference).

A TypeError comes of a name whose attribute is a bit string, a ValueError of most else.
"""

_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----\s([A-Za-z0-9+/=\s]*)-----END \1-----")
_PEM_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40})")


@dataclass(frozen=True)
class Finding:
    """One rule that a chain breaks."""

    name: str
    """A key of RULES."""
    severity: Severity
    message: str


@dataclass(frozen=True)
class CertificateChain:
    """A parsed x5chain, leaf first; nothing is known yet of whether it may sign."""

    ders: tuple[bytes, ...]
    """Each certificate exactly as registered, which is how claims must carry it."""
    certificates: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """The signing key's own certificate."""
        return self.certificates[0]

    @cached_property
    def not_before(self) -> datetime:
        """The first moment, in UTC, at which every certificate of the chain is valid."""
        return max(certificate.not_valid_before_utc for certificate in self.certificates)

    @cached_property
    def not_after(self) -> datetime:
        """The last moment, in UTC, at which every certificate of the chain is valid."""
        return min(certificate.not_valid_after_utc for certificate in self.certificates)

    @cached_property
    def subject(self) -> str:
        """The leaf's subject (RFC 4514)."""
        return self.leaf.subject.rfc4514_string()

    @cached_property
    def public_key(self) -> PublicKeyTypes:
        """The leaf's public key, of whatever type the certificate has."""
        return self.leaf.public_key()

    @cached_property
    def spki_sha256(self) -> str:
        """SHA-256 of the leaf's SubjectPublicKeyInfo: 64 lower-case hexadecimal digits."""
        return signatures.spki_sha256(self.public_key)


def parse_chain(pem: str) -> CertificateChain:
    """Read PEM certificates, leaf first; Refusal CertificateInvalid says what is no chain of certificates."""
    if len(pem) > CHAIN_SIZE_LIMIT:
        raise _refusal(f"the chain has {len(pem)} characters; at most {CHAIN_SIZE_LIMIT} are taken")
    labels = [match[1].strip() for match in _PEM_BEGIN.finditer(pem)]
    for label in labels:
        if label != "CERTIFICATE":
            raise _refusal(f"the chain contains a PEM block {label!r}; only CERTIFICATE blocks belong there")
    blocks = [match[2] for match in _PEM_BLOCK.finditer(pem)]
    if not blocks or len(blocks) != len(labels):
        raise _refusal(
            "it must be PEM: blocks from BEGIN CERTIFICATE to END CERTIFICATE with base64 between, leaf first"
        )
    if len(blocks) > CHAIN_LENGTH_LIMIT:
        raise _refusal(f"the chain has {len(blocks)} certificates; at most {CHAIN_LENGTH_LIMIT} are taken")
    ders = tuple(_decode(block, position) for position, block in enumerate(blocks, start=1))
    return CertificateChain(ders, tuple(_load(der, position) for position, der in enumerate(ders, start=1)))


def lint(chain: CertificateChain, *, now: datetime) -> tuple[Finding, ...]:
    """List every rule that the chain breaks at the aware time `now`, errors first; empty means that it may sign."""
    found = [
        Finding(name, RULES[name].severity, f"{what}; {RULES[name].remedy} ({RULES[name].source})")
        for check in CHECKS
        for name, what in check(chain.certificates, now)
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity is Severity.WARNING))


def _decode(block: str, position: int) -> bytes:
    try:
        return base64.b64decode("".join(block.split()), validate=True)
    except binascii.Error as error:
        raise _refusal(f"certificate {position} is not base64") from error


def _load(der: bytes, position: int) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed lazily: everything that the lint reads is read here once, where garbage has an answer.
        public_key = certificate.public_key()
        _ = certificate.extensions, certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
        _ = (
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            certificate.signature_algorithm_parameters,
        )
    except x509.UnsupportedGeneralNameType as error:
        raise _refusal(f"certificate {position} names something in a way that is not supported") from error
    except UNREADABLE as error:
        raise _refusal(f"certificate {position} cannot be read: {error}"[:300]) from error
    if certificate.serial_number <= 0:
        raise _refusal(f"the serial number of certificate {position} is not positive (RFC 5280, 4.1.2.2)")
    # It ends the certificate; the byte before counts the bits that its last one lacks, and is in no signature itself.
    if der[-1 - len(certificate.signature)] != 0:
        raise _refusal(f"the signature of certificate {position} is not of whole bytes (RFC 5280, 4.1.1.3)")
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.public_numbers().e.bit_length() > _EXPONENT_LIMIT:
        raise _refusal(f"the RSA key of certificate {position} has an exponent of over {_EXPONENT_LIMIT} bits")
    return certificate


def _refusal(message: str) -> Refusal:
    return Refusal(Reason.CertificateInvalid, f"not a certificate chain: {message}")
