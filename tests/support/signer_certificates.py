"""The two Secrets of the signer's self-managed certificates, and one who opens a TLS connection by them."""

import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from byok_operator.certificate_keeper import CA_SECRET, TLS_SECRET
from byok_operator.certificates import BUNDLE, CERTIFICATE, KEY, Kept, Pair, kept_in, pem_of
from byok_operator.issuing import pem_of_key
from tests.support.fake_api_server import Body, FakeApiServer

SECRETS = "/secrets"
HOME = "byok-system"
NAMES = ("byok-signer", "byok-signer.byok-system.svc")
BEGIN = datetime.now(UTC).replace(microsecond=0)
"""When the first certificates are made; TLS goes by the real clock."""


def empty_secret(name: str) -> Body:
    """A Secret as the chart makes it."""
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name, "namespace": HOME}}


def install(server: FakeApiServer) -> None:
    for name in (CA_SECRET, TLS_SECRET):
        server.put(SECRETS, empty_secret(name))


def data_of(pair: Pair | None, *bundle: x509.Certificate) -> dict[str, str]:
    values = {BUNDLE: pem_of(bundle)}
    if pair is not None:
        values |= {CERTIFICATE: pem_of([pair.certificate]), KEY: pem_of_key(pair.key)}
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


def stored(server: FakeApiServer, name: str) -> Kept:
    return kept_in(server.objects[SECRETS][HOME, name].get("data", {}))


def days(count: float) -> timedelta:
    return timedelta(days=count)


def of_no_version(pem: bytes) -> bytes:
    """Make of a certificate one whose version number does not exist."""
    return _changed(pem, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")


def with_an_extension_twice(pem: bytes) -> bytes:
    """Have a certificate name its subject's key twice, and its issuer's never."""
    return _changed(pem, b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e")


def _changed(pem: bytes, part: bytes, other: bytes) -> bytes:
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert der.count(part) == 1
    text = base64.encodebytes(der.replace(part, other)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n".encode()


def handshake(serving: Pair, trusted: bytes, server_name: str, folder: Path) -> None:
    """Let a TLS server with this certificate meet a client with this trust; ssl.SSLError if they do not agree."""
    chain = folder / "chain.pem"
    chain.write_bytes(pem_of([serving.certificate]) + pem_of_key(serving.key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    client_in, server_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(server_in, client_in, server_side=True)
    trusting = ssl.create_default_context(cadata=trusted.decode())
    # What makes chains of certificates be judged by RFC 5280 to the letter.
    trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    client = trusting.wrap_bio(client_in, server_in, server_hostname=server_name)
    done: set[ssl.SSLObject] = set()
    for _ in range(6):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {client, server}
