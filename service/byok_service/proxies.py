"""Which hosts are reached through an HTTP proxy: HTTPS_PROXY and NO_PROXY, as other tools understand them.

A name in NO_PROXY stands for itself and all names below it, with or without a leading dot (Python's urllib, requests,
curl); an address or a network in CIDR notation for hosts that are given by address (requests, Go); `*` for all. Names
are not looked up for that: through a proxy, the proxy does.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self
from urllib.parse import unquote, urlsplit

from yarl import URL

_DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})
_NAME = re.compile(r"(?:\*?\.)?([a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?)\.?(?::([0-9]{1,5}))?")
_BRACKETS = re.compile(r"\[([0-9a-f:.]{2,45})\](?::([0-9]{1,5}))?")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NEVER = tuple(
    ipaddress.ip_network(each)
    # This machine and this link, which no proxy is on; the last is where EC2 and EKS give credentials over IPv6 (EC2
    # User Guide, "Instance metadata"; EKS User Guide, "EKS Pod Identity agent").
    for each in ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "fd00:ec2::/64")
)
# urllib compares texts, so that it needs each of those whom a source of credentials may ask (botocore.utils).
_NEVER_FOR_URLLIB = (
    *("localhost", "127.0.0.1", "[::1]"),
    *("169.254.169.254", "[fd00:ec2::254]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"),
)


@dataclass(frozen=True)
class Proxy:
    """One HTTP proxy; str() is without its password."""

    url: str = field(repr=False)
    """With user and password."""
    scheme: str
    """How the proxy itself is spoken to: http or https."""
    host: str
    port: int
    authorization: str | None = field(repr=False)
    """Value of Proxy-Authorization (RFC 7617)."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read http[s]://[USER:PASSWORD@]HOST[:PORT], http if it does not say; ValueError, which does not quote it."""
        url = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(_PROXY_FORM) from None
        scheme, host = parts.scheme, parts.hostname or ""
        if scheme not in _DEFAULT_PORTS or not _is_host(host) or parts.path not in ("", "/"):
            raise ValueError(_PROXY_FORM)
        if parts.query or parts.fragment or port == 0:
            raise ValueError(_PROXY_FORM)
        return cls(url, scheme, host, port or _DEFAULT_PORTS[scheme], _basic(parts.username, parts.password))

    def __str__(self) -> str:
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"


_PROXY_FORM = "http[s]://[USER:PASSWORD@]HOST[:PORT], with what is special in user and password percent-encoded"


@dataclass(frozen=True)
class _Rule:
    """What one entry of NO_PROXY stands for."""

    names: str | None
    """A name and all below it; "" for all there are."""
    network: _Network | None
    port: int | None

    def covers(self, host: str, address: _Address | None, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        if self.names == "":
            return True
        return address is None and (host == self.names or host.endswith(f".{self.names}"))

    def for_urllib(self) -> str | None:
        """Write it as Python's urllib understands it, and botocore by it; None for what it cannot."""
        if self.network is None:
            named = self.names or "*"
        elif self.network.num_addresses == 1:
            named = _bracketed(str(self.network.network_address))
        else:
            return None
        # It compares with what the URL says, where the usual port does not stand.
        return named if self.port in (None, _DEFAULT_PORTS["https"]) else f"{named}:{self.port}"


@dataclass(frozen=True)
class Proxies:
    """A proxy for what is asked over TLS, and for whom it is not used."""

    proxy: Proxy | None = None
    rules: tuple[_Rule, ...] = ()

    @classmethod
    def parse(cls, proxy: Proxy | None, no_proxy: str) -> Self:
        """Read NO_PROXY, a list with commas; ValueError names an entry that no host can match, if there is a proxy."""
        rules = {entry: _rule(entry) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry}
        bad = next((entry for entry, rule in rules.items() if rule is None), None)
        if proxy is not None and bad is not None:
            # A URL with a password may have been put here instead.
            found = bad.rpartition("@")[2][:80]
            raise ValueError(f"names, addresses, networks such as 10.0.0.0/8, or *, with commas; not {found!r}")
        return cls(proxy, tuple(rule for rule in rules.values() if rule is not None))

    def of(self, url: URL) -> Proxy | None:
        """Say which proxy a URL is asked through; plaintext, which never leaves the machine, through none."""
        return None if self.proxy is None or self.spares(url) else self.proxy

    def spares(self, url: URL) -> bool:
        """Whether a URL is asked straight, whatever the proxy."""
        if url.scheme != "https":
            return True
        host, port = (url.raw_host or "").lower().removesuffix("."), url.port or 0
        address = _address(host)
        if host == "localhost" or (address is not None and any(address in network for network in _NEVER)):
            return True
        return any(rule.covers(host, address, port) for rule in self.rules)

    @classmethod
    def of_environment(cls, environ: Mapping[str, str], url: URL) -> Proxy | None:
        """Say the same by HTTPS_PROXY and NO_PROXY, each in small letters first; ValueError where a proxy is no use.

        What stands for no host in NO_PROXY is passed over, as by other programs, whose words may be in it.
        """
        text = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
        spared = cls.parse(None, environ.get("no_proxy") or environ.get("NO_PROXY") or "")
        if not text or spared.spares(url):
            return None
        try:
            return Proxy.parse(text)
        except ValueError as error:
            raise ValueError(f"HTTPS_PROXY: expected {error}") from None

    def variables(self) -> dict[str, str]:
        """Write what tells botocore the same: it knows proxies from these alone, and only names and addresses."""
        texts = [text for rule in self.rules if (text := rule.for_urllib()) is not None]
        found = {"no_proxy": "*" if "*" in texts else ",".join((*_NEVER_FOR_URLLIB, *texts))}
        if self.proxy is not None:
            found["https_proxy"] = self.proxy.url
        return found


DIRECT = Proxies()
"""No proxy for anybody."""


def _rule(entry: str) -> _Rule | None:
    """Read an entry; None if it stands for no host."""
    if entry == "*":
        return _Rule("", None, None)
    try:
        return _Rule(None, ipaddress.ip_network(entry, strict=False), None)
    except ValueError:
        found = _BRACKETS.fullmatch(entry) or _NAME.fullmatch(entry)
    if found is None:
        return None
    port, address = None if found[2] is None else int(found[2]), _address(found[1])
    if address is not None:
        return _Rule(None, ipaddress.ip_network(address), port)
    return None if ":" in found[1] else _Rule(found[1], None, port)


def _is_host(host: str) -> bool:
    return _address(host) is not None or (":" not in host and _NAME.fullmatch(host) is not None)


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _basic(user: str | None, password: str | None) -> str | None:
    """Write user and password as RFC 7617 wants them; ValueError, as botocore knows none but ASCII."""
    if user is None:
        return None
    name, secret = unquote(user), unquote(password or "")
    if not f"{name}{secret}".isascii() or not f"{name}{secret}".isprintable() or ":" in name:
        raise ValueError(f"{_PROXY_FORM}, and both in ASCII")
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
