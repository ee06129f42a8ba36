"""AWS Signature Version 4 for requests that all go to path "/" without a query, as those of KMS and STS do.

Own code because botocore's costs ten times as much: everything but the body's hash is the same for all requests of one
second, and is kept. `tests/signer/kms/test_sigv4.py` proves the two equal byte for byte.
Source: AWS IAM User Guide, "Create a signed AWS API request".
"""

import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field

from byok_signer.kms.http1 import HeaderLines, render_headers

_CACHE_LIMIT = 4096
_PRINTED = re.compile(r"[\x21-\x7e]+")


# Both are compared by identity, as hashing a dozen fields would cost more than signing.


@dataclass(frozen=True, eq=False)
class Credentials:
    """An AWS identity's access key; the token comes with temporary ones."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for what could not stand in a header."""
        if not all(map(_PRINTED.fullmatch, (self.access_key, self.secret_key, self.token or "-"))):
            raise ValueError("AWS credentials are printable ASCII without spaces")


@dataclass(frozen=True, eq=False)
class Destination:
    """Where requests go, and the headers that they share."""

    service: str
    region: str
    host: str
    """As in the Host header: lower case, with the port unless it is the scheme's own."""
    content_type: str
    target: str | None
    """X-Amz-Target, which names the operation in AWS's JSON protocol."""


@dataclass
class _Prepared:
    """All of a signature that does not depend on the body; good for one second."""

    second: int
    canonical_request: "hashlib._Hash"
    string_to_sign: hmac.HMAC
    """Keyed, and fed with all but the hash of the canonical request."""
    lines: bytes = field(repr=False)
    """All headers, up to the signature's own digits."""


class RequestSigner:
    """Signs requests; remembers for each identity and destination what the next one has in common with the last."""

    def __init__(self) -> None:
        self._prepared: dict[tuple[Destination, Credentials], _Prepared] = {}

    def sign(self, destination: Destination, credentials: Credentials, body: bytes, *, now: float) -> HeaderLines:
        """Write the headers of a POST of `body` at `now`, seconds since the epoch; all but Content-Length."""
        second = int(now)
        prepared = self._prepared.get((destination, credentials))
        if prepared is None or prepared.second != second:
            prepared = self._prepare(destination, credentials, second)
        canonical_request = prepared.canonical_request.copy()
        canonical_request.update(hashlib.sha256(body).hexdigest().encode())
        string_to_sign = prepared.string_to_sign.copy()
        string_to_sign.update(canonical_request.hexdigest().encode())
        return HeaderLines(b"%b%b\r\n" % (prepared.lines, string_to_sign.hexdigest().encode()))

    def _prepare(self, destination: Destination, credentials: Credentials, second: int) -> _Prepared:
        if len(self._prepared) >= _CACHE_LIMIT:
            # Credentials that were renewed leave their entries behind.
            self._prepared.clear()
        prepared = _prepare(destination, credentials, second)
        self._prepared[destination, credentials] = prepared
        return prepared


def _prepare(destination: Destination, credentials: Credentials, second: int) -> _Prepared:
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
    headers = {"Content-Type": destination.content_type, "Host": destination.host, "X-Amz-Date": timestamp}
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    if destination.target:
        headers["X-Amz-Target"] = destination.target
    # Already sorted, as the canonical form wants them.
    lines = "".join(f"{name.lower()}:{' '.join(value.split())}\n" for name, value in headers.items())
    signed = ";".join(name.lower() for name in headers)
    scope = f"{timestamp[:8]}/{destination.region}/{destination.service}/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature="
    return _Prepared(
        second,
        hashlib.sha256(f"POST\n/\n\n{lines}\n{signed}\n".encode()),
        hmac.new(
            _signing_key(credentials.secret_key, scope),
            f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n".encode(),
            "sha256",
        ),
        render_headers({**headers, "Authorization": authorization}).removesuffix(b"\r\n"),
    )


def _signing_key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
