"""What a ByokKey's spec amounts to, by ordered lists of small named checks: the rules by which both services decide.

`KEY_CHECKS` is the order in which users are told what stands against a key. What depends on the moment (`valid_at`), on
the caller or on KMS is decided later.

Whose key is it (design, section 5)? Where the installation sets `keyOwnership`, that alone decides: a namespace may
name only ARNs that it is given, the key's own and its replicas', and no other namespace's claim counts against it. A
claim made elsewhere with the same certificate, which is public, is then either not admitted itself, or refused when KMS
shows another public key, or one that the installation meant to share. Where it is not set, claims are ordered by age:
of two namespaces with the same public key the one with the older ByokKey has it; a tie, or no creation times as in a
folder, refuses both. A key without certificate has no public key yet that a spec could tell; until then it is compared
by ARN instead, so that a certificate request cannot be had for what an older ByokKey elsewhere names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey, KeyState
from byok_api.certificate_rules import Severity
from byok_api.certificates import CertificateChain, lint, parse_chain
from byok_api.errors import Reason, Refusal
from byok_api.installation import Rules
from byok_api.references import KeyArn, ObjectName
from byok_api.signatures import algorithms_for

# They depend on the moment: `valid_at` decides them.
_FINDINGS_OF_THE_MOMENT = frozenset({"Expired", "NotYetValid"})
_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Problem:
    """Why an object cannot be used."""

    reason: Reason
    message: str
    """A sentence that begins with the object's kind and name."""

    def refusal(self) -> Refusal:
        """Make the refusal that users of the object are told."""
        return Refusal(self.reason, self.message)


@dataclass(frozen=True)
class Registered:
    """A certificate as registered: its chain, or what is wrong with it at any time."""

    chain: CertificateChain | None
    """None for one that cannot be read."""
    fault: tuple[Reason, str] | None
    """The text continues a sentence that begins with the key's name."""

    @classmethod
    def read(cls, pem: str) -> "Registered":
        """Parse and lint a chain, which takes a millisecond or two: keep the answer for as long as the text stays."""
        try:
            chain = parse_chain(pem)
        except Refusal as refusal:
            return cls(None, (refusal.reason, f"has an unreadable certificate: {refusal.message}"))
        for finding in lint(chain, now=_ANY_MOMENT):
            if finding.severity is Severity.ERROR and finding.name not in _FINDINGS_OF_THE_MOMENT:
                text = f"has an unsuitable certificate: {finding.name}: {finding.message}"
                return cls(chain, (Reason.CertificateInvalid, text))
        return cls(chain, None)


@dataclass(frozen=True)
class KeyStanding:
    """What a valid ByokKey amounts to by itself; KMS and its callers have not been heard yet."""

    key: ByokKey
    chain: CertificateChain | None
    algorithm: SigningAlgorithm | None
    """None if the spec asks for one that the certificate's key does not have, or names none and has no certificate."""
    deactivated: bool
    """By its owner, who may also have deleted it; `problem` then says which."""
    acceptance: Problem | None
    """What stands against the spec, by itself or by the installation's rules: then nothing is asked of KMS for it."""
    certificate: Problem | None
    """What is wrong with its certificate at any time, whatever else is wrong with the key."""
    problem: Problem | None
    """What its users are told: the first of KEY_CHECKS that fails; None if it can sign while its chain is valid."""

    @property
    def name(self) -> ObjectName:
        """The ByokKey's name."""
        return self.key.name

    def valid_at(self, now: datetime) -> Problem | None:
        """Say what is wrong outside of the chain's validity (CertificateExpired); a key without chain has none."""
        chain = self.chain
        if chain is None or chain.not_before <= now <= chain.not_after:
            return None
        return Problem(
            Reason.CertificateExpired,
            f"key {self.name}: its certificate chain is valid from {chain.not_before:%Y-%m-%d %H:%M} to "
            f"{chain.not_after:%Y-%m-%d %H:%M} UTC only; register a valid certificate",
        )


@dataclass(frozen=True)
class KeyFacts:
    """What the checks are made on."""

    key: ByokKey
    registered: Registered | None
    algorithm: SigningAlgorithm | None
    older_claim: ObjectName | None
    """A ByokKey of another namespace that has the better claim to the same KMS key, by age."""
    rules: Rules


Fault = tuple[Reason, str]
"""The text continues a sentence that begins with the object's name."""
KeyCheck = Callable[[KeyFacts], Fault | None]


def arns_of(key: ByokKey) -> tuple[KeyArn, ...]:
    """List the ARNs that a key names: its own, then its replicas'."""
    aws = key.spec.aws
    return tuple(KeyArn(arn) for arn in (aws.key_arn, *(aws.replicas or ())))


def _stays(facts: KeyFacts) -> Fault | None:
    # A finalizer may keep an object for good; its owner has said that it shall be no more.
    if facts.key.metadata.deletion_timestamp is not None:
        return Reason.KeyDeactivated, "is being deleted"
    return None


