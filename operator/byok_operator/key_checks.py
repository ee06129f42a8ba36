"""What each condition of a ByokKey says: ordered lists of small checks, the first that knows an answer gives it.

The lists are the documentation. Nothing here decides what may be signed; the signer does that, from specs alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from byok_api.byokkey import LeastPrivilege
from byok_api.certificate_rules import Severity
from byok_api.certificates import lint
from byok_api.conditions import ByokKeyConditionType as Type
from byok_api.conditions import ConditionReason, ConditionStatus
from byok_api.errors import Reason
from byok_api.fields import duration
from byok_api.key_rules import KeyStanding
from byok_api.objects import Unreadable
from byok_operator.evidence import (
    CERTIFICATE_REASONS,
    Word,
    before_of,
    dissent,
    failure_of,
    may_be_probed,
    probe_of,
    spec_of,
    stale_after_of,
    verified_at,
    word_on_certificate,
    word_on_signing,
)
from byok_operator.observations import Finding, KeyObservation, Outcome, Probe, ProbeFailure
from byok_operator.transitions import Verdict, aware, fails, holds, refused, repeated, unclear

GATES = (Type.RESOLVED, Type.USABLE, Type.SIGN_GRANTED, Type.CERTIFICATE_READY)
"""Conditions that Ready sums up, the one first that the others follow from."""
_STATE_REASONS = frozenset(
    reason.name for reason in (Reason.KeyDisabled, Reason.KeyInvalidState, Reason.KeyUsageInvalid)
)
_ENABLED = "Enabled"
_UNASKED = frozenset({ConditionReason.VALIDATING, ConditionReason.NOT_CHECKED, ConditionReason.NOT_REQUESTED})


@dataclass(frozen=True)
class Facts:
    """What the checks are made on."""

    observed: KeyObservation
    now: datetime
    probe: Probe | None
    failure: ProbeFailure | None
    signing: Word | None
    certificate: Finding | None

    @classmethod
    def of(cls, observed: KeyObservation, now: datetime) -> "Facts":
        """Look once at who said what."""
        return cls(
            observed,
            now,
            probe_of(observed),
            failure_of(observed),
            word_on_signing(observed, now),
            word_on_certificate(observed),
        )


Check = Callable[[Facts], Verdict | None]


def spec_is_unreadable(facts: Facts) -> Verdict | None:
    """Refuse an object that is none of this version's kind."""
    standing = facts.observed.standing
    return refused(standing) if isinstance(standing, Unreadable) else None


def spec_is_refused(facts: Facts) -> Verdict | None:
    """Tell what the installation's rules have against it: ownership, external id, acknowledgement, claims."""
    standing = facts.observed.standing
    return refused(standing.acceptance) if isinstance(standing, KeyStanding) and standing.acceptance else None


def signer_refuses_spec(facts: Facts) -> Verdict | None:
    """Tell what only the signer knows, such as which key is its own."""
    if facts.probe is None or facts.failure is not None or facts.probe.standing.outcome is not Outcome.FAILED:
        return None
    found = facts.probe.standing
    if found.reason in CERTIFICATE_REASONS or found.reason == Reason.KeyDeactivated.name:
        return None
    return fails(found.reason, found.message)


def spec_was_refused(facts: Facts) -> Verdict | None:
    """Say after a restart what was said before it, which may be what only the signer knows, until it is asked."""
    before = before_of(facts.observed, Type.ACCEPTED)
    if before is None or before.status is not ConditionStatus.FALSE or facts.probe or facts.failure:
        return None
    return repeated(before)


def spec_is_accepted(_facts: Facts) -> Verdict:
    """Accept what nothing stands against."""
    return holds("The spec is valid, and the installation's rules admit it.")


def kms_is_not_asked(facts: Facts) -> Verdict | None:
    """Ask nothing of KMS for a spec that the rules refuse."""
    if may_be_probed(facts.observed):
        return None
    return unclear(ConditionReason.NOT_CHECKED, "KMS is not asked before condition Accepted is True.")


def signer_is_away(facts: Facts) -> Verdict | None:
    """Tell that no replica of the signer answered the last probe."""
    return unclear(facts.failure.reason, facts.failure.message) if facts.failure else None


def public_key_was_asked_for(facts: Facts) -> Verdict | None:
    """Tell what came of GetPublicKey in the last probe."""
    if facts.probe is None:
        return None
    return _verdict(facts.probe.public_key, "KMS gives the public key.")


def replica_or_probe_signs(facts: Facts) -> Verdict | None:
    """Tell what came of Sign: in the last probe (DryRun), or for a replica that has signed or been refused since."""
    if facts.signing is None:
        return None
    told = _explained(facts.signing.finding, facts.probe)
    return _verdict(told, "KMS signs for the signer's identity.", dissent(facts.observed, facts.signing))


