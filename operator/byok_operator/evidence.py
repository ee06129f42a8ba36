"""What was said last of a key, and by whom: the signer's probe, replicas that sign, or nobody.

Of the probe and the replicas the newer word counts, so that a grant that is taken or given back shows before the next
probe. A replica that is refused counts before one that is not: a probe then decides.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from byok_api.byokkey import DEFAULT_INTERVAL, DEFAULT_STALE_AFTER, ByokKeySpec
from byok_api.conditions import ByokKeyConditionType as Type
from byok_api.conditions import Condition, ConditionStatus
from byok_api.errors import Reason
from byok_api.fields import duration
from byok_api.key_rules import KeyStanding
from byok_operator.observations import Finding, KeyObservation, Outcome, Probe, ProbeFailure, ReplicaHealth
from byok_operator.transitions import aware, by_type

OUTAGE_PATIENCE = timedelta(seconds=30)
"""For so long a replica that cannot ask KMS changes nothing: a throttled moment is no news."""
CERTIFICATE_REASONS = frozenset(
    reason.name
    for reason in (
        Reason.CertificateExpired,
        Reason.CertificateInvalid,
        Reason.CertificateMismatch,
        Reason.CertificateMissing,
    )
)
"""Refusals that are the certificate's, whatever KMS would do."""
_CLOCK_TOLERANCE = timedelta(minutes=5)
_DISSENTERS_SHOWN = 5
_OUTCOMES = {
    ConditionStatus.TRUE: Outcome.PASSED,
    ConditionStatus.FALSE: Outcome.FAILED,
    ConditionStatus.UNKNOWN: Outcome.UNKNOWN,
}


@dataclass(frozen=True)
class Word:
    """What was said last of signing with a key."""

    finding: Finding
    at: datetime
    replica: str | None = None
    """The replica that said so while it signed; None for a probe."""


def spec_of(observed: KeyObservation) -> ByokKeySpec | None:
    """Give the key's spec, if it is one."""
    return observed.standing.key.spec if isinstance(observed.standing, KeyStanding) else None


def may_be_probed(observed: KeyObservation) -> bool:
    """Say whether KMS is asked anything: not for a spec that the rules refuse."""
    return isinstance(observed.standing, KeyStanding) and observed.standing.acceptance is None


def interval_of(observed: KeyObservation) -> timedelta:
    """Give the time between two probes of a healthy key."""
    spec = spec_of(observed)
    return duration((spec and spec.verification and spec.verification.interval) or DEFAULT_INTERVAL)


def stale_after_of(observed: KeyObservation) -> str:
    """Give the time for which a verification holds, as it is written in the spec."""
    spec = spec_of(observed)
    return (spec and spec.verification and spec.verification.stale_after) or DEFAULT_STALE_AFTER


def before(observed: KeyObservation) -> dict[str, Condition]:
    """Find the conditions that the API server has, of whatever generation."""
    return by_type(observed.status.conditions if observed.status else None)


def before_of(observed: KeyObservation, condition: Type) -> Condition | None:
    """Find a condition that the API server has of this generation."""
    found = before(observed).get(condition)
    return found if found is not None and found.observed_generation == observed.generation else None


def probe_of(observed: KeyObservation) -> Probe | None:
    """Find the last probe, if it was of this generation."""
    probe = observed.probe
    return probe if probe is not None and probe.generation == observed.generation else None


def failure_of(observed: KeyObservation) -> ProbeFailure | None:
    """Find the last attempt, if it failed: then an earlier probe says nothing any more."""
    probe, failure = probe_of(observed), observed.probe_failure
    return failure if failure is not None and (probe is None or failure.at >= probe.at) else None


def reports_of(observed: KeyObservation) -> list[ReplicaHealth]:
    """List what replicas say of this generation of this very object."""
    standing = observed.standing
    born = standing.key.metadata.creation_timestamp if isinstance(standing, KeyStanding) else None
    return [
        report
        for report in observed.health
        if report.generation == observed.generation and (born is None or said_at(report) >= born)
    ]


def said_at(report: ReplicaHealth) -> datetime:
    """Say how new a report is: a signature that verified renews it, a refusal stands since it began."""
    if report.outcome is Outcome.PASSED and report.last_verified is not None:
        return max(report.since, report.last_verified)
    return report.since


def word_on_signing(observed: KeyObservation, now: datetime) -> Word | None:
    """Say what was said last of whether KMS signs with the key; None if nobody has, since the operator started."""
    probe, failure, newer = probe_of(observed), failure_of(observed), _newer_reports(observed, Type.SIGN_GRANTED)
    refusals = [report for report in newer if report.outcome is Outcome.FAILED and not is_of_certificate(report)]
    if refusals:
        return _word(max(refusals, key=said_at))
    signing = _signing(observed, newer)
    if signing is not None:
        return _word(signing)
    if failure is not None:
        return Word(Finding(Outcome.UNKNOWN, failure.reason, failure.message), failure.at)
    silent = [report for report in newer if report.outcome is Outcome.UNKNOWN and report.since + OUTAGE_PATIENCE <= now]
    if silent:
        return _word(max(silent, key=said_at))
    return Word(probe.sign, probe.at) if probe is not None else None


