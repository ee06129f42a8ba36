"""One signature asked of KMS, whatever it is for: a claim, or a certificate request.

    announce (intent, durable) -> settle: ask (breaker, KMS, verification), then outcome, durable
                                       |
                                       +-- an answer got lost: intent that settles the one before, durable; ask again

Every intent is settled, and no signature is released before that is durable. Nor is KMS asked again before a request
that may have left a signature is on record: so whenever the signer is killed, an intent that nothing settles stands for
one signature at most.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, AuditId, Kind, Outcome
from byok_api.errors import Reason, Refusal
from byok_api.signatures import SignatureError
from byok_signer.breaker import Breaker
from byok_signer.entries import KeyEntry, Pin
from byok_signer.health import HealthBoard
from byok_signer.kms.errors import KmsError, failure_of, told_of_attempts
from byok_signer.kms.messages import Payload
from byok_signer.kms.port import KeyHandle, SignAnswer
from byok_signer.ports import Ports
from byok_signer.quota import Demand, QuotaKey, family_of
from byok_signer.recording import SubjectFields

_ACCOUNT_PATIENCE = 1.0
"""Seconds that the first signatures wait for STS to say whose quota they are charged to."""
_FAIR = 2.0
"""Seconds: that KMS did not answer within less says nothing about it."""


@dataclass(slots=True)  # not frozen: one is made for every signature, and freezing doubles the cost
class Question:
    """What KMS is asked to sign, with which key, and what must verify it."""

    pin: Pin
    handle: KeyHandle
    """Resolved."""
    algorithm: SigningAlgorithm
    public_key: PublicKeyTypes
    payload: Payload


@dataclass(slots=True)  # not frozen: see above
class Announced:
    """A signature whose intent is in the trail."""

    kind: Kind
    """Of the record that settles it."""
    subject: SubjectFields
    demand: Demand
    intent: AuditId
    """The last one: that which the next record settles."""
    lost: bool = False
    """Whether KMS may have signed before that, and nobody has the signature."""


class Asking:
    """Asks KMS for signatures, for keys that it did not refuse a moment ago."""

    def __init__(self, ports: Ports, health: HealthBoard) -> None:
        self._ports = ports
        self._health = health
        self._breaker = Breaker(clock=ports.clock)

    def check(self, handle: KeyHandle) -> None:
        """Raise what KMS said of the key, unless a call is let through now."""
        self._breaker.check(handle)

    async def demand(self, key: KeyEntry, question: Question, namespace: str, *, remaining: float) -> Demand:
        """Say of which quota a caller in `namespace`, who has some seconds left, needs a token."""
        account = await self._ports.kms.calling_account(question.handle, timeout=min(_ACCOUNT_PATIENCE, remaining))
        return Demand(
            quota=QuotaKey(account, question.handle.signing_arn.region, family_of(question.algorithm)),
            key=key.name,
            limit=key.manifest.spec.rate_limit,
            namespace=namespace,
        )

    async def announce(self, kind: Kind, subject: SubjectFields, demand: Demand) -> Announced:
        """Record the intent; its token is given back if that fails."""
        try:
            intent = await self._ports.audit.append(AuditEvent(kind=Kind.INTENT, **subject))
        except Refusal:
            self._ports.quotas.give_back(demand)
            raise
        return Announced(kind, subject, demand, intent)

    async def settle(
        self, announced: Announced, make: Callable[[], Awaitable[SignAnswer]]
    ) -> tuple[SignAnswer, AuditId]:
        """Do what the intent announces, and record what came of it; from here on nobody may call it off."""
        kind, subject = announced.kind, announced.subject
        try:
            answer = await make()
        except Exception as error:
            failure = failure_of(error, lost=announced.lost)
            if not (announced.lost or failure["attempts"]):
                self._ports.quotas.give_back(announced.demand)
            failed = AuditEvent(kind=kind, intent=announced.intent.sequence, **failure, **subject)
            await self._ports.audit.append(failed)
            raise
        subject["key_arn"] = answer.key_arn.text
        signed = AuditEvent(
            kind=kind,
            intent=announced.intent.sequence,
            outcome=Outcome.SIGNED,
            attempts=answer.attempts,
            **subject,
        )
        return answer, await self._ports.audit.append(signed)

    async def ask(self, question: Question, announced: Announced, *, remaining: float) -> SignAnswer:
        """Have KMS sign what was announced, and check that it did; Refusal, KmsAnswerInvalid included."""
        self._breaker.enter(question.handle)
        answer = await self._call(question, announced, remaining)
        try:
            _check_answer(question, answer)
        except SignatureError as error:
            refusal = _invalid(question, answer, error)
            self._health.failed(question.pin, refusal)
            raise refusal from None
        self._health.verified(question.pin)
        return answer

    async def _announce_again(self, announced: Announced, attempts: tuple[Attempt, ...]) -> None:
        """Record what was asked in vain, and that KMS is asked again; Refusal if that cannot be recorded."""
        again = AuditEvent(kind=Kind.INTENT, intent=announced.intent.sequence, attempts=attempts, **announced.subject)
        announced.intent = await self._ports.audit.append(again)
        announced.lost = True

    async def _call(self, question: Question, announced: Announced, timeout: float) -> SignAnswer:  # noqa: ASYNC109 - KMS's
        kms, handle, algorithm, payload = self._ports.kms, question.handle, question.algorithm, question.payload
        on_lost = partial(self._announce_again, announced)
        started, outcome = time.monotonic(), Reason.Internal.name
        try:
            if payload.message_type == "RAW":
                answer = await kms.sign(handle, algorithm, message=payload.data, timeout=timeout, on_lost=on_lost)
            else:
                answer = await kms.sign_digest(handle, algorithm, digest=payload.data, timeout=timeout, on_lost=on_lost)
            outcome = "ok"
        except KmsError as refusal:
            outcome = refusal.reason.name
            self._breaker.failed(handle, refusal)
            if refusal.reason is not Reason.KmsDeadlineExceeded or timeout >= _FAIR:
                self._health.failed(question.pin, refusal)
            if refusal.reason is Reason.KmsThrottled:
                self._ports.quotas.throttled(announced.demand.quota)
            raise
        finally:
            self._ports.metrics.kms_called("Sign", outcome, time.monotonic() - started)
        self._breaker.succeeded(handle)
        return answer


def check_release(answer: SignAnswer, check_standing: Callable[[], None]) -> SignAnswer:
    """Give an answer on unless `check_standing` refuses what was withdrawn meanwhile; that refusal has the attempts."""
    try:
        check_standing()
    except Refusal as refusal:
        raise told_of_attempts(refusal, answer.attempts) from None
    return answer


def _check_answer(question: Question, answer: SignAnswer) -> None:
    public_key, algorithm, payload = question.public_key, question.algorithm, question.payload
    if answer.key_arn not in (question.handle.signing_arn, *question.handle.replicas):
        raise SignatureError("it is from another key than the one that was asked")
    if payload.message_type == "RAW":
        signatures.verify(public_key, algorithm, answer.signature, message=payload.data)
    else:
        signatures.verify_digest(public_key, algorithm, answer.signature, digest=payload.data)
    if answer.signature_der and signatures.p1363_from_der(answer.signature_der, algorithm) != answer.signature:
        raise SignatureError("its DER form is another signature")


def _invalid(question: Question, answer: SignAnswer, error: SignatureError) -> KmsError:
    key = str(question.handle.name)
    return KmsError(
        Reason.KmsAnswerInvalid,
        f"key {key}: what KMS returned is refused: {error}; nothing was released",
        metadata={"key": key, "key_arn": str(answer.key_arn)},
        attempts=answer.attempts,
    )
