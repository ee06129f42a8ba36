"""Whom a certificate may be requested for: subjects and alternative names, each within its bounds.

Upper bounds of attributes are X.520's, as RFC 5280 lists them in appendix A.1. Names are not resolved, nor is anybody
asked whether they are the caller's: that is the certificate authority's task.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.csr import RequestedNames

ALTERNATIVES_LIMIT = 32
_DNS_LIMIT, _EMAIL_LIMIT, _URI_LIMIT = 253, 254, 1024
"""Characters (RFC 1035, section 2.3.4; RFC 5321, section 4.5.3.1.3)."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_EMAIL = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_COUNTRY = re.compile(r"[A-Z]{2}")


class _Attribute(NamedTuple):
    field: str
    oid: x509.ObjectIdentifier
    limit: int
    """Characters."""
    required: bool = False


# In the order in which a distinguished name is written, the widest first.
_ATTRIBUTES = (
    _Attribute("country", NameOID.COUNTRY_NAME, 2),
    _Attribute("state_or_province", NameOID.STATE_OR_PROVINCE_NAME, 128),
    _Attribute("locality", NameOID.LOCALITY_NAME, 128),
    _Attribute("organization", NameOID.ORGANIZATION_NAME, 64, required=True),
    _Attribute("organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    _Attribute("common_name", NameOID.COMMON_NAME, 64, required=True),
)


def names_in(request: pb.CreateCertificateRequestRequest) -> RequestedNames:
    """Read subject and alternative names; Refusal InvalidRequest names the field and its rule."""
    subject = x509.Name(list(_attributes_in(request.subject)))
    count = len(request.dns_names) + len(request.email_addresses) + len(request.uris)
    if count > ALTERNATIVES_LIMIT:
        raise _invalid("dns_names, email_addresses and uris", f"{count} names; at most {ALTERNATIVES_LIMIT} are taken")
    return RequestedNames(subject, tuple(dict.fromkeys(_alternatives_in(request))))


def _attributes_in(subject: pb.CertificateSubject) -> Iterator[x509.NameAttribute[str]]:
    for field, oid, limit, required in _ATTRIBUTES:
        value: str = getattr(subject, field)
        if not value:
            if required:
                raise _invalid(f"subject.{field}", "is required")
            continue
        # In bytes, as cryptography counts a common name; RFC 5280's bounds are of characters, of which it has no more.
        if len(value.encode()) > limit or not value.isprintable() or value != value.strip():
            raise _invalid(f"subject.{field}", f"takes up to {limit} bytes of printable UTF-8, no space at either end")
        if oid is NameOID.COUNTRY_NAME and not _COUNTRY.fullmatch(value):
            raise _invalid("subject.country", "takes the two capital letters of ISO 3166-1, such as DE")
        yield x509.NameAttribute(oid, value)


def _alternatives_in(request: pb.CreateCertificateRequestRequest) -> Iterator[x509.GeneralName]:
    for name in request.dns_names:
        if len(name) > _DNS_LIMIT or not _DNS.fullmatch(name):
            raise _invalid("dns_names", "takes DNS names of ASCII letters, digits and hyphens, without wildcards")
        yield x509.DNSName(name)
    for address in request.email_addresses:
        if len(address) > _EMAIL_LIMIT or not _EMAIL.fullmatch(address):
            raise _invalid("email_addresses", "takes addresses such as press@example.com, in ASCII")
        yield x509.RFC822Name(address)
    for uri in request.uris:
        if len(uri) > _URI_LIMIT or not _URI.fullmatch(uri):
            raise _invalid("uris", f"takes absolute URIs in ASCII, of up to {_URI_LIMIT} characters")
        yield x509.UniformResourceIdentifier(uri)


def _invalid(field: str, rule: str) -> Refusal:
    return Refusal(Reason.InvalidRequest, f"{field}: {rule}")
