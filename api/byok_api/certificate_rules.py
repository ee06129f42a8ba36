"""The rules of C2PA's certificate profile, each a small check that yields the names of the rules that are broken.

"Profile" below is C2PA 2.x, section 14.5.1 (Certificate Profiles), as c2pa-rs enforces it: breaking it is an error.
"Policy" is the C2PA Certificate Policy, which binds CAs on the C2PA Trust List: breaking it is a warning, since other
CAs may be trusted too; but a leaf without an organization is an error, since no validator could say who signed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    NameOID,
    SignatureAlgorithmOID,
)

from byok_api.signatures import algorithms_for


class Severity(StrEnum):
    """What a finding means for signing."""

    ERROR = "error"
    """Validators will not trust what is signed with this certificate."""
    WARNING = "warning"
    """Some validators, or some uses, will have trouble with it."""


@dataclass(frozen=True)
class Rule:
    """What a finding of this name says, where the rule is written down, and how to satisfy it."""

    severity: Severity
    source: str
    remedy: str


def _error(source: str, remedy: str) -> Rule:
    return Rule(Severity.ERROR, source, remedy)


def _warning(source: str, remedy: str) -> Rule:
    return Rule(Severity.WARNING, source, remedy)


_CHAIN = "RFC 5280, section 6.1"
_PROFILE = "C2PA 2.x, section 14.5.1"
_POLICY = "C2PA Certificate Policy"
_REISSUE = "have the CA issue the certificate anew"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # The chain.
        "NotYetValid": _error(_CHAIN, "wait, or compare the clocks"),
        "Expired": _error(_CHAIN, "register a valid certificate (C2PA's policy wants a new KMS key with it)"),
        "ChainOutOfOrder": _error("RFC 9360, section 2", "put the leaf first, then each certificate's issuer"),
        "ChainSignatureInvalid": _error(_CHAIN, "use the certificate of the CA that really issued it"),
        "IssuerNotCa": _error(_CHAIN, "issue from a CA with basicConstraints CA:TRUE and key usage keyCertSign"),
        "PathLengthExceeded": _error(_CHAIN, "issue from a CA whose pathLenConstraint leaves room for this chain"),
        "IssuerSubjectKeyIdentifierMissing": _error(_PROFILE, "issue from a CA certificate with this extension"),
        "RootIncluded": _warning("RFC 9360, section 2", "leave the root out: validators have it, assets need not"),
        "ChainTooLarge": _warning(
            "kms:Sign, RAW messages", "leave out the root, use smaller keys and fewer extensions"
        ),
        # Every certificate.
        "NotVersion3": _error(_PROFILE, _REISSUE),
        "SignatureAlgorithmNotAllowed": _error(_PROFILE, "have it signed with ECDSA, RSA (SHA-2), PSS or Ed25519"),
        "PssParametersInvalid": _error(_PROFILE, "use the same SHA-2 hash for the message and for MGF1"),
        "KeyTypeNotAllowed": _error(_PROFILE, "use P-256, P-384, P-521, RSA 2048/3072/4096 or Ed25519"),
        "UniqueIdPresent": _error(_PROFILE, "issue without issuerUniqueID and subjectUniqueID"),
        "CriticalExtensionUnknown": _error(_PROFILE, "issue without it, or not critical"),
        "AuthorityKeyIdentifierMissing": _error(_PROFILE, "have the CA add authorityKeyIdentifier"),
        "AuthorityKeyIdentifierMismatch": _error(_CHAIN, "use the certificate of the CA that really issued it"),
        # The leaf.
        "SelfSigned": _error(_PROFILE, "have the key certified by a CA, a private one if need be"),
        "LeafIsCa": _error(_PROFILE, "issue the leaf with CA:FALSE"),
        "OrganizationMissing": _error(_POLICY, "name the organization (O) in the subject: validators show it"),
        "KeyUsageMissing": _error(_PROFILE, "add key usage digitalSignature, critical"),
        "DigitalSignatureMissing": _error(_PROFILE, "add digitalSignature to the key usage"),
        "KeyCertSignOnLeaf": _error(_PROFILE, "remove keyCertSign from the key usage"),
        "KeyUsageNotCritical": _warning(_PROFILE, "mark key usage as critical"),
        "ExtendedKeyUsageMissing": _error(_PROFILE, "add extended key usage emailProtection"),
        "AnyExtendedKeyUsage": _error(_PROFILE, "name the purposes: emailProtection, with claimSigning if wanted"),
        "ExtendedKeyUsageNotAllowed": _error(_PROFILE, "use emailProtection, alone or with claimSigning"),
        "ExtendedKeyUsageNeedsTrustConfig": _warning(
            "C2PA 2.x, section 14.4.1",
            "add emailProtection, or have validators name this purpose in trust.trust_config",
        ),
        "ExtendedKeyUsageExtra": _warning(_POLICY, "use emailProtection, alone or with claimSigning"),
        "SubjectKeyIdentifierMissing": _warning(_PROFILE, "have the CA add subjectKeyIdentifier"),
        "ValidityTooLong": _warning(_POLICY, "issue for at most 366 days (assurance level 1) or 90 (level 2)"),
        "OcspPointerMissing": _warning(_POLICY, "have the CA add its OCSP responder to authorityInfoAccess"),
    },
)
"""Every finding that the lint can report, by name."""

Chain = tuple[x509.Certificate, ...]
"""Leaf first."""
Broken = Iterator[tuple[str, str]]
"""Names of broken rules, each with what was found."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
"""c2pa-kp-claimSigning (C2PA Certificate Policy)."""
DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning (RFC 9336)."""

_SIGNATURE_ALGORITHMS = frozenset(
    {
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.RSASSA_PSS,
        SignatureAlgorithmOID.ED25519,
    },
)
_PSS_HASHES = frozenset({"sha256", "sha384", "sha512"})
_RSA_MINIMUM = 2048
# What c2pa-rs 0.91 (certificate_profile.rs) reads; any other extension must not be critical.
_KNOWN_EXTENSIONS = frozenset(
    {
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    },
)
# The c2pa-al extension, and the DER of its value 1.3.6.1.4.1.62558.3.20, which is assurance level 2.
_ASSURANCE_LEVEL = x509.ObjectIdentifier("1.3.6.1.4.1.62558.3")
_LEVEL_2 = bytes.fromhex("060a2b0601040183e85e0314")
_VALIDITY_LEVEL_1 = timedelta(days=366)
_VALIDITY_LEVEL_2 = timedelta(days=90)
# A Sig_structure carries the chain and 1 to 2 KB more, and KMS takes 4,096 bytes with Ed25519.
_SIZE_ED25519 = 2048
_SIZE = 8192
_UNIQUE_ID_TAGS = frozenset({0x81, 0x82})


def _name(certificate: x509.Certificate) -> str:
    return f"certificate {certificate.subject.rfc4514_string()[:120]!r}"


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def validity(chain: Chain, now: datetime) -> Broken:
    """Check that each certificate is valid at `now`."""
    for certificate in chain:
        if now < certificate.not_valid_before_utc:
            yield "NotYetValid", f"{_name(certificate)} is valid from {certificate.not_valid_before_utc.isoformat()}"
        if now > certificate.not_valid_after_utc:
            yield "Expired", f"{_name(certificate)} was valid until {certificate.not_valid_after_utc.isoformat()}"


def links(chain: Chain, _now: datetime) -> Broken:
    """Check that each certificate is signed by the next one."""
    for certificate, issuer in pairwise(chain):
        if certificate.issuer != issuer.subject:
            yield "ChainOutOfOrder", f"{_name(certificate)} is followed by {_name(issuer)}, which is not its issuer"
            continue
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
            yield "ChainSignatureInvalid", f"{_name(certificate)} is not signed by the key of {_name(issuer)}"
        ours = _extension(certificate, x509.AuthorityKeyIdentifier)
        theirs = _extension(issuer, x509.SubjectKeyIdentifier)
        if ours and ours.key_identifier and theirs and ours.key_identifier != theirs.digest:
            yield "AuthorityKeyIdentifierMismatch", f"{_name(certificate)} names another key than its issuer's"


def issuers(chain: Chain, _now: datetime) -> Broken:
    """Check that every certificate but the leaf is a CA's, allowed to issue the ones below it."""
    for below, issuer in enumerate(chain[1:]):
        constraints = _extension(issuer, x509.BasicConstraints)
        usage = _extension(issuer, x509.KeyUsage)
        if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
            yield "IssuerNotCa", f"{_name(issuer)} may not issue certificates"
        elif constraints.path_length is not None and constraints.path_length < below:
            yield "PathLengthExceeded", f"{_name(issuer)} allows {constraints.path_length} CAs below it, not {below}"
        if _extension(issuer, x509.SubjectKeyIdentifier) is None:
            yield "IssuerSubjectKeyIdentifierMissing", f"{_name(issuer)} has no subjectKeyIdentifier"


