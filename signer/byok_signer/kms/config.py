"""What an installation chooses about its use of AWS."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from byok_service.proxies import DIRECT, Proxies

# STS API reference, AssumeRole: an ExternalId takes [\w+=,.@:/-], a session tag's value takes fewer.
_INSTALLATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+=.@_-]{0,62}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_endpoint(url: str) -> str:
    """Return `url` without a trailing slash; ValueError unless it is an origin, over TLS if beyond this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"endpoint {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"endpoint {url!r}: must be a URL such as https://kms.example.com")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"endpoint {url!r}: must be scheme, host and port only")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"endpoint {url!r}: must be https, for a session token is sent there")
    return url.rstrip("/")


@dataclass(frozen=True, kw_only=True)
class KmsConfig:
    """Checked when made: ValueError says what is wrong."""

    installation: str
    """In external ids and session tags; unique among the installations that a key's owner trusts."""
    endpoint: str | None = None
    """Instead of AWS's own for KMS and STS, in every Region."""
    key_endpoints: frozenset[str] = frozenset()
    """What a ByokKey may name as its endpoint."""
    ca_file: Path | None = None
    """PEM; None trusts the system's."""
    proxies: Proxies = DIRECT
    fips: bool = False
    dualstack: bool = False
    role_arn: str | None = None
    """Assumed for each key that names no role of its own, so that every key is used with its external id."""
    retries: int = 2
    """How often to ask again when KMS fails or cannot be reached."""
    attempt_timeout: float = 3.0
    """Seconds after which one request is given up, so that there is time left for another."""

    def __post_init__(self) -> None:
        if _INSTALLATION.fullmatch(self.installation) is None:
            raise ValueError(f"installation {self.installation!r}: 1 to 63 letters, digits and +=.@_-")
        if self.retries < 0 or self.attempt_timeout <= 0:
            raise ValueError("retries must not be negative, attempt_timeout must be positive")
        if self.endpoint is not None:
            object.__setattr__(self, "endpoint", check_endpoint(self.endpoint))
        object.__setattr__(self, "key_endpoints", frozenset(check_endpoint(url) for url in self.key_endpoints))
