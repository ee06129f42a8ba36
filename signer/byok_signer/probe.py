"""What a key's owner wants to know: may the signer use this key, and if not, which statement is missing where.

Made with the signer's own identity, since only that is granted anything. No signature is made. What cannot be asked
(throttled, unreachable, out of time) is unknown, never failed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee, Statement, as_json, public_key_statement, sign_statement, trust_statements
from byok_api.signatures import algorithms_for
from byok_signer.kms.errors import ASSUME_ROLE, OUTAGE_REASONS, KmsError
from byok_signer.kms.port import KeyDescription, KeyHandle, Kms, PublicKeyAnswer

# The last two are the installation's fault, of which no key's owner can do anything.
_UNKNOWN = OUTAGE_REASONS | {Reason.SignerCredentialsInvalid, Reason.SignerClockSkewed}


class CheckOutcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One of a probe's checks."""

    outcome: CheckOutcome
    reason: Reason | None = None
    """None if it passed, or was not made for want of another's result."""
    message: str = ""
    """What was found and what to do."""
    missing_statement: str = ""
    """Policy statements to paste, as JSON; empty if none is missing, or the signer's identity is not known."""
    request_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """Which key is to be probed, and how far."""

    key: KeyHandle
    algorithm: SigningAlgorithm | None
    """As the ByokKey says; None follows the key."""
    registered_spki: bytes | None
    """DER SubjectPublicKeyInfo of the registered certificate; None if there is none."""
    least_privilege: bool
    """Also ask for what must be denied; each denial is logged in CloudTrail."""
    timeout: float
    """Seconds for each check."""
    describe: bool = True
    """Also ask for facts that are only nice to know; where that is not granted, each denial is logged in CloudTrail."""


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """What a probe found."""

    get_public_key: Check
    sign: Check
    certificate: Check
    """Whether the certificate's key is the KMS key's; its other rules are not looked at here."""
    least_privilege: Check | None
    """None unless it was asked for."""
    public_key: PublicKeyAnswer | None
    algorithm: SigningAlgorithm | None
    """The one that signatures will be made with; None while it is not known, or the key has none for C2PA."""
    external_id: str
    description: KeyDescription | None
    """None if it was not asked for, or not told."""
    description_denied: bool


def not_asked(key: KeyHandle, why: str) -> ProbeReport:
    """Report on a key of which KMS was asked nothing."""
    check = Check(CheckOutcome.UNKNOWN, message=f"KMS is not asked: {why}")
    return ProbeReport(
        get_public_key=check,
        sign=check,
        certificate=check,
        least_privilege=None,
        public_key=None,
        algorithm=None,
        external_id=key.external_id,
        description=None,
        description_denied=False,
    )


async def probe_key(kms: Kms, request: ProbeRequest) -> ProbeReport:
    """Ask KMS whether `request.key` can be used; raises no refusal."""
    probe = _Probe(kms, request)
    # At once: this is no check, and must not keep the checks waiting.
    (get_public_key, public_key), (description, description_denied) = await asyncio.gather(
        probe.look(), probe.describe()
    )
    algorithm = _algorithm_of(request, public_key)
    resolved = request.key if public_key is None else replace(request.key, resolved_arn=public_key.key_arn)
    return ProbeReport(
        get_public_key=get_public_key,
        sign=await probe.check_sign(resolved, algorithm, public_key),
        certificate=_check_certificate(request.registered_spki, public_key),
        least_privilege=await probe.check_least_privilege(resolved) if request.least_privilege else None,
        public_key=public_key,
        algorithm=algorithm,
        external_id=request.key.external_id,
        description=description,
        description_denied=description_denied,
    )


