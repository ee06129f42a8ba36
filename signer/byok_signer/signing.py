"""From work that nothing stands against to a signature that is verified and recorded.

    breaker -> quota -> intent, durable -> does it still stand? -> KMS -> verify -> outcome, durable

Up to the intent a signature is called off when all who wait for it have gone. From the intent on it goes to its end,
whoever goes away: every intent gets its outcome, and no signature is released before that is durable. Between the last
look at the catalogue and the call of KMS nothing is waited for.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial

from byok_api import signatures
from byok_api.audit import AuditEvent, AuditId, Kind, Outcome
from byok_api.errors import Reason, Refusal
from byok_api.signatures import SignatureError
from byok_signer.breaker import Breaker
from byok_signer.entries import SigningEntry
from byok_signer.flights import Flights, Made
from byok_signer.kms.errors import KmsError, failure_of
from byok_signer.kms.port import SignAnswer
from byok_signer.ports import Ports
from byok_signer.quota import Demand, QuotaKey, family_of
from byok_signer.recording import RefusalTrail, SubjectFields, subject_of_work
from byok_signer.work import Signed, Work

_ACCOUNT_PATIENCE = 1.0
"""Seconds that the first signatures wait for STS to say whose quota they are charged to."""
_LONGEST = 12.0
"""Seconds: a little more than any call of KMS and its record take."""

Present = Callable[[Work], SigningEntry]
"""Looks at the catalogue again; Refusal if the work's caller, recipe and key no longer go together."""


