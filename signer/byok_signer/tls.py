"""TLS for the gRPC server, with a certificate that is read again when its files change.

A mounted Secret is swapped, and a file written by hand is half-written for a moment. A pair is taken only when both
files could be read, the key is the certificate's, and gRPC can serve it to its own clients; until then the last good
pair stays, and before the first one nobody can be served.
"""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from byok_api.certificates import UNREADABLE
from byok_service.settings import SettingsError

_LOG = logging.getLogger(__name__)
_FILE_LIMIT = 256 * 1024
# What gRPC's clients for Python and C++ take (BoringSSL, ssl/extensions.cc, kVerifySignatureAlgorithms): with P-521 and
# Ed25519 a server is bound that none of them connects to, with other curves it is not bound at all.
_CURVES = ("secp256r1", "secp384r1")
_RSA_BITS = range(2048, 8192 + 1)

_Stamp = tuple[tuple[int, int, int], ...]


def are_there(cert_file: Path, key_file: Path) -> bool:
    """Whether there is something in both files, good or not: an empty Secret, mounted, is a folder without files."""
    try:
        return all(size for _, _, size in _stamp(cert_file, key_file))
    except SettingsError:
        return False


def problem_with(cert_file: Path, key_file: Path) -> str | None:
    """Say why a pair of files cannot be served as it is; None if it can."""
    try:
        _read_whole(cert_file, key_file)
    except SettingsError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class _Pair:
    certificate: bytes
    key: bytes = field(repr=False)
    not_after: datetime

    @property
    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)])


class PairFiles:
    """A certificate file and a key file, and the last good pair read from them."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Read both; SettingsError if they cannot be used now."""
        self._cert_file = cert_file
        self._key_file = key_file
        self._complaint = ""
        self._seen, self.current = _read_whole(cert_file, key_file)
        self._report()

    def credentials(self) -> grpc.ServerCredentials:
        """Serve the pair, now and whenever it changes."""
        return grpc.dynamic_ssl_server_credentials(
            self.current.configuration,
            self.refresh,  # type: ignore[arg-type]  # the stub forgets None, "no change" in grpc's documentation
        )

    def not_after(self) -> float:
        """Say when the certificate that is served expires, in unix time."""
        return self.current.not_after.timestamp()

    def refresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the pair if it has changed and is good; gRPC asks before each handshake, on a thread of its own."""
        try:
            if _stamp(self._cert_file, self._key_file) == self._seen:
                return None
            stamp, pair = _read_whole(self._cert_file, self._key_file)
        except SettingsError as error:
            # The stamp is not kept, so that the next handshake looks again.
            self._complain(str(error))
            return None
        # Taken before the read: had a file changed since, the next stamp differs and it is read again.
        self._seen, self._complaint = stamp, ""
        if pair == self.current:
            return None
        self.current = pair
        self._report()
        return pair.configuration

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _LOG.error("TLS certificate not taken, the last good one stays", extra={"found": complaint})

    def _report(self) -> None:
        extra = {"file": str(self._cert_file), "not_after": self.current.not_after.isoformat()}
        if self.current.not_after <= datetime.now(UTC):
            _LOG.warning("TLS certificate has expired", extra=extra)
        else:
            _LOG.info("TLS certificate taken", extra=extra)


def _stamp(*files: Path) -> _Stamp:
    return tuple(_stat(path) for path in files)


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _FILE_LIMIT:
        raise SettingsError(f"{path}: larger than {_FILE_LIMIT} bytes")
    return content


def _read_whole(cert_file: Path, key_file: Path) -> tuple[_Stamp, _Pair]:
    """Read a pair, and what its files looked like before; again if they were swapped under the reading of them."""
    stamp = None
    try:
        stamp = _stamp(cert_file, key_file)
        return stamp, _read_pair(cert_file, key_file)
    except SettingsError:
        # The kubelet swaps the folder of both at once (..data), so that one half may be of the pair before, or a path
        # lead into the folder before, which is gone.
        again = _stamp(cert_file, key_file)
        if again == stamp:
            raise
        return again, _read_pair(cert_file, key_file)


def _read_pair(cert_file: Path, key_file: Path) -> _Pair:
    certificate, key = _read(cert_file), _read(key_file)
    leaf = _leaf_of(certificate, cert_file)
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise SettingsError(
            f"--tls-key-file {key_file}: encrypted; expected a private key without a password"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"--tls-key-file {key_file}: expected a private key in PEM") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise SettingsError(f"--tls-key-file {key_file}: not the key of the certificate in {cert_file}")
    return _Pair(certificate, key, leaf.not_valid_after_utc)


def _leaf_of(content: bytes, file: Path) -> x509.Certificate:
    """Read a chain's first certificate, and hold it to what TLS with it needs; SettingsError says what it lacks."""
    try:
        chain = x509.load_pem_x509_certificates(content)
        key, usage = chain[0].public_key(), _usage_of(chain[0])
    except UNREADABLE:
        chain = []
    # cryptography leaves out a block without its end, as a file has that is still being written.
    if not chain or len(chain) != content.count(b"-----BEGIN "):
        raise SettingsError(f"--tls-cert-file {file}: expected a certificate chain in PEM, leaf first")
    unfit = _unfitness(key)
    if unfit is not None:
        expected = f"expected RSA of {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits, P-256 or P-384"
        raise SettingsError(f"--tls-cert-file {file}: gRPC cannot serve its key, {unfit}; {expected}")
    if usage is not None and not usage.digital_signature:
        # RFC 8446, section 4.4.2.2.
        raise SettingsError(f"--tls-cert-file {file}: its keyUsage lacks digitalSignature, which TLS needs")
    return chain[0]


def _usage_of(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _unfitness(key: CertificatePublicKeyTypes) -> str | None:
    """Say what a key is that gRPC cannot serve; None for one that it can."""
    match key:
        case EllipticCurvePublicKey():
            return None if key.curve.name in _CURVES else f"of curve {key.curve.name}"
        case RSAPublicKey():
            return None if key.key_size in _RSA_BITS else f"RSA of {key.key_size} bits"
        case _:
            return type(key).__name__.removesuffix("PublicKey")