def size(chain: Chain, _now: datetime) -> Broken:
    """Check that the chain, which every signed asset carries, is no larger than it need be."""
    root = chain[-1]
    if len(chain) > 1 and root.issuer == root.subject:
        yield "RootIncluded", f"{_name(root)} is a root"
    limit = _SIZE_ED25519 if isinstance(chain[0].public_key(), ed25519.Ed25519PublicKey) else _SIZE
    found = sum(len(certificate.public_bytes(Encoding.DER)) for certificate in chain)
    if found > limit:
        yield "ChainTooLarge", f"the chain has {found} bytes; over {limit} signing becomes slow or, with Ed25519, fails"


def encoding(chain: Chain, _now: datetime) -> Broken:
    """Check that version, signature algorithm, key and extensions of each certificate are ones that C2PA takes."""
    for certificate in chain:
        if certificate.version is not x509.Version.v3:
            yield "NotVersion3", f"{_name(certificate)} is not of X.509 version 3"
        yield from _signature_algorithm(certificate)
        if not _key_allowed(certificate.public_key()):
            yield "KeyTypeNotAllowed", f"the key of {_name(certificate)} is of a type or size that C2PA forbids"
        if _UNIQUE_ID_TAGS & set(_field_tags(certificate.tbs_certificate_bytes)):
            yield "UniqueIdPresent", f"{_name(certificate)} has a unique identifier"
        for extension in certificate.extensions:
            if extension.critical and extension.oid not in _KNOWN_EXTENSIONS:
                yield (
                    "CriticalExtensionUnknown",
                    f"{_name(certificate)} has the critical extension {extension.oid.dotted_string}",
                )
        if certificate.issuer != certificate.subject and not _extension(certificate, x509.AuthorityKeyIdentifier):
            yield "AuthorityKeyIdentifierMissing", f"{_name(certificate)} has no authorityKeyIdentifier"


