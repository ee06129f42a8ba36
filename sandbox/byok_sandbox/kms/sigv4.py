"""Requests authenticated by AWS Signature Version 4 in the Authorization header.

Source: IAM user guide, "AWS Signature Version 4 for API requests"; KMS allows a clock skew of five minutes.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from byok_sandbox.kms.arns import REGION
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.identities import AccessKey, Directory

MAX_SKEW_SECONDS = 300

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[A-Za-z0-9]{16,128})/(?P<date>[0-9]{8})/(?P<region>[a-z0-9-]{1,40})"
    r"/(?P<service>[a-z]{1,20})/aws4_request, *SignedHeaders=(?P<headers>[a-z0-9;-]{1,500}), *"
    r"Signature=(?P<signature>[0-9a-f]{64})",
)
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class SignedRequest:
    """A POST to `/` without query, as far as its signature covers it."""

    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


@dataclass(frozen=True)
class Scope:
    """What the Authorization header claims."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def text(self) -> str:
        """The credential scope, without the access key id."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read_scope(headers: Mapping[str, str]) -> Scope:
    """Read the Authorization header; AwsFaultError if there is none, or none of Signature Version 4."""
    header = headers.get("authorization")
    if header is None:
        raise AwsFaultError("MissingAuthenticationTokenException", "Missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(header)
    if match is None or REGION.fullmatch(match["region"]) is None:
        raise AwsFaultError(
            "IncompleteSignatureException",
            "The Authorization header must be AWS4-HMAC-SHA256 with Credential (key/date/region/service/aws4_request), "
            "SignedHeaders and Signature.",
        )
    signed = tuple(match["headers"].split(";"))
    return Scope(match["key"], match["date"], match["region"], match["service"], signed, match["signature"])


def authenticate(request: SignedRequest, scope: Scope, directory: Directory, now: float) -> AccessKey:
    """Find whose request this is, and check that it was signed with their secret, recently; AwsFaultError otherwise."""
    key = directory.find(scope.access_key_id)
    token = request.headers.get("x-amz-security-token")
    if key is None or not hmac.compare_digest((key.session_token or "").encode(), (token or "").encode()):
        raise AwsFaultError("UnrecognizedClientException", "The security token included in the request is invalid.")
    _check_time(request.headers.get("x-amz-date", ""), scope, now)
    _check_signed_headers(request, scope)
    expected = _signature(key.secret_access_key, scope, request)
    if not hmac.compare_digest(expected, scope.signature):
        raise AwsFaultError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )
    if key.expires_at is not None and key.expires_at <= now:
        raise AwsFaultError("ExpiredTokenException", "The security token included in the request is expired")
    return key


def _check_time(header: str, scope: Scope, now: float) -> None:
    try:
        signed_at = datetime.strptime(header, _TIME_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise AwsFaultError(
            "IncompleteSignatureException", "X-Amz-Date must be of the form 20260131T235959Z."
        ) from None
    if header[:8] != scope.date:
        raise AwsFaultError("InvalidSignatureException", f"Date in Credential scope does not match {header[:8]}.")
    if signed_at < now - MAX_SKEW_SECONDS:
        limit = _timestamp(now - MAX_SKEW_SECONDS)
        raise AwsFaultError(
            "InvalidSignatureException",
            f"Signature expired: {header} is now earlier than {limit} ({_timestamp(now)} - 5 min.)",
        )
    if signed_at > now + MAX_SKEW_SECONDS:
        limit = _timestamp(now + MAX_SKEW_SECONDS)
        raise AwsFaultError(
            "InvalidSignatureException",
            f"Signature not yet current: {header} is still later than {limit} ({_timestamp(now)} + 5 min.)",
        )


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME_FORMAT)


def _check_signed_headers(request: SignedRequest, scope: Scope) -> None:
    # What decides about the request has to be under the signature: else it could be changed on the way.
    needed = {"host", *(name for name in request.headers if name.startswith("x-amz-"))}
    missing = sorted(needed.difference(scope.signed_headers)) or sorted(
        set(scope.signed_headers) - set(request.headers)
    )
    if missing:
        raise AwsFaultError(
            "InvalidSignatureException", f"'{missing[0][:60]}' must be a 'SignedHeader' in the AWS Authorization."
        )


def _signature(secret: str, scope: Scope, request: SignedRequest) -> str:
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in scope.signed_headers)
    canonical = "\n".join(
        (
            "POST",
            "/",
            "",
            headers,
            ";".join(scope.signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        ),
    )
    to_sign = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            scope.text,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ),
    )
    key = f"AWS4{secret}".encode()
    for part in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()