def word_on_certificate(observed: KeyObservation) -> Finding | None:
    """Say what was said last of whether the certificate is the key's; None if nobody has."""
    probe, failure, newer = probe_of(observed), failure_of(observed), _newer_reports(observed, Type.CERTIFICATE_READY)
    refusals = [report for report in newer if report.outcome is Outcome.FAILED and is_of_certificate(report)]
    if refusals:
        return _word(max(refusals, key=said_at)).finding
    if _signing(observed, newer) is not None:
        # Every signature is verified with the certificate's key before it is released.
        return Finding(Outcome.PASSED)
    if failure is not None:
        return Finding(Outcome.UNKNOWN, failure.reason, failure.message)
    return probe.certificate if probe is not None else None


def is_of_certificate(report: ReplicaHealth) -> bool:
    """Say whether a replica was refused for the certificate, and not by KMS."""
    return report.reason in CERTIFICATE_REASONS


def dissent(observed: KeyObservation, word: Word) -> str:
    """Name the replicas that see it otherwise, for the end of a message; empty if none does."""
    if word.finding.outcome is Outcome.PASSED:
        others = [report for report in reports_of(observed) if report.outcome is Outcome.FAILED]
    elif word.finding.outcome is Outcome.FAILED:
        others = [
            report for report in reports_of(observed) if report.outcome is Outcome.PASSED and said_at(report) > word.at
        ]
    else:
        others = []
    probe = probe_of(observed)
    asked = word.replica or (probe.replica if probe else None)
    views = sorted(f"{report.replica} ({report.reason or 'signs'})" for report in others if report.replica != asked)
    if not views:
        return ""
    more = f" and {len(views) - _DISSENTERS_SHOWN} more" if len(views) > _DISSENTERS_SHOWN else ""
    return f" Replicas of the signer that see it otherwise: {', '.join(views[:_DISSENTERS_SHOWN])}{more}."


def contradiction(observed: KeyObservation, now: datetime) -> str:
    """Name what replicas say against what was known, the same for as long as they say it; empty if they do not."""
    word, certificate, probe = word_on_signing(observed, now), word_on_certificate(observed), probe_of(observed)
    known = probe.sign.outcome if probe is not None else _known_outcome(observed, Type.SIGN_GRANTED)
    if word is not None and word.replica is not None and word.finding.outcome is not known:
        # Signatures renew what they prove, a refusal stands since it began.
        return f"{word.finding.outcome} {word.at.isoformat() if word.finding.outcome is Outcome.FAILED else ''}"
    if certificate is not None and probe is not None and certificate.outcome is not probe.certificate.outcome:
        return f"certificate {certificate.outcome}" if certificate.outcome is not Outcome.UNKNOWN else ""
    return ""


def verified_at(observed: KeyObservation, now: datetime) -> datetime | None:
    """Say when KMS was last known to sign with the key in this generation; None if it never was."""
    moments = [report.last_verified for report in reports_of(observed) if report.last_verified is not None]
    probe, ready = probe_of(observed), before_of(observed, Type.READY)
    if probe is not None and probe.verified:
        moments.append(probe.at)
    if ready is not None and ready.status is ConditionStatus.TRUE:
        shown = observed.status.last_verified_time if observed.status else None
        moments.append(aware(shown or ready.last_transition_time))
    return max((moment for moment in moments if is_past(moment, now)), default=None)


def is_past(moment: datetime, now: datetime) -> bool:
    """Say whether somebody can have seen a moment, their clock being what it is."""
    return aware(moment) <= now + _CLOCK_TOLERANCE


def _newer_reports(observed: KeyObservation, condition: Type) -> list[ReplicaHealth]:
    """List what replicas say that is newer than what is known of a condition without them."""
    since, reports = _known_since(observed, condition), reports_of(observed)
    if probe_of(observed) is not None:
        return [report for report in reports if since is None or said_at(report) > since]
    known = _known_outcome(observed, condition)
    # A status has whole seconds, and a refusal is written within the second in which it began.
    newer = [report for report in reports if since is None or said_at(report).replace(microsecond=0) > since]
    if failure_of(observed) is None:
        # A refusal that is written already adds nothing: the words may be a probe's, which were more.
        return [report for report in newer if report.outcome is not Outcome.FAILED or report.outcome is not known]
    # Nobody but replicas has said anything: what was written on their word stands for as long as they say it.
    return newer + [report for report in reports if report not in newer and report.outcome is known]


def _known_since(observed: KeyObservation, condition: Type) -> datetime | None:
    probe, written = probe_of(observed), before_of(observed, condition)
    if probe is not None or written is None:
        return probe.at if probe is not None else None
    # An operator that has just started goes by what the one before it wrote.
    moments = [aware(written.last_transition_time)]
    if written.status is ConditionStatus.TRUE and observed.status and observed.status.last_verified_time:
        moments.append(aware(observed.status.last_verified_time))
    return max(moments)


def _known_outcome(observed: KeyObservation, condition: Type) -> Outcome | None:
    written = before_of(observed, condition)
    return _OUTCOMES[written.status] if written is not None else None


def _signing(observed: KeyObservation, newer: list[ReplicaHealth]) -> ReplicaHealth | None:
    failure = failure_of(observed)
    signing = [report for report in newer if report.outcome is Outcome.PASSED]
    newest = max(signing, key=said_at, default=None)
    # While probes fail, a replica that signs stands in for them as long as a probe would have.
    if newest is None or (failure is not None and said_at(newest) <= failure.at - interval_of(observed)):
        return None
    return newest


def _word(report: ReplicaHealth) -> Word:
    return Word(Finding(report.outcome, report.reason, report.message), said_at(report), report.replica)