def leaf_identity(chain: Chain, _now: datetime) -> Broken:
    """Check that the leaf is an organization's, issued by a CA, with a key that KMS can have."""
    leaf = chain[0]
    if leaf.issuer == leaf.subject:
        yield "SelfSigned", f"{_name(leaf)} is its own issuer"
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield "LeafIsCa", f"{_name(leaf)} is a CA's"
    if not leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME):
        yield "OrganizationMissing", f"{_name(leaf)} names no organization"
    if _key_allowed(leaf.public_key()) and not algorithms_for(leaf.public_key()):
        yield "KeyTypeNotAllowed", f"the key of {_name(leaf)} is of a size that KMS does not have"
    if _extension(leaf, x509.SubjectKeyIdentifier) is None:
        yield "SubjectKeyIdentifierMissing", f"{_name(leaf)} has no subjectKeyIdentifier"


def leaf_key_usage(chain: Chain, _now: datetime) -> Broken:
    """Check that the leaf's key may sign data, and no certificates."""
    leaf = chain[0]
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None:
        yield "KeyUsageMissing", f"{_name(leaf)} has no key usage"
        return
    if not usage.digital_signature:
        yield "DigitalSignatureMissing", f"the key usage of {_name(leaf)} lacks digitalSignature"
    if usage.key_cert_sign:
        yield "KeyCertSignOnLeaf", f"the key usage of {_name(leaf)} has keyCertSign"
    if not leaf.extensions.get_extension_for_class(x509.KeyUsage).critical:
        yield "KeyUsageNotCritical", f"the key usage of {_name(leaf)} is not critical"


