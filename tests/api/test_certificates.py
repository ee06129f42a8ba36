"""Every rule of the certificate lint, broken on purpose, beside what c2pa itself makes of the same chain."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import pytest
from asn1crypto import core  # type: ignore[import-untyped]  # has no stubs
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificate_rules import CLAIM_SIGNING, DOCUMENT_SIGNING, RULES, Severity
from byok_api.certificates import CertificateChain, Finding, lint
from byok_sandbox import ca
from tests.support import pki, verdicts
from tests.support.pki import NOW, Leaf, chain_of, extensions

TRUSTED, INVALID, REFUSED = "Trusted", "Invalid", verdicts.REFUSED
Eku = ExtendedKeyUsageOID
_LEVEL_2 = (
    x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.4.1.62558.3"),
        core.ObjectIdentifier("1.3.6.1.4.1.62558.3.20").dump(),
    ),
    False,
)


def _purposes(*purposes: x509.ObjectIdentifier) -> Leaf:
    return Leaf(extensions((x509.ExtendedKeyUsage(purposes), False)))


def _usage(*, critical: bool = True, **bits: bool) -> Leaf:
    return Leaf(extensions((ca.key_usage(**bits), critical)))


def _unknown(*, critical: bool) -> Leaf:
    return Leaf(extensions((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical)))


# Each leaf, the findings that the lint must have, and c2pa's verdict. Where c2pa is laxer than the rule's source, the
# rule stays: c2pa is one validator of many.
LEAVES: dict[str, tuple[Leaf, set[str], str]] = {
    "good": (Leaf(), set(), TRUSTED),
    "claim signing too": (_purposes(Eku.EMAIL_PROTECTION, CLAIM_SIGNING), set(), TRUSTED),
    "no basic constraints": (Leaf(extensions(without=x509.BasicConstraints)), set(), TRUSTED),
    "no key usage": (Leaf(extensions(without=x509.KeyUsage)), {"KeyUsageMissing"}, REFUSED),
    "key usage without signing": (_usage(content_commitment=True), {"DigitalSignatureMissing"}, TRUSTED),
    "key usage for certificates": (
        _usage(digital_signature=True, key_cert_sign=True),
        {"KeyCertSignOnLeaf"},
        REFUSED,
    ),
    "key usage not critical": (_usage(critical=False, digital_signature=True), {"KeyUsageNotCritical"}, TRUSTED),
    "no purpose": (Leaf(extensions(without=x509.ExtendedKeyUsage)), {"ExtendedKeyUsageMissing"}, REFUSED),
    "any purpose": (
        _purposes(Eku.EMAIL_PROTECTION, Eku.ANY_EXTENDED_KEY_USAGE),
        {"AnyExtendedKeyUsage"},
        REFUSED,
    ),
    "claim signing alone": (_purposes(CLAIM_SIGNING), {"ExtendedKeyUsageNeedsTrustConfig"}, INVALID),
    "document signing alone": (_purposes(DOCUMENT_SIGNING), {"ExtendedKeyUsageNeedsTrustConfig"}, INVALID),
    "for servers": (_purposes(Eku.SERVER_AUTH), {"ExtendedKeyUsageNotAllowed"}, REFUSED),
    "for time stamps": (_purposes(Eku.TIME_STAMPING), {"ExtendedKeyUsageNotAllowed"}, TRUSTED),
    "for OCSP": (_purposes(Eku.OCSP_SIGNING), {"ExtendedKeyUsageNotAllowed"}, TRUSTED),
    "for time stamps too": (
        _purposes(Eku.EMAIL_PROTECTION, Eku.TIME_STAMPING),
        {"ExtendedKeyUsageNotAllowed"},
        REFUSED,
    ),
    "for clients too": (_purposes(Eku.EMAIL_PROTECTION, Eku.CLIENT_AUTH), {"ExtendedKeyUsageExtra"}, TRUSTED),
    "no authority key": (Leaf(authority_key_identifier=False), {"AuthorityKeyIdentifierMissing"}, REFUSED),
    "no subject key": (Leaf(subject_key_identifier=False), {"SubjectKeyIdentifierMissing"}, TRUSTED),
    "a CA": (Leaf(extensions((x509.BasicConstraints(ca=True, path_length=None), True))), {"LeafIsCa"}, REFUSED),
    "no organization": (
        Leaf(subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])),
        {"OrganizationMissing"},
        TRUSTED,
    ),
    "unknown critical extension": (_unknown(critical=True), {"CriticalExtensionUnknown"}, REFUSED),
    "unknown extension": (_unknown(critical=False), set(), TRUSTED),
    "a leap year": (Leaf(validity=timedelta(days=366)), set(), TRUSTED),
    "over a year": (Leaf(validity=timedelta(days=366, seconds=1)), {"ValidityTooLong"}, TRUSTED),
    "level 2": (Leaf(extensions(_LEVEL_2)), set(), TRUSTED),
    "level 2 over 90 days": (Leaf(extensions(_LEVEL_2), validity=timedelta(days=91)), {"ValidityTooLong"}, TRUSTED),
    "no OCSP": (Leaf(extensions(without=x509.AuthorityInformationAccess)), {"OcspPointerMissing"}, TRUSTED),
    "expired": (
        Leaf(not_before=NOW - timedelta(days=9), validity=timedelta(days=8)),
        {"Expired"},
        REFUSED,
    ),
    "not yet valid": (Leaf(not_before=NOW + timedelta(days=1)), {"NotYetValid"}, REFUSED),
    "signed with SHA-224": (Leaf(digest=hashes.SHA224()), {"SignatureAlgorithmNotAllowed"}, REFUSED),
}


def _names(chain: CertificateChain) -> set[str]:
    return {finding.name for finding in lint(chain, now=NOW)}


@pytest.mark.parametrize("case", LEAVES)
def test_a_leaf_has_exactly_the_findings_it_earns(case: str) -> None:
    leaf, expected, _ = LEAVES[case]
    assert _names(leaf.chain()) == expected


@pytest.mark.parametrize("case", LEAVES)
def test_c2pa_trusts_what_the_lint_finds_no_fault_with(case: str) -> None:
    leaf, expected, verdict = LEAVES[case]
    key = pki.identity()
    chain = replace(leaf, public_key=key.public_key).chain()
    assert verdicts.verdict(replace(key, chain=chain), pki.trust_anchor()) == verdict
    assert verdict == TRUSTED or expected


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_the_sandbox_issues_what_c2pa_trusts(algorithm: SigningAlgorithm) -> None:
    identity = pki.identity(algorithm)
    assert _names(identity.chain) == {"OcspPointerMissing"}
    assert verdicts.verdict(identity, pki.trust_anchor()) == TRUSTED
    assert verdicts.verdict(identity, pki.foreign_authority().trust_anchor_pem) != TRUSTED


def _public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | x25519.X25519PrivateKey) -> CertificateChain:
    return Leaf(public_key=key.public_key()).chain()


KEYS: dict[str, Callable[[], CertificateChain]] = {
    "secp256k1": lambda: _public(ec.generate_private_key(ec.SECP256K1())),
    "X25519": lambda: _public(x25519.X25519PrivateKey.generate()),
    "RSA 1024": lambda: _public(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be found
    "RSA 2560, which KMS does not have": lambda: _public(rsa.generate_private_key(65537, 2560)),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_that_cannot_sign_for_c2pa_in_kms_is_found(case: str) -> None:
    assert _names(KEYS[case]()) == {"KeyTypeNotAllowed"}


def _resigned(changes: Callable[[asn1.TbsCertificate], None]) -> CertificateChain:
    """Alter a good leaf in a way that no certificate builder offers, and sign it again."""
    issuer = pki.authority().intermediate
    leaf = asn1.Certificate.load(Leaf().issued_by(issuer).public_bytes(Encoding.DER))
    tbs = leaf["tbs_certificate"]
    changes(tbs)
    signature = issuer.key.sign(tbs.dump(force=True), ec.ECDSA(hashes.SHA256()))
    altered = asn1.Certificate(
        {
            "tbs_certificate": tbs,
            "signature_algorithm": leaf["signature_algorithm"],
            "signature_value": signature,
        },
    )
    return chain_of(x509.load_der_x509_certificate(altered.dump()), issuer.certificate)


def _make_version_1(tbs: asn1.TbsCertificate) -> None:
    tbs["version"] = "v1"
    tbs["extensions"] = None


def _add_issuer_unique_id(tbs: asn1.TbsCertificate) -> None:
    tbs["issuer_unique_id"] = b"\x01"


def _add_subject_unique_id(tbs: asn1.TbsCertificate) -> None:
    tbs["subject_unique_id"] = b"\x01"


def test_an_altered_and_resigned_leaf_is_still_good() -> None:
    assert _names(_resigned(lambda _: None)) == set()


def test_a_version_1_certificate_is_found() -> None:
    assert _names(_resigned(_make_version_1)) >= {"NotVersion3", "KeyUsageMissing", "ExtendedKeyUsageMissing"}


@pytest.mark.parametrize("change", [_add_issuer_unique_id, _add_subject_unique_id])
def test_unique_identifiers_are_found(change: Callable[[asn1.TbsCertificate], None]) -> None:
    assert _names(_resigned(change)) == {"UniqueIdPresent"}


@cache
def _rsa_ca() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    request = ca.Request(
        ca.name("RSA", "RSA CA"),
        key.public_key(),
        timedelta(days=9),
        (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (ca.key_usage(key_cert_sign=True), True),
        ),
    )
    return key, pki.authority().root.issue(request, now=NOW)


def _pss(digest: hashes.SHA256 | hashes.SHA224, mask: hashes.HashAlgorithm) -> CertificateChain:
    key, certificate = _rsa_ca()
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    good = Leaf().issued_by(pki.authority().intermediate)
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.subject)
        .issuer_name(certificate.subject)
        .public_key(good.public_key())
        .serial_number(7)
        .not_valid_before(good.not_valid_before_utc)
        .not_valid_after(good.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    for extension in good.extensions:
        if extension.oid != x509.AuthorityKeyIdentifier.oid:
            builder = builder.add_extension(extension.value, critical=extension.critical)
    signed = builder.sign(key, digest, rsa_padding=padding.PSS(padding.MGF1(mask), digest.digest_size))
    return chain_of(signed, certificate)


def test_pss_with_one_hash_is_good() -> None:
    assert _names(_pss(hashes.SHA256(), hashes.SHA256())) == set()


def test_pss_with_two_hashes_is_found() -> None:
    assert _names(_pss(hashes.SHA256(), hashes.SHA384())) == {"PssParametersInvalid"}


def test_pss_with_a_weak_hash_is_found() -> None:
    assert _names(_pss(hashes.SHA224(), hashes.SHA224())) == {"PssParametersInvalid"}


def _issued(issuer: ca.Issuer, *certificates: x509.Certificate) -> CertificateChain:
    return chain_of(Leaf().issued_by(issuer), issuer.certificate, *certificates)


def _ca_with(*certificate_extensions: tuple[x509.ExtensionType, bool], identifier: bool = True) -> ca.Issuer:
    """A CA below the root that breaks a rule, with a key to issue from."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = Leaf(
        certificate_extensions,
        subject=ca.name("Broken", "CA"),
        public_key=key.public_key(),
        subject_key_identifier=identifier,
    )
    return ca.Issuer(leaf.issued_by(pki.authority().root), key)


