"""The signer's own CA and serving certificate: what is kept of them, what is wrong with it, what should come next.

Pure: a function of the Secrets' contents and of the time, so that whoever leads next goes on where the last one
stopped. A CA that replaces another is published first, beside its predecessor, and issues only once it has been known
for a while. What has been replaced stays trusted for as long as a certificate of its time may be in use.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from byok_api.certificates import UNREADABLE

CA_VALIDITY = timedelta(days=1826)
SERVING_VALIDITY = timedelta(days=90)
PREDECESSORS_LIMIT = 8
"""CA certificates that may be trusted beside the newest."""
_VALUE_LIMIT = 64 * 1024
_CA_SHARE = 0.8
_SERVING_SHARE = 2 / 3
_LAST_SHARE = 5 / 6
"""Parts of a certificate's life: after the first two it is replaced, after the last one without further ado."""
_SKEW = timedelta(days=1)
"""By which the clocks of two who lead one after the other may differ, before one makes anew what the other made."""

CERTIFICATE, KEY, BUNDLE = "tls.crt", "tls.key", "ca.crt"
"""Names in a Secret's data, as those of type kubernetes.io/tls have them."""


class Why(StrEnum):
    """Why a certificate is made."""

    MISSING = "there is none"
    DAMAGED = "certificate or key cannot be read, or are not of the operator's making"
    MISMATCHED = "the key is missing or is not the certificate's"
    NOT_VALID = "it has expired, or will not be valid for more than a day"
    UNTRUSTED = "no CA that is published has issued it"
    OVERDUE = "it is about to expire"
    RENAMED = "it is for other names"
    AGED = "it has lived most of its life"
    SUPERSEDED = "a new CA has been known for long enough"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True)
class Kept:
    """What a Secret holds: None for what it lacks or what cannot be read."""

    certificate: x509.Certificate | None = None
    key: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)
    bundle: tuple[x509.Certificate, ...] = ()
    is_empty: bool = False
    """Whether it holds neither certificate nor key, rather than something that cannot be read."""


@dataclass(frozen=True)
class Publication:
    """Since when consumers have known which CA certificate, by its SHA-256."""

    fingerprint: str
    moment: datetime

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.moment.strftime('%Y-%m-%dT%H:%M:%SZ')}"

    @classmethod
    def parse(cls, text: str) -> "Publication | None":
        """Read it as it was written; None for anything else."""
        fingerprint, _, moment = text.partition(" ")
        try:
            return cls(fingerprint, datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC))
        except ValueError:
            return None


@dataclass(frozen=True)
class Demands:
    """What an installation wants: the names that are certified, and for how long a new CA is known before it issues."""

    names: tuple[str, ...]
    grace: timedelta


@dataclass(frozen=True)
class AuthorityPlan:
    """Whether a new CA is made, and which others stay trusted beside it; changed: whether anything is to be written."""

    renew: Why | None
    current: Pair | None
    """The CA that there is, unless a new one is made."""
    predecessors: tuple[x509.Certificate, ...]
    changed: bool


@dataclass(frozen=True)
class ServingPlan:
    """Whether a certificate is issued, and what is known of the CA's publication; changed as before."""

    issue: Why | None
    publication: Publication | None
    changed: bool


@dataclass(frozen=True)
class Observed:
    """What the serving certificate is judged by."""

    serving: Kept
    authority: x509.Certificate
    predecessors: tuple[x509.Certificate, ...]
    publication: Publication | None
    is_everywhere: bool
    """Whether each consumer holds the bundle that the Secret holds."""
    now: datetime
    demands: Demands

    @property
    def bundle(self) -> tuple[x509.Certificate, ...]:
        """Give what is to be trusted, the newest first."""
        return (self.authority, *self.predecessors)


def kept_in(data: Mapping[str, object]) -> Kept:
    """Read the data of a Secret, base64 in PEM; whatever cannot be read is left out."""
    certificate, key = _value(data, CERTIFICATE), _value(data, KEY)
    is_empty = not certificate and not key
    return Kept(_certificate_in(certificate), _key_in(key), _bundle_in(data), is_empty=is_empty)


