"""The certificates and keys of a control plane, as kubeadm would make them, in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from byok_sandbox.ca import LEAF_VALIDITY, Request, TlsAuthority, key_usage, name, pem_of


@dataclass(frozen=True)
class Identity:
    """A client certificate with its key, in files."""

    certificate: Path
    key: Path


class Pki:
    """A CA for servers and clients, and the key that signs ServiceAccount tokens."""

    def __init__(self, folder: Path, *, server_names: Sequence[str] = ()) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._authority = TlsAuthority.create(now=datetime.now(UTC), organization="BYOK Test Cluster")
        self.ca_file = _write(folder / "ca.crt", self._authority.trust_anchor_pem)
        names = ("127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1")
        self.server = self.serving("apiserver", (*names, *server_names))
        # RSA, as clusters have it unless somebody chose otherwise.
        self.token_key = _write_key(folder / "sa.key", rsa.generate_private_key(65537, 2048))

    def serving(self, file: str, names: Sequence[str]) -> Identity:
        """Issue a server's certificate for DNS names and IP addresses, into files of that name."""
        issued = self._authority.issue(now=datetime.now(UTC), names=names)
        return Identity(
            _write(self._folder / f"{file}.crt", issued.certificate_pem),
            _write(self._folder / f"{file}.key", issued.key_pem),
        )

    def client(self, user: str, group: str) -> Identity:
        """Issue a client certificate: its O is the group, its CN the user (Kubernetes, "Authenticating")."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (key_usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        )
        request = Request(name(group, user), key.public_key(), LEAF_VALIDITY, extensions)
        file = user.replace(":", "-")
        return Identity(
            _write(self._folder / f"{file}.crt", pem_of([self._authority.root.issue(request, now=datetime.now(UTC))])),
            _write_key(self._folder / f"{file}.key", key),
        )


def _write(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    return _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