@dataclass(frozen=True)
class _Probe:
    kms: Kms
    request: ProbeRequest

    async def look(self) -> tuple[Check, PublicKeyAnswer | None]:
        try:
            answer = await self.kms.get_public_key(self.request.key, timeout=self.request.timeout)
        except KmsError as error:
            return await self._judge(error, lambda grantee: [public_key_statement(grantee)]), None
        return Check(CheckOutcome.PASSED, request_id=answer.request_id), answer

    async def describe(self) -> tuple[KeyDescription | None, bool]:
        """Return what DescribeKey says, and whether it is denied."""
        if not self.request.describe:
            return None, False
        try:
            return await self.kms.describe_key(self.request.key, timeout=self.request.timeout), False
        except KmsError as error:
            return None, error.reason is Reason.KeyAccessDenied

    async def check_sign(
        self, key: KeyHandle, algorithm: SigningAlgorithm | None, public_key: PublicKeyAnswer | None
    ) -> Check:
        if public_key is not None and algorithm not in public_key.algorithms:
            return _check_usage(key, algorithm, public_key)
        if algorithm is None or _is_unresolved(key):
            return _not_asked(key)
        try:
            answer = await self.kms.try_sign(key, algorithm, timeout=self.request.timeout)
        except KmsError as error:
            return await self._judge(error, lambda grantee: [sign_statement(grantee, algorithm)])
        return Check(CheckOutcome.PASSED, request_id=answer.request_id)

    async def check_least_privilege(self, key: KeyHandle) -> Check:
        if _is_unresolved(key):
            return _not_asked(key)
        kms, timeout = self.kms, self.request.timeout
        asked = {"kms:CreateGrant": kms.try_create_grant, "kms:GetKeyPolicy": kms.try_get_key_policy}
        allowed: list[str] = []
        unknown: KmsError | None = None
        for action, ask in asked.items():
            try:
                await ask(key, timeout=timeout)
            except KmsError as error:
                # A role that cannot be assumed proves nothing about what it may do.
                if error.reason is not Reason.KeyAccessDenied or error.metadata.get("action") != action:
                    unknown = error
            else:
                allowed.append(action)
        if allowed:
            return _too_broad(key, allowed)
        if unknown is not None:
            return Check(CheckOutcome.UNKNOWN, unknown.reason, self._told(unknown), request_id=unknown.request_id or "")
        return Check(CheckOutcome.PASSED)

    def _told(self, error: KmsError) -> str:
        # The deadline is a probe's own: whoever reads what it found cannot set another.
        if error.reason is not Reason.KmsDeadlineExceeded:
            return error.message
        asked = error.metadata.get("action", "KMS")
        return f"key {self.request.key.name}: {asked} on {self.request.key.arn}: KMS did not answer in time"

    async def _judge(self, error: KmsError, statements: Callable[[Grantee], list[Statement]]) -> Check:
        outcome = CheckOutcome.UNKNOWN if error.reason in _UNKNOWN else CheckOutcome.FAILED
        check = Check(outcome, error.reason, self._told(error), request_id=error.request_id or "")
        if error.reason is not Reason.KeyAccessDenied:
            return check
        key = self.request.key
        try:
            grantee = await self.kms.grantee(key, timeout=self.request.timeout)
        except KmsError:
            # The denial is told all the same; only whom to allow is not known.
            return check
        if error.metadata.get("action") == ASSUME_ROLE:
            return replace(check, missing_statement=as_json(trust_statements(grantee, key.external_id)))
        message = error.message
        if f":{key.arn.account}:" not in grantee.principal:
            # KMS developer guide, "Allowing users in other accounts to use a KMS key".
            message += f" As the key is another account's, the IAM policy of {grantee.principal} must allow it too."
        return replace(check, message=message, missing_statement=as_json(statements(grantee)))


def _algorithm_of(request: ProbeRequest, public_key: PublicKeyAnswer | None) -> SigningAlgorithm | None:
    if request.algorithm is not None:
        return request.algorithm
    if public_key is not None:
        return next(iter(public_key.algorithms), None)
    if request.registered_spki is None:
        return None
    return next(iter(algorithms_for(load_der_public_key(request.registered_spki))), None)


def _is_unresolved(key: KeyHandle) -> bool:
    return key.resolved_arn is None and key.arn.is_alias


def _not_asked(key: KeyHandle) -> Check:
    return Check(
        CheckOutcome.UNKNOWN,
        message=f"key {key.name}: not asked, since {key.arn} did not tell its public key; see GetPublicKey",
    )


def _check_usage(key: KeyHandle, algorithm: SigningAlgorithm | None, public_key: PublicKeyAnswer) -> Check:
    wanted = "an algorithm that C2PA allows" if algorithm is None else str(algorithm)
    able = ", ".join(public_key.algorithms) or "none that C2PA allows"
    return Check(
        CheckOutcome.FAILED,
        Reason.KeyUsageInvalid,
        f"key {key.name}: {public_key.key_arn} of usage {public_key.key_usage} and spec {public_key.key_spec} cannot "
        f"sign with {wanted}; it can sign with: {able}. {Reason.KeyUsageInvalid.facts.remedy}",
    )


def _too_broad(key: KeyHandle, allowed: list[str]) -> Check:
    return Check(
        CheckOutcome.FAILED,
        Reason.PermissionsTooBroad,
        f"key {key.name}: the signer is also allowed {' and '.join(allowed)} on {key.signing_arn}. "
        f"{Reason.PermissionsTooBroad.facts.remedy}",
    )


def _check_certificate(registered_spki: bytes | None, public_key: PublicKeyAnswer | None) -> Check:
    if registered_spki is None:
        facts = Reason.CertificateMissing.facts
        return Check(CheckOutcome.FAILED, Reason.CertificateMissing, f"{facts.cause} {facts.remedy}")
    if public_key is None:
        return Check(CheckOutcome.UNKNOWN, message="not compared, since the KMS key's public key could not be read")
    if public_key.spki != registered_spki:
        facts = Reason.CertificateMismatch.facts
        return Check(
            CheckOutcome.FAILED, Reason.CertificateMismatch, f"{public_key.key_arn}: {facts.cause} {facts.remedy}"
        )
    return Check(CheckOutcome.PASSED)