def _is_active(facts: KeyFacts) -> Fault | None:
    if facts.key.spec.state is KeyState.DEACTIVATED:
        return Reason.KeyDeactivated, "is deactivated (spec.state)"
    return None


def _is_owned(facts: KeyFacts) -> Fault | None:
    ownership, namespace = facts.rules.ownership, facts.key.metadata.namespace
    denied = [arn for arn in arns_of(facts.key) if ownership is not None and not ownership.admits(namespace, (arn,))]
    if not denied:
        return None
    text = f"names {denied[0]}, which the installation's keyOwnership does not give to namespace {namespace}"
    return Reason.KeyOwnershipDenied, f"{text}; name another, or have the platform team add it"


def _has_external_id(facts: KeyFacts) -> Fault | None:
    # An external id is sent with AssumeRole only, so that it takes a role: the key's own or the installation's.
    if facts.rules.require_external_id and facts.key.spec.aws.assume_role is None and facts.rules.default_role is None:
        text = "names no role to assume, and the installation demands an external id; set spec.aws.assumeRole"
        return Reason.KeyInvalid, text
    return None


def _terms_are_acknowledged(facts: KeyFacts) -> Fault | None:
    given, rules = facts.key.spec.acknowledgement, facts.rules
    if rules.required_terms is not None and (given is None or given.terms != rules.required_terms):
        text = f"does not acknowledge the terms {rules.required_terms} (spec.acknowledgement.terms)"
        return Reason.AcknowledgementMissing, text
    wanted = rules.required_terms_sha256
    if wanted is not None and (given is None or given.terms_sha256 != wanted):
        text = f"does not acknowledge the text of the terms, SHA-256 {wanted} (spec.acknowledgement.termsSHA256)"
        return Reason.AcknowledgementMissing, text
    return None


def _certificate_is_registered(facts: KeyFacts) -> Fault | None:
    if facts.registered is None:
        return Reason.CertificateMissing, "has no certificate (spec.certificate)"
    return None


def _certificate_is_suitable(facts: KeyFacts) -> Fault | None:
    return facts.registered.fault if facts.registered else None


def _algorithm_fits_certificate(facts: KeyFacts) -> Fault | None:
    wanted = facts.key.spec.signing_algorithm
    if wanted is not None and facts.algorithm is None:
        return Reason.KeyInvalid, f"cannot sign with {wanted}: its certificate is for another"
    return None


def _is_claimed_once(facts: KeyFacts) -> Fault | None:
    if facts.older_claim is None or facts.rules.ownership is not None:
        return None
    return Reason.KeyClaimedElsewhere, f"names the same KMS key as {facts.older_claim}, which claims it too"


CERTIFICATE_CHECKS: tuple[KeyCheck, ...] = (_certificate_is_registered, _certificate_is_suitable)
ACTIVITY_CHECKS: tuple[KeyCheck, ...] = (_stays, _is_active)
KEY_CHECKS: tuple[KeyCheck, ...] = (
    *ACTIVITY_CHECKS,
    _is_owned,
    _has_external_id,
    _terms_are_acknowledged,
    *CERTIFICATE_CHECKS,
    _algorithm_fits_certificate,
    _is_claimed_once,
)
ACCEPTANCE_CHECKS: tuple[KeyCheck, ...] = (
    _is_owned,
    _has_external_id,
    _terms_are_acknowledged,
    _algorithm_fits_certificate,
    _is_claimed_once,
)


def judge_key(key: ByokKey, registered: Registered | None, older_claim: ObjectName | None, rules: Rules) -> KeyStanding:
    """Judge a key whose certificate has been read; `older_claim` as `KeyFacts` has it."""
    algorithm = algorithm_of(key, registered)
    facts = KeyFacts(key, registered, algorithm, older_claim, rules)
    return KeyStanding(
        key=key,
        chain=registered.chain if registered else None,
        algorithm=algorithm,
        deactivated=_first_problem(ACTIVITY_CHECKS, facts) is not None,
        acceptance=_first_problem(ACCEPTANCE_CHECKS, facts),
        certificate=_first_problem(CERTIFICATE_CHECKS, facts),
        problem=_first_problem(KEY_CHECKS, facts),
    )


def algorithm_of(key: ByokKey, registered: Registered | None) -> SigningAlgorithm | None:
    """Choose the algorithm that a key signs with: the spec's, or its certificate's default."""
    wanted = key.spec.signing_algorithm
    if registered is None or registered.chain is None:
        return wanted
    possible = algorithms_for(registered.chain.public_key)
    if wanted is None:
        return possible[0] if possible else None
    return wanted if wanted in possible else None


def _first_problem(checks: tuple[KeyCheck, ...], facts: KeyFacts) -> Problem | None:
    found = next(filter(None, (check(facts) for check in checks)), None)
    return Problem(found[0], f"key {facts.key.name} {found[1]}") if found else None