def leaf_purposes(chain: Chain, _now: datetime) -> Broken:
    """Check that the leaf's extended key usage is one that validators take for claims."""
    leaf = chain[0]
    purposes = set(_extension(leaf, x509.ExtendedKeyUsage) or ())
    named = f"the extended key usage of {_name(leaf)}"
    listed = ", ".join(sorted(purpose.dotted_string for purpose in purposes))[:200]
    if not purposes:
        yield "ExtendedKeyUsageMissing", f"{_name(leaf)} has no extended key usage"
    elif ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes:
        yield "AnyExtendedKeyUsage", f"{named} contains anyExtendedKeyUsage"
    elif purposes & {ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.OCSP_SIGNING}:
        yield "ExtendedKeyUsageNotAllowed", f"{named} ({listed}) is for time stamps or OCSP, which excludes claims"
    elif ExtendedKeyUsageOID.EMAIL_PROTECTION in purposes:
        if purposes - {ExtendedKeyUsageOID.EMAIL_PROTECTION, CLAIM_SIGNING, DOCUMENT_SIGNING}:
            yield "ExtendedKeyUsageExtra", f"{named} ({listed}) has purposes that signing does not need"
    elif purposes & {CLAIM_SIGNING, DOCUMENT_SIGNING}:
        yield "ExtendedKeyUsageNeedsTrustConfig", f"{named} ({listed}) is not one that every validator takes"
    else:
        yield "ExtendedKeyUsageNotAllowed", f"{named} ({listed}) is not for signing claims"


def leaf_policy(chain: Chain, _now: datetime) -> Broken:
    """Check that the leaf is what C2PA's certificate policy lets a CA issue."""
    leaf = chain[0]
    level_2 = any(
        isinstance(extension.value, x509.UnrecognizedExtension) and extension.value.value == _LEVEL_2
        for extension in leaf.extensions
        if extension.oid == _ASSURANCE_LEVEL
    )
    limit = _VALIDITY_LEVEL_2 if level_2 else _VALIDITY_LEVEL_1
    if leaf.not_valid_after_utc - leaf.not_valid_before_utc > limit:
        yield "ValidityTooLong", f"{_name(leaf)} is valid for more than {limit.days} days"
    access = _extension(leaf, x509.AuthorityInformationAccess) or ()
    if not any(entry.access_method == AuthorityInformationAccessOID.OCSP for entry in access):
        yield "OcspPointerMissing", f"{_name(leaf)} names no OCSP responder"


CHECKS: tuple[Callable[[Chain, datetime], Broken], ...] = (
    validity,
    links,
    issuers,
    encoding,
    leaf_identity,
    leaf_key_usage,
    leaf_purposes,
    leaf_policy,
    size,
)
"""In the order in which findings are reported."""


def _signature_algorithm(certificate: x509.Certificate) -> Broken:
    if certificate.signature_algorithm_oid not in _SIGNATURE_ALGORITHMS:
        yield (
            "SignatureAlgorithmNotAllowed",
            f"{_name(certificate)} is signed with {certificate.signature_algorithm_oid.dotted_string}",
        )
    elif isinstance(parameters := certificate.signature_algorithm_parameters, padding.PSS):
        digest = certificate.signature_hash_algorithm
        # cryptography reads MGF1's hash but has no public name for it.
        mask = parameters.mgf._algorithm.name  # noqa: SLF001 - see above
        if digest is None or digest.name not in _PSS_HASHES or mask != digest.name:
            yield "PssParametersInvalid", f"{_name(certificate)} is signed with RSASSA-PSS of unequal or weak hashes"


def _key_allowed(key: PublicKeyTypes) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _RSA_MINIMUM
    return isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) and bool(algorithms_for(key))


def _field_tags(tbs: bytes) -> Iterator[int]:
    """Yield the tag of each field of a TBSCertificate (RFC 5280, section 4.1), already known to be valid DER."""
    offset = _content_range(tbs, 0)[0]
    while offset < len(tbs):
        yield tbs[offset]
        offset = _content_range(tbs, offset)[1]


def _content_range(der: bytes, offset: int) -> tuple[int, int]:
    length, start = der[offset + 1], offset + 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(der[start : start + octets], "big"), start + octets
    return start, start + length
