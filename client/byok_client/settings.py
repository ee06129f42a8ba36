"""Where the signer is, how to trust it, and what to show it."""

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.x509 import load_pem_x509_certificates

from byok_api.errors import Reason, Refusal

ADDRESS = "BYOK_SIGNER_ADDRESS"
CA_FILE = "BYOK_SIGNER_CA_FILE"
TOKEN_FILE = "BYOK_SIGNER_TOKEN_FILE"  # noqa: S105 - the name of a variable
VERIFIER_URL = "BYOK_VERIFIER_URL"
DEFAULT_TOKEN_FILE = Path("/var/run/secrets/byok-signer/token")
DEFAULT_TIMEOUT = 30.0

_CA_LIMIT = 1024 * 1024
_TOKEN_LIMIT = 16 * 1024
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})")
_PORT_LIMIT = 65_535
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How a client reaches its signer."""

    address: str
    """`host:port` for TLS, or `unix:/path` for plain text on a socket of this machine."""
    ca_file: Path | None = None
    """PEM certificates that the signer's TLS certificate is checked against; None for the system's.

    Read again when the signer's certificate does not pass and the file has changed.
    """
    token_file: Path = DEFAULT_TOKEN_FILE
    """A ServiceAccount token with audience byok-signer, read again whenever the file changes."""
    verifier_url: str | None = None
    """Copied into results; `{manifest_id}` in it is replaced."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds that the signer may take to answer, with all retries; what this machine computes does not count."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Metadata values that every call has unless it says otherwise."""

    def __post_init__(self) -> None:
        match = _HOST_PORT.fullmatch(self.address)
        if not self.is_local and (match is None or not 1 <= int(match["port"]) <= _PORT_LIMIT):
            raise Refusal(
                Reason.ConfigurationInvalid,
                f"the signer's address {self.address[:300]!r} is neither host:port nor unix:/path ({ADDRESS})",
            )
        if not 0 < self.timeout <= 24 * 3600:
            raise Refusal(Reason.ConfigurationInvalid, f"a timeout of {self.timeout} s is not above 0 and within a day")

    @property
    def is_local(self) -> bool:
        """Whether the signer is reached through a unix socket."""
        return re.fullmatch(r"unix:/.+", self.address) is not None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read BYOK_SIGNER_ADDRESS, _CA_FILE, _TOKEN_FILE and BYOK_VERIFIER_URL; Refusal ConfigurationInvalid."""
        address = environment.get(ADDRESS)
        if not address:
            raise Refusal(Reason.ConfigurationInvalid, f"{ADDRESS} is not set: where is the signer?")
        ca_file = environment.get(CA_FILE)
        return cls(
            address=address,
            ca_file=Path(ca_file) if ca_file else None,
            token_file=Path(environment.get(TOKEN_FILE) or DEFAULT_TOKEN_FILE),
            verifier_url=environment.get(VERIFIER_URL) or None,
        )

    def trusted_certificates(self) -> bytes | None:
        """Read the CA file as it is now, None for the system's; Refusal ConfigurationInvalid if it holds none."""
        if self.ca_file is None:
            return None
        try:
            pem = _read(self.ca_file, _CA_LIMIT)
            load_pem_x509_certificates(pem)
        except OSError as error:
            raise Refusal(
                Reason.ConfigurationInvalid, f"{self.ca_file} cannot be read: {error.strerror} ({CA_FILE})"
            ) from error
        except ValueError as error:
            raise Refusal(
                Reason.ConfigurationInvalid, f"{self.ca_file} holds no PEM certificate ({CA_FILE})"
            ) from error
        return pem


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} is longer than {limit} bytes")
    return content


class TokenFile:
    """A token that someone else rotates, such as the kubelet; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def read(self) -> str:
        """Read the token as the file has it now; Refusal TokenMissing or TokenInvalid."""
        with self._lock:
            try:
                facts = self._path.stat()
                # The kubelet swaps a symbolic link, so another inode is as much of a change as another time.
                seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
                if seen != self._seen:
                    self._token = self._checked(_read(self._path, _TOKEN_LIMIT))
                    self._seen = seen
            except OSError as error:
                raise Refusal(
                    Reason.TokenMissing, f"no token: {self._path} cannot be read: {error.strerror} ({TOKEN_FILE})"
                ) from error
            except ValueError as error:
                raise Refusal(Reason.TokenInvalid, f"{self._path} does not hold a token ({TOKEN_FILE})") from error
            return self._token

    @staticmethod
    def _checked(content: bytes) -> str:
        token = content.decode("ascii").strip()
        if _TOKEN.fullmatch(token) is None:  # RFC 6750, section 2.1: b64token
            raise ValueError("not a bearer token")
        return token