def kms_names_another_state(facts: Facts) -> Verdict | None:
    """Tell of states in which KMS would not sign, where DescribeKey is granted."""
    if facts.probe is None or facts.failure is not None:
        return None
    state, arn = facts.probe.facts.key_state, facts.probe.facts.key_arn
    if state in {"", _ENABLED} or (facts.signing is not None and facts.signing.replica is not None):
        return None
    reason = Reason.KeyDisabled if state == "Disabled" else Reason.KeyInvalidState
    name = facts.observed.name
    return fails(reason.name, f"key {name}: KMS says that {arn} is in state {state}")


def kms_can_use_it(facts: Facts) -> Verdict | None:
    """Tell what Sign says of the key's state, usage and spec; a denial says nothing of them."""
    if facts.signing is None:
        return None
    found = _explained(facts.signing.finding, facts.probe)
    if found.outcome is not Outcome.FAILED or found.reason in _STATE_REASONS:
        return _verdict(Finding(found.outcome, found.reason, found.message), "State, usage and spec of the key fit.")
    if facts.probe is not None and facts.probe.facts.key_state == _ENABLED:
        return holds("State, usage and spec of the key fit.")
    return unclear(found.reason, f"KMS does not say so before it would sign. {found.message}")


def certificate_is_unfit(facts: Facts) -> Verdict | None:
    """Refuse a certificate that is not there, or breaks C2PA's profile: every finding of the lint by name."""
    standing = facts.observed.standing
    if not isinstance(standing, KeyStanding) or standing.certificate is None:
        return None
    problem, chain = standing.certificate, standing.chain
    findings = lint(chain, now=chain.not_before) if chain is not None else ()
    others = [each for each in findings if each.severity is Severity.ERROR and each.name not in problem.message]
    text = "".join(f" {each.name}: {each.message}." for each in others)
    return fails(problem.reason.name, f"{problem.message}.{text}" if text else problem.message)


def certificate_is_out_of_date(facts: Facts) -> Verdict | None:
    """Refuse a certificate outside of its validity period, by the operator's clock."""
    standing = facts.observed.standing
    problem = standing.valid_at(facts.now) if isinstance(standing, KeyStanding) else None
    return refused(problem) if problem else None


def certificate_was_compared(facts: Facts) -> Verdict | None:
    """Tell whether its key is the KMS key's, by the last probe or a replica since."""
    if facts.certificate is None:
        return None
    return _verdict(_explained(facts.certificate, facts.probe), "The certificate is valid and this KMS key's.")


def nobody_asks_for_it(facts: Facts) -> Verdict | None:
    """Leave it where `spec.leastPrivilege` is unset."""
    spec = spec_of(facts.observed)
    if spec is not None and spec.least_privilege is not None:
        return None
    return unclear(ConditionReason.NOT_REQUESTED, f"spec.leastPrivilege: {LeastPrivilege.WARN} has it checked.")


def least_privilege_was_asked_for(facts: Facts) -> Verdict | None:
    """Tell what came of CreateGrant and GetKeyPolicy in the last probe that asked."""
    if facts.probe is None or facts.probe.least_privilege is None:
        return None
    return _verdict(facts.probe.least_privilege, "The signer's identity may do no more than it needs.")


def as_before(condition: Type) -> Check:
    """Say what the operator wrote of this generation, where nothing new was heard, across its restarts too."""

    def check(facts: Facts) -> Verdict | None:
        found = before_of(facts.observed, condition)
        return repeated(found) if found is not None and found.reason not in _UNASKED else None

    return check


def is_not_checked_yet(_facts: Facts) -> Verdict:
    """Wait for the first probe."""
    return unclear(ConditionReason.VALIDATING, "The signer has not been asked yet.")


CHECKS: Mapping[Type, tuple[Check, ...]] = {
    Type.ACCEPTED: (
        spec_is_unreadable,
        spec_is_refused,
        signer_refuses_spec,
        spec_was_refused,
        spec_is_accepted,
    ),
    Type.RESOLVED: (
        kms_is_not_asked,
        signer_is_away,
        public_key_was_asked_for,
        as_before(Type.RESOLVED),
        is_not_checked_yet,
    ),
    Type.SIGN_GRANTED: (
        kms_is_not_asked,
        replica_or_probe_signs,
        as_before(Type.SIGN_GRANTED),
        is_not_checked_yet,
    ),
    Type.USABLE: (
        kms_is_not_asked,
        kms_names_another_state,
        kms_can_use_it,
        as_before(Type.USABLE),
        is_not_checked_yet,
    ),
    Type.CERTIFICATE_READY: (
        certificate_is_unfit,
        certificate_is_out_of_date,
        kms_is_not_asked,
        certificate_was_compared,
        as_before(Type.CERTIFICATE_READY),
        is_not_checked_yet,
    ),
    Type.LEAST_PRIVILEGE: (
        nobody_asks_for_it,
        kms_is_not_asked,
        least_privilege_was_asked_for,
        as_before(Type.LEAST_PRIVILEGE),
        is_not_checked_yet,
    ),
}
"""The checks of every condition but Ready; each list ends with one that always answers."""

Leaves = Mapping[Type, Verdict]
ReadyCheck = Callable[[Facts, Leaves], Verdict | None]