CA_CONSTRAINTS = (x509.BasicConstraints(ca=True, path_length=None), True)
CA_USAGE = (ca.key_usage(key_cert_sign=True), True)


def _too_deep() -> CertificateChain:
    intermediate = pki.authority().intermediate
    below = intermediate.create_intermediate(ca.name("Deep", "CA"), now=NOW)
    return _issued(below, intermediate.certificate)


def _signed_by_a_namesake() -> CertificateChain:
    leaf = Leaf().issued_by(pki.authority().intermediate)
    return chain_of(leaf, pki.foreign_authority().intermediate.certificate)


def _issuer_without_identifier() -> CertificateChain:
    issuer = _ca_with(CA_CONSTRAINTS, CA_USAGE, identifier=False)
    leaf = replace(Leaf(), authority_key_identifier=False).issued_by(issuer)
    return chain_of(leaf, issuer.certificate)


def _self_signed() -> CertificateChain:
    subject = ca.name("Own", "own")
    key = ec.generate_private_key(ec.SECP256R1())
    own = ca.Issuer(Leaf(subject=subject, public_key=key.public_key()).issued_by(pki.authority().root), key)
    return chain_of(Leaf(subject=subject, public_key=key.public_key()).issued_by(own))


def _padded(algorithm: SigningAlgorithm, size: int) -> CertificateChain:
    padding_extension = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size)), False)
    return Leaf(extensions(padding_extension), public_key=pki.identity(algorithm).public_key).chain()