class Signing:
    """Makes signatures; one for the process."""

    def __init__(self, ports: Ports, refusals: RefusalTrail, present: Present) -> None:
        self._ports = ports
        self._refusals = refusals
        self._present = present
        self._flights = Flights(clock=ports.clock)
        self._breaker = Breaker(clock=ports.clock)

    async def sign(self, work: Work) -> Signed:
        """Return a signature made now, or the one of an equal request that is under way or was just answered."""
        call = work.admission.call
        while True:
            made = self._flights.made(work.identity)
            if made is not None:
                return await self._repeat(work, made)
            flight = self._flights.flying(work.identity)
            if flight is None:
                flight = self._flights.start(work.identity, partial(self._make, work), call.deadline)
                answer, audit_id = await flight.join()
                return Signed(work.entry, answer, work.claim, audit_id)
            try:
                made = await flight.join()
                self._check_standing(work)
            except Refusal as refusal:
                # The time that ran out may be the other request's, and this one have some left.
                if time.monotonic() < flight.due or not call.remaining:
                    await self._refusals.record(refusal, subject_of_work(work))
                    raise
            else:
                return await self._repeat(work, made)

    async def drain(self) -> None:
        """Wait for what is under way, as long as a call of KMS can take."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._flights.landed(), _LONGEST)

    async def _repeat(self, work: Work, made: Made) -> Signed:
        # Nothing was done yet that must be recorded, so it need not pile up before a disk that hangs.
        self._ports.audit.ensure_available()
        answer, original = made
        event = AuditEvent(
            kind=Kind.OUTCOME, outcome=Outcome.SIGNED, repeats=original.sequence, **subject_of_work(work)
        )
        audit_id = await self._ports.audit.append(event)
        self._ports.metrics.repeated()
        return Signed(work.entry, answer, work.claim, audit_id)

    async def _make(self, work: Work, commit: Callable[[], None]) -> Made:
        subject = subject_of_work(work)
        try:
            demand = await self._demand(work)
            self._breaker.check(work.handle)
            await self._ports.quotas.acquire(demand, timeout=work.admission.call.remaining)
        except Refusal as refusal:
            await self._refusals.record(refusal, subject)
            raise
        commit()
        try:
            intent = await self._ports.audit.append(AuditEvent(kind=Kind.INTENT, **subject))
        except Refusal:
            self._ports.quotas.give_back(demand)
            raise
        return await self._settle(work, subject, intent, demand)

    async def _settle(self, work: Work, subject: SubjectFields, intent: AuditId, demand: Demand) -> Made:
        """Do what the intent announces, and record what came of it."""
        try:
            self._check_standing(work)
            self._breaker.enter(work.handle)
            answer = await self._ask_kms(work, demand.quota)
            _verify(work, answer)
        except Exception as error:
            failure = failure_of(error)
            if not failure["attempts"]:
                self._ports.quotas.give_back(demand)
            event = AuditEvent(kind=Kind.OUTCOME, intent=intent.sequence, **failure, **subject)
            await self._ports.audit.append(event)
            raise
        subject["key_arn"] = answer.key_arn.text
        event = AuditEvent(
            kind=Kind.OUTCOME, intent=intent.sequence, outcome=Outcome.SIGNED, attempts=answer.attempts, **subject
        )
        audit_id = await self._ports.audit.append(event)
        self._ports.metrics.signed(work.entry.key.name, work.entry.recipe.name)
        return answer, audit_id

    async def _demand(self, work: Work) -> Demand:
        handle, entry = work.handle, work.entry
        timeout = min(_ACCOUNT_PATIENCE, work.admission.call.remaining)
        account = await self._ports.kms.calling_account(handle, timeout=timeout)
        return Demand(
            quota=QuotaKey(account, handle.signing_arn.region, family_of(entry.algorithm)),
            key=entry.key.name,
            limit=entry.key.manifest.spec.rate_limit,
            namespace=work.admission.caller.namespace,
        )

    def _check_standing(self, work: Work) -> None:
        """Refuse what the owners have withdrawn while the work waited."""
        present = self._present(work)
        if present.policy != work.entry.policy or present.pin != work.entry.pin:
            raise Refusal(
                Reason.CertificateChanged,
                f"key {present.key.name} or its certificate was changed a moment ago; fetch the recipe again, and "
                "rebuild the manifest",
                metadata={"key": str(present.key.name)},
            )

    async def _ask_kms(self, work: Work, quota: QuotaKey) -> SignAnswer:
        kms, algorithm, payload = self._ports.kms, work.entry.algorithm, work.payload
        timeout = work.admission.call.remaining
        started, outcome = time.monotonic(), Reason.Internal.name
        try:
            if payload.message_type == "RAW":
                answer = await kms.sign(work.handle, algorithm, message=payload.data, timeout=timeout)
            else:
                answer = await kms.sign_digest(work.handle, algorithm, digest=payload.data, timeout=timeout)
            outcome = "ok"
        except KmsError as refusal:
            outcome = refusal.reason.name
            self._breaker.failed(work.handle, refusal)
            if refusal.reason is Reason.KmsThrottled:
                self._ports.quotas.throttled(quota)
            raise
        finally:
            self._ports.metrics.kms_called("Sign", outcome, time.monotonic() - started)
        self._breaker.succeeded(work.handle)
        return answer


def _verify(work: Work, answer: SignAnswer) -> None:
    """Raise KmsAnswerInvalid, with what KMS was asked, unless the pinned key signed what it was asked to sign."""
    try:
        _check_answer(work, answer)
    except SignatureError as error:
        key = str(work.entry.key.name)
        raise KmsError(
            Reason.KmsAnswerInvalid,
            f"key {key}: what KMS returned is refused: {error}; nothing was released",
            metadata={"key": key, "key_arn": str(answer.key_arn)},
            attempts=answer.attempts,
        ) from None


def _check_answer(work: Work, answer: SignAnswer) -> None:
    public_key, algorithm, payload = work.entry.chain.public_key, work.entry.algorithm, work.payload
    if answer.key_arn not in (work.handle.signing_arn, *work.handle.replicas):
        raise SignatureError("it is from another key than the one that was asked")
    if payload.message_type == "RAW":
        signatures.verify(public_key, algorithm, answer.signature, message=payload.data)
    else:
        signatures.verify_digest(public_key, algorithm, answer.signature, digest=payload.data)
    if answer.signature_der and signatures.p1363_from_der(answer.signature_der, algorithm) != answer.signature:
        raise SignatureError("its DER form is another signature")
