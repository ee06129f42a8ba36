"""What `helm test` runs, in the image of the command line: exit status 0, or 1 with what was wrong and what to do.

Every signer behind the Service is asked by its own address whether it is ready, and for its certificate; then one
request is made that must be refused, and, if a recipe is named, a picture is signed and verified.
"""

import json
import os
import socket
import ssl
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from byok_api.errors import Reason, Refusal
from byok_client import ClientSettings, SignerClient

_NOBODYS = "byok-helm-test-of-a-recipe-that-is-not-there"
_PATIENCE = 90.0
_TIMEOUT = 5.0
_AGAIN = 1.0


class CheckFailed(Exception):  # noqa: N818 - says what it is
    """A check failed; str() says what was found and what to do."""


def main(environ: Mapping[str, str]) -> int:
    """Make the checks and tell of each."""
    try:
        settings = ClientSettings.from_environment(environ)
        for found in _checks(settings, environ):
            sys.stdout.write(f"ok: {found}\n")
            sys.stdout.flush()
    except CheckFailed as failed:
        sys.stdout.write(f"FAILED: {failed}\n")
    except Refusal as refusal:
        sys.stdout.write(f"FAILED: {refusal.reason.name}: {refusal.message}\n")
    else:
        return 0
    return 1


def _checks(settings: ClientSettings, environ: Mapping[str, str]) -> Iterator[str]:
    host, _, port = settings.address.rpartition(":")
    deadline = time.monotonic() + float(environ.get("BYOK_TEST_PATIENCE", _PATIENCE))
    addresses = _addresses(host, int(port), deadline)
    for address in addresses:
        _wait_until_ready(address, int(environ.get("BYOK_TEST_HTTP_PORT", "9090")), deadline)
        yield f"{address} is ready"
        yield f"{address} has a certificate for {host}, trusted until {_expiry_of(settings, host, (address, int(port)))}"
    with SignerClient(settings) as client:
        yield f"a recipe that is not there is refused: {_refusal_of(client)}"
        recipe = environ.get("BYOK_TEST_RECIPE")
        if recipe:
            metadata = json.loads(environ.get("BYOK_TEST_METADATA", "{}"))
            yield f"a picture signed under {recipe} is {_signed(client, recipe, metadata)}"


def _addresses(host: str, port: int, deadline: float) -> list[str]:
    while True:
        try:
            return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        except OSError as error:
            if time.monotonic() > deadline:
                raise CheckFailed(
                    f"{host} has no address ({error}): no signer is ready; kubectl describe pods -l app.kubernetes.io/name=byok-signer"
                ) from None
        time.sleep(_AGAIN)


def _wait_until_ready(address: str, port: int, deadline: float) -> None:
    bare = f"[{address}]" if ":" in address else address
    while True:
        try:
            with urllib.request.urlopen(f"http://{bare}:{port}/readyz", timeout=_TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            found = error.read(1000).decode(errors="replace").strip()
        except OSError as error:
            found = f"cannot be reached ({error}); does a network policy keep it away?"
        if time.monotonic() > deadline:
            raise CheckFailed(f"the signer at {address} is not ready: {found}")
        time.sleep(_AGAIN)


def _expiry_of(settings: ClientSettings, host: str, address: tuple[str, int]) -> str:
    trusted = settings.trusted_certificates()
    context = ssl.create_default_context(cadata=trusted.decode("ascii") if trusted else None)
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(address, _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            return str((connection.getpeercert() or {}).get("notAfter"))
    except ssl.SSLCertVerificationError as error:
        raise CheckFailed(
            f"the certificate of {address[0]} is not trusted for {host}: {error.verify_message}; see tls in values"
        ) from None
    except OSError as error:
        raise CheckFailed(f"no TLS connection to {address[0]}: {error}") from None


def _refusal_of(client: SignerClient) -> str:
    try:
        client.recipe(_NOBODYS)
    except Refusal as refusal:
        if refusal.reason is Reason.RecipeNotAllowed:
            return refusal.reason.name
        raise
    raise CheckFailed(f"a recipe named {_NOBODYS} was given out: nobody has made it")


def _signed(client: SignerClient, recipe: str, metadata: Mapping[str, object]) -> str:
    picture = Path("/tmp/byok-helm-test.png")  # noqa: S108 - the pod's own, and all of it that is writable
    picture.write_bytes(_png())
    client.sign(picture, recipe=recipe, metadata=metadata)
    # Whom its certificate chains up to is the reader's to trust, not this pod's.
    return str(client.verify(picture).state)


def _png() -> bytes:
    """Write a grey picture of 16 by 16 pixels (PNG specification, 5)."""
    rows = b"".join(b"\0" + b"\x80" * 16 for _ in range(16))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


if __name__ == "__main__":
    sys.exit(main(os.environ))