CHAINS: dict[str, tuple[Callable[[], CertificateChain], set[str]]] = {
    "leaf alone": (lambda: chain_of(Leaf().issued_by(pki.authority().intermediate)), set()),
    "with the root": (
        lambda: _issued(pki.authority().intermediate, pki.authority().root.certificate),
        {"RootIncluded"},
    ),
    "twice the issuer": (
        lambda: _issued(pki.authority().intermediate, pki.authority().intermediate.certificate),
        {"ChainOutOfOrder", "PathLengthExceeded"},
    ),
    "issuer left out": (
        lambda: chain_of(Leaf().issued_by(pki.authority().intermediate), pki.authority().root.certificate),
        {"ChainOutOfOrder", "RootIncluded"},
    ),
    "issuer of the same name": (_signed_by_a_namesake, {"ChainSignatureInvalid", "AuthorityKeyIdentifierMismatch"}),
    "issuer no CA": (
        lambda: _issued(_ca_with((x509.BasicConstraints(ca=False, path_length=None), True), CA_USAGE)),
        {"IssuerNotCa"},
    ),
    "issuer without constraints": (lambda: _issued(_ca_with(CA_USAGE)), {"IssuerNotCa"}),
    "issuer may not sign certificates": (
        lambda: _issued(_ca_with(CA_CONSTRAINTS, (ca.key_usage(digital_signature=True), True))),
        {"IssuerNotCa"},
    ),
    "issuer without key usage": (lambda: _issued(_ca_with(CA_CONSTRAINTS)), set()),
    "issuer without identifier": (
        _issuer_without_identifier,
        {"IssuerSubjectKeyIdentifierMissing", "AuthorityKeyIdentifierMissing"},
    ),
    "deeper than allowed": (_too_deep, {"PathLengthExceeded"}),
    "self-signed": (_self_signed, {"SelfSigned"}),
    "large": (lambda: _padded(SigningAlgorithm.ES256, 8000), {"ChainTooLarge"}),
    "large for Ed25519": (lambda: _padded(SigningAlgorithm.ED25519, 1500), {"ChainTooLarge"}),
    "not large for ECDSA": (lambda: _padded(SigningAlgorithm.ES256, 1500), set()),
}


