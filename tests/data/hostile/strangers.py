"""What else a key is good for: the very bytes that other protocols have signed, and bytes that are nothing at all.

Each would be valuable with the signature of a company's C2PA key on it; none of them is a C2PA claim.
"""

import base64
import hashlib
import json
from datetime import datetime

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.data.hostile.making import Material, tried, wrapped

_LIMIT = 64 * 1024
_HASH = hashlib.sha256(b"any content").digest()
_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
_NAME = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Attacker")])


def _base64url(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")


def _ssh_string(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def _certificate(material: Material) -> bytes:
    """Ask for a CA certificate for the attacker's key (TBSCertificate, RFC 5280), in the genuine issuer's name."""
    builder = x509.CertificateBuilder(
        issuer_name=x509.load_der_x509_certificate(material.chain[0]).subject,
        subject_name=_NAME,
        public_key=_KEY.public_key(),
        serial_number=1,
        not_valid_before=datetime(2026, 1, 1),  # noqa: DTZ001 - in UTC, as X.509 has it
        not_valid_after=datetime(2036, 1, 1),  # noqa: DTZ001 - same
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(_KEY, None).tbs_certificate_bytes


def _request(_: Material) -> bytes:
    """Ask for a certificate (CertificationRequestInfo, RFC 2986)."""
    return x509.CertificateSigningRequestBuilder(_NAME).sign(_KEY, None).tbs_certrequest_bytes


def _claim_in_json(material: Material) -> bytes:
    return json.dumps(cbor2.loads(material.claim), default=lambda value: base64.b64encode(value).decode()).encode()


def _fixed(value: bytes) -> object:
    return lambda _: value


_TOKEN = (
    _base64url({"alg": "ES256", "typ": "JWT"}) + b"." + _base64url({"iss": "https://issuer.example", "sub": "root"})
)
_SSH_LOGIN = (
    _ssh_string(bytes(32))
    + b"\x32"
    + b"".join(map(_ssh_string, (b"root", b"ssh-connection", b"publickey")))
    + b"\x01"
    + b"".join(map(_ssh_string, (b"ecdsa-sha2-nistp256", bytes(104))))
)
_GIT_COMMIT = (
    b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
    b"author Mallory <m@attacker.example> 1767225600 +0000\n"
    b"committer Mallory <m@attacker.example> 1767225600 +0000\n\nRelease 1.0\n"
)
_SIGV4 = b"AWS4-ECDSA-P256-SHA256\n20260101T000000Z\n20260101/kms/aws4_request\n" + _HASH.hex().encode()
_SIGNED_INFO = (
    b'<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
    b'<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"></ds:SignatureMethod>'
    b"</ds:SignedInfo>"
)
_DNS_RECORD = bytes.fromhex("0030 0d02 00000e10 6e000000 69000000 0001") + b"\x08attacker\x07example\x00"
_CHECKPOINT = b"byok audit checkpoint v1\nwriter/1\n" + _HASH.hex().encode() + b"\n"
_WEBAUTHN = hashlib.sha256(b"bank.example").digest() + b"\x05" + (1).to_bytes(4) + _HASH
_SIGNED_ATTRIBUTES = bytes.fromhex(
    "314b301806092a864886f70d010903310b06092a864886f70d010701302f06092a864886f70d01090431220420"
)
_TIME_STAMP = bytes.fromhex("3081a1020101060628 03040506") + _HASH
_OCSP = bytes.fromhex("3081b2a11630143112301006035504030c094174746163 6b6572") + _HASH
_PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"

OF_OTHER_PROTOCOLS = (
    tried("stranger-jwt", "no-trailing-bytes", "A token that logs the attacker in as root.", lambda _: _TOKEN),
    tried("stranger-certificate", "no-trailing-bytes", "A CA certificate for the attacker's key.", _certificate),
    tried("stranger-csr", "no-trailing-bytes", "A certificate request in the attacker's name.", _request),
    tried(
        "stranger-tls-1-3",
        "no-trailing-bytes",
        "A server's CertificateVerify (RFC 8446, 4.4.3): a TLS connection in the owner's name.",
        lambda _: b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + _HASH,
    ),
    tried(
        "stranger-tls-1-2",
        "no-trailing-bytes",
        "A ServerKeyExchange (RFC 8422, 5.4) with randoms and the attacker's point.",
        lambda _: bytes(64) + b"\x03\x00\x17\x41\x04" + bytes(64),
    ),
    tried(
        "stranger-ssh-login", "no-trailing-bytes", "An SSH login as root (RFC 4252, section 7).", lambda _: _SSH_LOGIN
    ),
    tried(
        "stranger-ssh-signature",
        "no-trailing-bytes",
        "A file signature of ssh-keygen -Y (SSHSIG).",
        lambda _: b"SSHSIG" + b"".join(map(_ssh_string, (b"file", b"", b"sha512", bytes(64)))),
    ),
    tried("stranger-git-commit", "no-trailing-bytes", "A commit of a release.", lambda _: _GIT_COMMIT),
    tried("stranger-sigv4a", "no-trailing-bytes", "A request to AWS (SigV4a).", lambda _: _SIGV4),
    tried("stranger-xml", "well-formed", "A SAML assertion's SignedInfo.", lambda _: _SIGNED_INFO),
    tried("stranger-dnssec", "no-trailing-bytes", "A DNSSEC record set (RFC 4034, 3.1.8.1).", lambda _: _DNS_RECORD),
    tried(
        "stranger-webauthn",
        "no-trailing-bytes",
        "A WebAuthn assertion: authenticator data and the hash of client data.",
        lambda _: _WEBAUTHN,
    ),
    tried(
        "stranger-cms",
        "no-trailing-bytes",
        "Signed attributes of CMS (RFC 5652, 5.4): an e-mail or a PDF.",
        lambda _: _SIGNED_ATTRIBUTES + _HASH,
    ),
    tried(
        "stranger-time-stamp",
        "no-trailing-bytes",
        "A time stamp (TSTInfo, RFC 3161) of any past moment.",
        lambda _: _TIME_STAMP,
    ),
    tried(
        "stranger-ocsp", "no-trailing-bytes", "An OCSP response that a revoked certificate is good.", lambda _: _OCSP
    ),
    tried("stranger-pdf", "no-trailing-bytes", "A document itself.", lambda _: _PDF),
    tried("stranger-json", "well-formed", "A payment order in JSON.", lambda _: b'{"pay":"1,000,000 EUR"}'),
    tried(
        "stranger-ethereum",
        "no-trailing-bytes",
        "A message for a wallet (EIP-191).",
        lambda _: b"\x19Ethereum Signed Message:\n32" + _HASH,
    ),
    tried(
        "stranger-checkpoint",
        "no-trailing-bytes",
        "An audit checkpoint of this project's own signer, over a forged trail.",
        lambda _: _CHECKPOINT,
    ),
    tried(
        "stranger-digest",
        "no-tags",
        "A bare SHA-256 in place of a message: of what, nobody knows.",
        lambda _: _HASH,
    ),
)

OF_OTHER_COSE = (
    tried(
        "cose-cwt",
        "map-keys",
        "A CBOR Web Token (RFC 8392) under the genuine header.",
        wrapped(cbor2.dumps({1: "https://issuer.example", 2: "root"})),
    ),
    tried(
        "cose-health-certificate",
        "map-keys",
        "An EU vaccination certificate under the genuine header.",
        wrapped(cbor2.dumps({1: "DE", 4: 1767225600, -260: {1: {"ver": "1.3.0"}}})),
    ),
    tried(
        "cose-mobile-licence",
        "no-tags",
        "A mobile driving licence's security object (ISO 18013-5).",
        wrapped(cbor2.dumps(cbor2.CBORTag(24, b"\xa1\x67version\x631.0"))),
    ),
    tried(
        "cose-firmware",
        "map-keys",
        "A firmware manifest (SUIT) under the genuine header.",
        wrapped(cbor2.dumps({1: 1, 2: 7, 3: b"\xa0"})),
    ),
    tried(
        "cose-transparency",
        "claim-map",
        "A statement for a transparency log: a byte string with a PDF.",
        wrapped(cbor2.dumps(_PDF)),
    ),
    tried(
        "cose-attestation",
        "known-keys",
        "An attestation token with text keys.",
        wrapped(cbor2.dumps({"profile": "tag:attacker.example", "nonce": _HASH})),
    ),
    tried(
        "cose-claim-in-json",
        "well-formed",
        "The genuine claim in JSON, for a verifier that takes both.",
        lambda m: wrapped(_claim_in_json(m))(m),
    ),
    tried(
        "cose-identity-assertion",
        "known-keys",
        "CAWG's signer_payload: an identity's word on assertions.",
        wrapped(cbor2.dumps({"referenced_assertions": [], "sig_type": "cawg.x509.cose"})),
    ),
    tried(
        "cose-manifest-box",
        "no-trailing-bytes",
        "A JUMBF box around a claim.",
        lambda m: wrapped((len(m.claim) + 8).to_bytes(4) + b"cbor" + m.claim)(m),
    ),
)

NOTHING = (
    tried("nothing", "well-formed", "No bytes at all.", lambda _: b""),
    tried("nothing-but-zeros", "no-trailing-bytes", "4,096 zeros.", lambda _: bytes(4096)),
    tried("nothing-but-ones", "definite-lengths", "A page of erased flash.", lambda _: b"\xff" * 4096),
    tried("too-large-by-one", "size", "One byte more than a message may have.", lambda _: bytes(_LIMIT + 1)),
    tried(
        "too-large-behind-a-claim",
        "size",
        "A genuine message with 64 KiB behind it.",
        lambda m: m.sig_structure + bytes(_LIMIT),
    ),
    tried("as-large-as-may-be", "no-trailing-bytes", "As many bytes as a message may have.", lambda _: bytes(_LIMIT)),
)

STRANGERS = (*OF_OTHER_PROTOCOLS, *OF_OTHER_COSE, *NOTHING)
