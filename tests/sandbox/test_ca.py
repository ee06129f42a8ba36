"""The throw-away CA certifies keys that sign elsewhere, and c2pa trusts every kind of asset that they sign."""

import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import lint
from byok_sandbox import ca
from byok_signer.csr import RequestedNames, Unsigned
from tests.support import pki, verdicts
from tests.support.pki import NOW

SUBJECT = ca.name("Example Media", "held elsewhere")
MEDIA = sorted(path for path in verdicts.MEDIA.iterdir() if path.suffix != ".md")


def _csr(identity: pki.Identity) -> str:
    request = Unsigned(identity.public_key, identity.algorithm, RequestedNames(SUBJECT))
    signature = pki.sign_der(identity.private_key, identity.algorithm, request.message())
    return request.signed(signature).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
@pytest.mark.parametrize("path", MEDIA, ids=lambda path: path.name)
def test_every_sample_is_signed_and_trusted_with_every_algorithm(path: Path, algorithm: SigningAlgorithm) -> None:
    asset = verdicts.sign(path, pki.identity(algorithm))
    with verdicts.read(asset, verdicts.mime_type(path), pki.trust_anchor()) as reader:
        assert reader.get_validation_state() == "Trusted"


def test_no_sample_carries_a_manifest_already() -> None:
    assert {path.suffix for path in MEDIA} == {".docx", ".jpg", ".mp4", ".pdf", ".png", ".wav"}
    for path in MEDIA:
        assert b"c2pa" not in path.read_bytes()


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_a_key_that_only_signs_is_certified_by_its_csr(algorithm: SigningAlgorithm) -> None:
    identity = pki.identity(algorithm)
    chain = pki.authority().certify_csr(_csr(identity), now=NOW)
    assert chain.spki_sha256 == identity.chain.spki_sha256
    assert chain.subject == SUBJECT.rfc4514_string()
    assert {finding.name for finding in lint(chain, now=NOW)} == {"OcspPointerMissing"}
    assert verdicts.verdict(replace(identity, chain=chain), pki.trust_anchor()) == "Trusted"


def _altered_after_signing() -> str:
    der = x509.load_pem_x509_csr(_csr(pki.identity()).encode()).public_bytes(Encoding.DER)
    altered = der.replace(b"Example", b"Exemple")
    assert altered != der
    return x509.load_der_x509_csr(altered).public_bytes(Encoding.PEM).decode()


def _without_organization() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody's")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


CSRS = {
    "altered": (_altered_after_signing(), "not signed by the key"),
    "no organization": (_without_organization(), "names no organization"),
    "garbage": ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "not a PEM"),
    "empty": ("", "not a PEM"),
    "a certificate": (pki.identity().chain_pem, "not a PEM"),
    "too long": (" " * (ca.CSR_SIZE_LIMIT + 1), "at most 16384"),
}


@pytest.mark.parametrize("case", CSRS)
def test_a_csr_that_proves_nothing_is_refused_by_name(case: str) -> None:
    csr, words = CSRS[case]
    with pytest.raises(ca.CsrError, match=words):
        pki.authority().certify_csr(csr, now=NOW)


def test_a_csr_cannot_ask_for_more_than_a_leaf() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT)
    greedy = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    csr = greedy.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    chain = pki.authority().certify_csr(csr, now=NOW)
    assert not chain.leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_leaf_lasts_as_long_as_it_is_asked_to() -> None:
    chain = pki.authority().certify(pki.identity().public_key, SUBJECT, now=NOW, validity=timedelta(days=1))
    assert chain.leaf.not_valid_after_utc - chain.leaf.not_valid_before_utc == timedelta(days=1)
    assert chain.leaf.not_valid_before_utc < NOW


def test_time_stamping_is_the_one_critical_purpose_of_its_certificate() -> None:
    chain = pki.authority().certify_time_stamping(pki.identity().public_key, SUBJECT, now=NOW)
    purposes = chain.leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (list(purposes.value), purposes.critical) == ([ExtendedKeyUsageOID.TIME_STAMPING], True)


@pytest.fixture(scope="module")
def server_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = ca.TlsAuthority.create(now=NOW)
    certificate = authority.issue(now=NOW)
    (folder / "ca.pem").write_text(authority.trust_anchor_pem)
    (folder / "server.pem").write_text(certificate.certificate_pem + certificate.key_pem)
    (folder / "other.pem").write_text(ca.TlsAuthority.create(now=NOW).trust_anchor_pem)
    return folder


def _shake_hands(folder: Path, anchors: str, server_name: str) -> None:
    """Run TLS between two ends in memory, as a strict client checks it."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(folder / "server.pem")
    asking = ssl.create_default_context(cafile=folder / anchors)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(back, there, server_hostname=server_name)
    server = serving.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize("server_name", ["localhost", "127.0.0.1", "::1"])
def test_a_strict_tls_client_accepts_the_server_certificate(server_files: Path, server_name: str) -> None:
    _shake_hands(server_files, "ca.pem", server_name)


@pytest.mark.parametrize(("anchors", "server_name"), [("other.pem", "localhost"), ("ca.pem", "example.com")])
def test_another_ca_or_name_is_not_accepted(server_files: Path, anchors: str, server_name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(server_files, anchors, server_name)
