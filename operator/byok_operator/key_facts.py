"""What `status` of a ByokKey tells beside its conditions."""

import base64
import hashlib
from datetime import datetime, timedelta

from byok_api.algorithms import SigningAlgorithm
from byok_api.key_rules import KeyStanding
from byok_api.statuses import ByokKeyStatus, CertificateFacts, KeyFacts, PublicKeyFacts
from byok_operator.evidence import failure_of, is_past, probe_of, spec_of, verified_at
from byok_operator.observations import KeyObservation, Outcome, Probe
from byok_operator.transitions import aware, shortened

REVERIFY_LIMIT = 256
"""Characters of REVERIFY_ANNOTATION that are told apart."""
RECIPES_EVERY = timedelta(seconds=30)
"""How often `recipes` is written, at most, when nothing else differs."""
VERIFIED_EVERY = timedelta(hours=1)
"""How often `lastVerifiedTime` is written, at most, when nothing else differs."""
_LINE = 64
_DER_LIMIT = 2900
"""Bytes whose PEM fits the status."""


def facts_of(observed: KeyObservation) -> ByokKeyStatus:
    """Make a status of all that is known of the key itself; conditions, counts and times are left out."""
    probe, known = probe_of(observed), _still_true(observed)
    asked = probe if probe is not None and failure_of(observed) is None else None
    resolved = asked if asked is not None and asked.public_key.outcome is Outcome.PASSED else None
    return ByokKeyStatus(
        observed_generation=observed.generation,
        key=_key(resolved, known.key),
        resolved_key_arn=_text(resolved.facts.key_arn, 400) if resolved else known.resolved_key_arn,
        public_key=_public_key(resolved.facts.public_key) if resolved else known.public_key,
        external_id=_text(asked.facts.external_id, 512) if asked else known.external_id,
        certificate=_certificate(observed),
        algorithm=_algorithm(observed, resolved, known),
        last_handled_reverify=_handled(observed),
    )


def handled_by(value: str | None) -> str | None:
    """Give a value of REVERIFY_ANNOTATION as the status keeps it."""
    return value[:REVERIFY_LIMIT] if value is not None else None


def verified_time(observed: KeyObservation, now: datetime, *, differs: bool) -> datetime | None:
    """Say what `lastVerifiedTime` is to be: if nothing else differs, it moves on once an hour."""
    shown = observed.status.last_verified_time if observed.status else None
    if shown is not None and not is_past(shown, now):
        shown = None
    found = verified_at(observed, now)
    if found is None:
        return shown
    found = found.replace(microsecond=0)
    if shown is None or (found > aware(shown) and (differs or found - aware(shown) >= VERIFIED_EVERY)):
        return found
    return shown


def recipes_shown(observed: KeyObservation, now: datetime, *, differs: bool) -> int:
    """Say what `recipes` is to be: if nothing else differs, it is written twice a minute."""
    shown = observed.status.recipes if observed.status else None
    written = observed.recipes_written
    if shown is None or differs or written is None or now >= written + RECIPES_EVERY:
        return observed.recipes
    return shown


def _still_true(observed: KeyObservation) -> ByokKeyStatus:
    # What KMS told of a key is told until it tells otherwise, unless the spec may name another key by now.
    known, spec = observed.status, spec_of(observed)
    if known is None:
        return ByokKeyStatus()
    is_same_key = spec is not None and known.resolved_key_arn == spec.aws.key_arn
    return known if is_same_key or known.observed_generation == observed.generation else ByokKeyStatus()


def _key(resolved: Probe | None, known: KeyFacts | None) -> KeyFacts | None:
    if resolved is None:
        return known
    told = resolved.facts
    return KeyFacts(
        key_spec=_text(told.key_spec, 64),
        key_state=_text(told.key_state, 64),
        origin=_text(told.origin, 64),
        multi_region=told.multi_region,
    )


def _public_key(der: bytes) -> PublicKeyFacts | None:
    if not 0 < len(der) <= _DER_LIMIT:
        return None
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[start : start + _LINE] for start in range(0, len(text), _LINE))
    # RFC 7468, section 13.
    pem = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"
    return PublicKeyFacts(pem=pem, spki_sha256=hashlib.sha256(der).hexdigest())


def _certificate(observed: KeyObservation) -> CertificateFacts | None:
    chain = observed.standing.chain if isinstance(observed.standing, KeyStanding) else None
    return CertificateFacts(subject=shortened(chain.subject, 1024), not_after=chain.not_after) if chain else None


def _algorithm(observed: KeyObservation, resolved: Probe | None, known: ByokKeyStatus) -> SigningAlgorithm | None:
    standing = observed.standing
    if isinstance(standing, KeyStanding) and standing.algorithm is not None:
        return standing.algorithm
    if resolved is None:
        return known.algorithm
    return next((each for each in SigningAlgorithm if each.value == resolved.facts.algorithm), None)


def _handled(observed: KeyObservation) -> str | None:
    if observed.probe is not None and observed.probe.reverify is not None:
        return handled_by(observed.probe.reverify)
    return observed.status.last_handled_reverify if observed.status else None


def _text(told: str, limit: int) -> str | None:
    return shortened(told, limit) or None
