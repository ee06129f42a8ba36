"""Keys and certificate chains for tests, made once for each session: good ones for all algorithms, and bad ones."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import CertificateChain, parse_chain
from byok_api.signatures import PublicKey, p1363_from_der
from byok_sandbox import ca

NOW = datetime.now(UTC).replace(microsecond=0)
"""When the session began; c2pa reads the real clock, so certificates must be valid by it."""
ORGANIZATION = "Example Media"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_CURVES: dict[SigningAlgorithm, ec.EllipticCurve] = {
    SigningAlgorithm.ES256: ec.SECP256R1(),
    SigningAlgorithm.ES384: ec.SECP384R1(),
    SigningAlgorithm.ES512: ec.SECP521R1(),
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True)
class Identity:
    """A private key, and the chain that certifies it."""

    algorithm: SigningAlgorithm
    private_key: PrivateKey
    chain: CertificateChain

    @property
    def public_key(self) -> PublicKey:
        return self.private_key.public_key()

    @property
    def chain_pem(self) -> str:
        return ca.pem_of(self.chain.certificates)

    def sign(self, message: bytes) -> bytes:
        """Sign as COSE wants it: P1363 for ECDSA."""
        signature = sign_der(self.private_key, self.algorithm, message)
        return p1363_from_der(signature, self.algorithm) if self.algorithm in _CURVES else signature


def new_key(algorithm: SigningAlgorithm) -> PrivateKey:
    """Make a fresh key that can sign with the algorithm; RSA keys have 2048 bits."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm])
    if algorithm is SigningAlgorithm.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def sign_der(private_key: PrivateKey, algorithm: SigningAlgorithm, message: bytes) -> bytes:
    """Sign as KMS does: DER for ECDSA."""
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(message)
    digest = _HASHES[algorithm.facts.hash_name or ""]
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return private_key.sign(message, ec.ECDSA(digest))
    return private_key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


@cache
def authority() -> ca.SigningAuthority:
    """Certifies every identity of the session."""
    return ca.SigningAuthority.create(now=NOW, organization=ORGANIZATION)


@cache
def foreign_authority() -> ca.SigningAuthority:
    """Bears the same name, and is not trusted."""
    return ca.SigningAuthority.create(now=NOW, organization=ORGANIZATION)


def trust_anchor() -> str:
    """PEM of the root that verifiers in tests trust."""
    return authority().trust_anchor_pem


@cache
def identity(algorithm: SigningAlgorithm = SigningAlgorithm.ES256) -> Identity:
    """The session's own key for the algorithm."""
    return certified(new_key(algorithm), algorithm)


def certified(private_key: PrivateKey, algorithm: SigningAlgorithm) -> Identity:
    """Have the session's authority certify any key."""
    subject = ca.name(ORGANIZATION, f"{algorithm} signing key")
    return Identity(algorithm, private_key, authority().certify(private_key.public_key(), subject, now=NOW))


GOOD_EXTENSIONS: ca.Extensions = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (ca.key_usage(digital_signature=True), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    (
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(
                    AuthorityInformationAccessOID.OCSP,
                    x509.UniformResourceIdentifier("http://ocsp.example.com"),
                ),
            ],
        ),
        False,
    ),
)
"""What Leaf has beside the key identifiers: the lint finds nothing in it."""
GOOD_SUBJECT = ca.name(ORGANIZATION, "varied")


def extensions(
    *replaced: tuple[x509.ExtensionType, bool], without: type[x509.ExtensionType] | None = None
) -> ca.Extensions:
    """Vary GOOD_EXTENSIONS: replace or add some, leave one out."""
    kinds = {type(extension) for extension, _ in replaced} | {without}
    kept = tuple(entry for entry in GOOD_EXTENSIONS if type(entry[0]) not in kinds)
    return (*kept, *replaced)


@dataclass(frozen=True)
class Leaf:
    """A leaf certificate to be varied; every default is good."""

    extensions: ca.Extensions = GOOD_EXTENSIONS
    subject: x509.Name = GOOD_SUBJECT
    public_key: CertificatePublicKeyTypes | None = None
    """None is a fresh P-256 key."""
    not_before: datetime = NOW - timedelta(minutes=5)
    validity: timedelta = timedelta(days=90)
    subject_key_identifier: bool = True
    authority_key_identifier: bool = True
    digest: hashes.SHA224 | hashes.SHA256 = field(default_factory=hashes.SHA256)
    serial_number: int = field(default_factory=x509.random_serial_number)

    def issued_by(self, issuer: ca.Issuer) -> x509.Certificate:
        """Sign as it is, whatever rules that breaks."""
        public_key = self.public_key or ec.generate_private_key(ec.SECP256R1()).public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.certificate.subject)
            .public_key(public_key)
            .serial_number(self.serial_number)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_before + self.validity)
        )
        for extension, critical in self.extensions:
            builder = builder.add_extension(extension, critical=critical)
        if self.subject_key_identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        if self.authority_key_identifier:
            ours = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            authority_key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours)
            builder = builder.add_extension(authority_key, critical=False)
        return builder.sign(issuer.key, self.digest)

    def chain(self) -> CertificateChain:
        """Sign with the session's authority, and add its certificate."""
        issuer = authority().intermediate
        return chain_of(self.issued_by(issuer), issuer.certificate)


def chain_of(*certificates: x509.Certificate) -> CertificateChain:
    """Register certificates as they are, in any order."""
    return parse_chain(ca.pem_of(certificates))