def spec_must_be_accepted(_facts: Facts, leaves: Leaves) -> Verdict | None:
    """Demand Accepted."""
    accepted = leaves[Type.ACCEPTED]
    return accepted if accepted.status is not ConditionStatus.TRUE else None


def owner_must_not_have_stopped_it(facts: Facts, _leaves: Leaves) -> Verdict | None:
    """Demand that `spec.state` is not Deactivated."""
    standing = facts.observed.standing
    if not isinstance(standing, KeyStanding) or not standing.deactivated:
        return None
    return refused(standing.problem) if standing.problem else None


def nothing_must_be_false(_facts: Facts, leaves: Leaves) -> Verdict | None:
    """Tell the first gate that is False, and name the others."""
    false = [gate for gate in GATES if leaves[gate].status is ConditionStatus.FALSE]
    if not false:
        return None
    first = leaves[false[0]]
    others = [f"{gate.value} ({leaves[gate].reason})" for gate in false[1:] if leaves[gate].reason != first.reason]
    also = f" Also False: {', '.join(others)}." if others else ""
    return fails(first.reason, f"{first.message}{also}")


def last_proof_must_be_fresh(facts: Facts, leaves: Leaves) -> Verdict | None:
    """Doubt gates that were True when somebody last looked, longer than staleAfter ago."""
    if _first_unknown(leaves) is None and not _is_fresh(facts, verified_at(facts.observed, facts.now)):
        return _stale(facts)
    return None


def all_gates_are_true(_facts: Facts, leaves: Leaves) -> Verdict | None:
    """Tell that the signer signs with it."""
    return holds("The signer can sign with this key.") if _first_unknown(leaves) is None else None


def last_proof_stands(facts: Facts, leaves: Leaves) -> Verdict | None:
    """Believe what was proven less than staleAfter ago, cannot be asked now, and was not denied since."""
    unknown, proven = _first_unknown(leaves), verified_at(facts.observed, facts.now)
    ready = before_of(facts.observed, Type.READY)
    if unknown is None or proven is None:
        return None
    if ready is not None and ready.status is not ConditionStatus.TRUE and proven <= aware(ready.last_transition_time):
        return None
    if not _is_fresh(facts, proven):
        return _stale(facts)
    found = leaves[unknown]
    return holds(
        f"{unknown.value} is Unknown ({found.reason}); the last proof, of status.lastVerifiedTime, "
        f"holds for {stale_after_of(facts.observed)} (spec.verification.staleAfter).",
        ConditionReason.LAST_VERIFIED,
    )


def stays_stale(facts: Facts, _leaves: Leaves) -> Verdict | None:
    """Say so until there is another proof."""
    ready = before_of(facts.observed, Type.READY)
    return repeated(ready) if ready is not None and ready.reason == ConditionReason.STALE else None


def nothing_was_heard_since(facts: Facts, _leaves: Leaves) -> Verdict | None:
    """Say after a restart what was said before it."""
    ready = before_of(facts.observed, Type.READY)
    heard = facts.probe, facts.failure, facts.signing, facts.certificate
    if ready is None or ready.status is not ConditionStatus.UNKNOWN or any(each is not None for each in heard):
        return None
    return repeated(ready)


def proof_is_missing(_facts: Facts, leaves: Leaves) -> Verdict:
    """Give the reason of the first gate that is Unknown."""
    unknown = _first_unknown(leaves)
    return leaves[unknown] if unknown is not None else is_not_checked_yet(_facts)


READY_CHECKS: tuple[ReadyCheck, ...] = (
    owner_must_not_have_stopped_it,
    spec_must_be_accepted,
    nothing_must_be_false,
    last_proof_must_be_fresh,
    all_gates_are_true,
    last_proof_stands,
    stays_stale,
    nothing_was_heard_since,
    proof_is_missing,
)
"""The checks of Ready, made on what the other conditions say."""


def _verdict(found: Finding, passed: str, addition: str = "") -> Verdict:
    if found.outcome is Outcome.PASSED:
        return holds(passed + addition)
    if found.outcome is Outcome.UNKNOWN:
        return unclear(found.reason, found.message)
    told = fails(found.reason, found.message, found.missing_statement)
    return replace(told, message=told.message + addition)


def _explained(found: Finding, probe: Probe | None) -> Finding:
    # A check that was not made for want of the public key is unknown for the reason that this was not to be had.
    if found.outcome is not Outcome.UNKNOWN or found.reason or probe is None:
        return found
    return replace(found, reason=probe.public_key.reason)


def _first_unknown(leaves: Leaves) -> Type | None:
    return next((gate for gate in GATES if leaves[gate].status is ConditionStatus.UNKNOWN), None)


def _is_fresh(facts: Facts, proven: datetime | None) -> bool:
    return proven is not None and facts.now < proven + duration(stale_after_of(facts.observed))


def _stale(facts: Facts) -> Verdict:
    return unclear(
        ConditionReason.STALE,
        f"The key was last proven to sign longer ago than {stale_after_of(facts.observed)} "
        "(spec.verification.staleAfter; status.lastVerifiedTime). The platform team checks operator and signer.",
    )
