"""How signers are reached: their addresses, the certificates they are trusted by, the token shown to them.

Every signer is an endpoint of its own with a channel of its own: gRPC's balancing would hide which one answers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc
import grpc.aio
from cryptography.x509 import load_pem_x509_certificates

from byok_api.certificates import UNREADABLE
from byok_operator.certificates import pem_of
from byok_service.setting_types import TcpAddress

_CA_LIMIT = 1024 * 1024
_TOKEN_LIMIT = 16 * 1024
_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"
_LOOK_TIMEOUT = 5.0

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Looks up the IP addresses of a host; OSError if that fails."""


class Endpoint(NamedTuple):
    """One signer."""

    ip: str
    port: int
    server_name: str
    """That its certificate must have."""

    def __str__(self) -> str:
        """Write it as people write addresses."""
        return str(TcpAddress(self.ip, self.port))

    @property
    def target(self) -> str:
        """Write it as gRPC's resolvers want it."""
        return f"ipv6:[{self.ip}]:{self.port}" if ":" in self.ip else f"ipv4:{self.ip}:{self.port}"


class UnusableFileError(Exception):
    """A file of CA certificates or with a token cannot be used; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class SignerDoor:
    """Where the signers are, how to trust them, and what to show them."""

    addresses: tuple[TcpAddress, ...]
    """A host may stand for many signers, as the name of a headless Service does."""
    ca_file: Path
    """PEM; read again when it changes."""
    token_file: Path
    """A ServiceAccount token with audience byok-signer; read for every call."""
    server_name: str | None = None
    """Name in the signers' certificates; None: the host of the address."""

    def token(self) -> str:
        """Read the token; UnusableFileError."""
        token = _read(self.token_file, _TOKEN_LIMIT).strip()
        if not token.isascii() or not token.decode().isprintable() or not token:
            raise UnusableFileError(f"{self.token_file}: holds no token; mount a projected ServiceAccount token there")
        return token.decode()

    def trusted(self) -> bytes:
        """Read the CA certificates; UnusableFileError."""
        return read_trusted(self.ca_file)

    async def endpoints(self, resolve: Resolve) -> tuple[set[Endpoint], list[str]]:
        """Look all hosts up; tells also what is wrong with those that have no addresses just now."""
        answers = await asyncio.gather(*(_addresses_of(address.host, resolve) for address in self.addresses))
        found = {
            Endpoint(ip, address.port, self.server_name or address.host)
            for address, (ips, _) in zip(self.addresses, answers, strict=True)
            for ip in ips
        }
        return found, [fault for _, fault in answers if fault]


def read_trusted(path: Path) -> bytes:
    """Read a file of CA certificates, and give those alone in PEM, whatever else it holds; UnusableFileError."""
    data = _read(path, _CA_LIMIT)
    try:
        certificates = load_pem_x509_certificates(data)
        # A file that is half-written yields those before.
        if len(certificates) == data.count(_PEM_BEGIN):
            return pem_of(certificates)
    except UNREADABLE:
        pass
    raise UnusableFileError(f"{path}: holds no CA certificates in PEM, or a damaged one")


def open_channel(endpoint: Endpoint, trusted: bytes, *, ping_seconds: float) -> grpc.aio.Channel:
    """Open a channel to one signer; a connection on which no ping is answered is given up."""
    wait = int(ping_seconds * 1000)
    options = {
        "grpc.ssl_target_name_override": endpoint.server_name,
        "grpc.default_authority": endpoint.server_name,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 2000,
        # In spite of its name, the least time that a connection and its TLS handshake may take.
        "grpc.min_reconnect_backoff_ms": 5000,
        # A node that died says nothing, and a health stream may be silent for hours: only pings tell.
        "grpc.keepalive_time_ms": wait,
        "grpc.keepalive_timeout_ms": wait // 2,
        "grpc.http2.ping_timeout_ms": wait // 2,  # what gRPC 1.85 goes by instead
        "grpc.http2.max_pings_without_data": 0,
        # Each replica is to have a connection of its own, and a new CA file a new one.
        "grpc.use_local_subchannel_pool": 1,
    }
    credentials = grpc.ssl_channel_credentials(trusted)
    return grpc.aio.secure_channel(endpoint.target, credentials, tuple(options.items()))


async def _addresses_of(host: str, resolve: Resolve) -> tuple[set[str], str]:
    """Give a host's addresses, or what is wrong with it."""
    try:
        async with asyncio.timeout(_LOOK_TIMEOUT):
            addresses = set(await resolve(host))
    except (OSError, UnicodeError) as error:  # TimeoutError is one
        return set(), f"{host}: {str(error) or 'the name server did not answer in time'}"
    # A pod of a dual-stack cluster has an address of each kind, and is to be asked once.
    of_ipv6 = {address for address in addresses if ":" in address}
    of_ipv4 = addresses - of_ipv6
    chosen = of_ipv4 if len(of_ipv4) >= len(of_ipv6) else of_ipv6
    return chosen, "" if chosen else f"{host}: has no addresses"


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UnusableFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise UnusableFileError(f"{path}: is larger than {limit} bytes")
    return data