def pem_of(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates as PEM, in this order."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def fingerprint(certificate: x509.Certificate) -> str:
    """Give a certificate's SHA-256, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def plan_authority(kept: Kept, serving: Kept, now: datetime) -> AuthorityPlan:
    """Decide about the CA: `kept` is its Secret's content, `serving` that of the certificate which is in use."""
    renew = next((why for why, check in _CA_CHECKS if check(kept, now)), None)
    if renew is None and _has_lived(_CA_SHARE)(kept, now) and not _urgency(serving, _anchors(kept), now):
        # Otherwise a CA that nobody knows would issue at once what those who know the old one are to trust.
        renew = Why.AGED
    current = Pair(kept.certificate, kept.key) if not renew and kept.certificate and kept.key else None
    old = kept.bundle if current else _anchors(kept)
    needed = [
        each
        for each in (*old, *_lost(kept, serving))
        if serving.certificate and is_issued_by(serving.certificate, each)
    ]
    if current and now >= current.certificate.not_valid_before_utc + SERVING_VALIDITY:
        old = ()
    predecessors = [
        each
        for each in dict.fromkeys((*needed, *old))
        if _is_authority(each) and now < each.not_valid_after_utc and (current is None or each != current.certificate)
    ]
    # More than a few come only of keys being taken away again and again.
    chosen = tuple(predecessors[:PREDECESSORS_LIMIT])
    return AuthorityPlan(renew, current, chosen, changed=renew is not None or set(chosen) != set(kept.bundle))


def plan_serving(observed: Observed) -> ServingPlan:
    """Decide about the serving certificate, its bundle, and whether a new CA counts as known from now on."""
    issue = _urgency(observed.serving, observed.bundle, observed.now)
    if issue is None and _may_move(observed):
        issue = next((why for why, check in _MOVES if check(observed)), None)
    publication = _publication(observed)
    changed = issue is not None or observed.serving.bundle != observed.bundle or publication != observed.publication
    return ServingPlan(issue, publication, changed)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Say whether a CA certificate's key has signed a certificate that names it (RFC 5280, section 6.1.3)."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def is_early(certificate: x509.Certificate, now: datetime) -> bool:
    """Say whether a certificate is not valid yet, by a clock that may be wrong."""
    return now < certificate.not_valid_before_utc


def _anchors(kept: Kept) -> tuple[x509.Certificate, ...]:
    return kept.bundle if kept.certificate is None else (kept.certificate, *kept.bundle)


def _lost(kept: Kept, serving: Kept) -> tuple[x509.Certificate, ...]:
    """Give what was published and the CA's Secret knows no more, as it was damaged, or restored from a backup.

    Not what somebody distrusts by emptying that Secret: the CA made then was never published with it, and is newer.
    """
    if kept.is_empty:
        return ()
    if kept.certificate is None or kept.certificate in serving.bundle:
        return serving.bundle
    begin = kept.certificate.not_valid_before_utc
    return tuple(each for each in serving.bundle if each.not_valid_before_utc > begin)


def _urgency(serving: Kept, trusted: Iterable[x509.Certificate], now: datetime) -> Why | None:
    """Say why things cannot go on: nobody could talk to the signer, or soon nobody will."""
    why = next((why for why, check in _SERVING_CHECKS if check(serving, now)), None)
    certificate = serving.certificate
    if why or certificate is None or any(is_issued_by(certificate, each) for each in trusted):
        return why
    return Why.UNTRUSTED


def _publication(observed: Observed) -> Publication | None:
    """Date it from when all have the bundle; a date to come is no date."""
    known = _known(observed)
    if known is not None or not observed.is_everywhere or observed.serving.bundle != observed.bundle:
        return observed.publication
    return Publication(fingerprint(observed.authority), observed.now.replace(microsecond=0))


def _known(observed: Observed) -> Publication | None:
    told = observed.publication
    is_of_this = told is not None and told.fingerprint == fingerprint(observed.authority)
    return told if told is not None and is_of_this and told.moment <= observed.now else None


def _may_move(observed: Observed) -> bool:
    """Say whether whoever trusts what is served now trusts what the newest CA would issue."""
    serving, known = observed.serving.certificate, _known(observed)
    if serving is not None and is_issued_by(serving, observed.authority):
        return True
    return known is not None and observed.now >= known.moment + observed.demands.grace


def _is_missing(kept: Kept, _now: datetime) -> bool:
    return kept.is_empty


def _is_damaged(kept: Kept, _now: datetime) -> bool:
    return kept.certificate is None


def _is_mismatched(kept: Kept, _now: datetime) -> bool:
    if kept.certificate is None or kept.key is None:
        return True
    return _spki(kept.certificate.public_key()) != _spki(kept.key.public_key())


def _is_no_authority(kept: Kept, _now: datetime) -> bool:
    return kept.certificate is None or not _is_authority(kept.certificate)


def _is_not_valid(kept: Kept, now: datetime) -> bool:
    certificate = kept.certificate
    if certificate is None:
        return True
    return not certificate.not_valid_before_utc - _SKEW <= now < certificate.not_valid_after_utc


def _has_lived(share: float) -> Callable[[Kept, datetime], bool]:
    def check(kept: Kept, now: datetime) -> bool:
        if kept.certificate is None:
            return True
        begin, end = kept.certificate.not_valid_before_utc, kept.certificate.not_valid_after_utc
        return now >= begin + (end - begin) * share

    return check


def _is_superseded(observed: Observed) -> bool:
    certificate = observed.serving.certificate
    return certificate is None or not is_issued_by(certificate, observed.authority)


def _is_renamed(observed: Observed) -> bool:
    certificate = observed.serving.certificate
    return certificate is None or set(_names(certificate)) != set(observed.demands.names)


_CA_CHECKS: Sequence[tuple[Why, Callable[[Kept, datetime], bool]]] = (
    (Why.MISSING, _is_missing),
    (Why.DAMAGED, _is_damaged),
    (Why.DAMAGED, _is_no_authority),
    (Why.MISMATCHED, _is_mismatched),
    (Why.NOT_VALID, _is_not_valid),
)
_SERVING_CHECKS: Sequence[tuple[Why, Callable[[Kept, datetime], bool]]] = (
    (Why.MISSING, _is_missing),
    (Why.DAMAGED, _is_damaged),
    (Why.MISMATCHED, _is_mismatched),
    (Why.NOT_VALID, _is_not_valid),
    (Why.OVERDUE, _has_lived(_LAST_SHARE)),
)
_MOVES: Sequence[tuple[Why, Callable[[Observed], bool]]] = (
    (Why.SUPERSEDED, _is_superseded),
    (Why.RENAMED, _is_renamed),
    (Why.AGED, lambda observed: _has_lived(_SERVING_SHARE)(observed.serving, observed.now)),
)


def _is_authority(certificate: x509.Certificate) -> bool:
    """Say whether it is a CA's own, self-signed, as clients want an anchor, with what its leaves refer to."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (*UNREADABLE, x509.ExtensionNotFound):
        return False
    return constraints.ca and is_issued_by(certificate, certificate)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        return []
    return names.get_values_for_type(x509.DNSName)


def _value(data: Mapping[str, object], name: str) -> bytes:
    text = data.get(name)
    if not isinstance(text, str) or len(text) > _VALUE_LIMIT:
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _bundle_in(data: Mapping[str, object]) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(_value(data, BUNDLE)))
    except UNREADABLE:
        return ()


def _certificate_in(pem: bytes) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return certificate if isinstance(certificate.public_key(), ec.EllipticCurvePublicKey) else None
    except UNREADABLE:
        return None


def _key_in(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(pem, password=None)
    except UNREADABLE:
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