@pytest.mark.parametrize("case", CHAINS)
def test_a_chain_has_exactly_the_findings_it_earns(case: str) -> None:
    make, expected = CHAINS[case]
    assert _names(make()) == expected


def test_leaf_and_issuer_the_wrong_way_round_are_found() -> None:
    leaf, issuer = pki.identity().chain.certificates
    assert _names(chain_of(issuer, leaf)) >= {"ChainOutOfOrder", "IssuerNotCa", "LeafIsCa"}


def test_every_rule_is_broken_by_some_case() -> None:
    broken = {name for _, names, _ in LEAVES.values() for name in names}
    broken |= {name for _, names in CHAINS.values() for name in names}
    assert broken | {"KeyTypeNotAllowed", "NotVersion3", "UniqueIdPresent", "PssParametersInvalid"} == set(RULES)


def test_a_chain_is_valid_while_each_of_its_certificates_is() -> None:
    chain = pki.identity().chain
    leaf, issuer = chain.certificates
    assert chain.not_after == leaf.not_valid_after_utc < issuer.not_valid_after_utc
    assert _at(chain, chain.not_after) == _at(chain, chain.not_before) == {"OcspPointerMissing"}
    assert "Expired" in _at(chain, chain.not_after + timedelta(seconds=1))
    later = lint(chain, now=issuer.not_valid_after_utc + timedelta(seconds=1))
    assert [finding.name for finding in later].count("Expired") == 2


def _at(chain: CertificateChain, now: datetime) -> set[str]:
    return {finding.name for finding in lint(chain, now=now)}


def test_a_finding_says_what_and_where_and_how_to_put_it_right() -> None:
    (finding,) = lint(LEAVES["no key usage"][0].chain(), now=NOW)
    assert finding == Finding(
        "KeyUsageMissing",
        Severity.ERROR,
        "certificate 'CN=varied,O=Example Media' has no key usage; add key usage digitalSignature, critical "
        "(C2PA 2.x, section 14.5.1)",
    )


def test_errors_come_before_warnings() -> None:
    leaf = Leaf(extensions(without=x509.AuthorityInformationAccess), digest=hashes.SHA224(), validity=timedelta(800))
    severities = [finding.severity for finding in lint(leaf.chain(), now=NOW)]
    assert severities == [Severity.ERROR, Severity.WARNING, Severity.WARNING]
