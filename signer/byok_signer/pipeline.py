"""The order of work for a signature, one step after the other, each refusing by name.

    authenticate -> find recipe -> authorize -> recipe, key, certificate -> guard -> KMS -> verify -> audit -> answer

Nothing here knows gRPC. What is refused after authentication is recorded. From KMS to audit the work is shielded from
the caller's going away: a signature that KMS made is always recorded, and none is released before that is durable.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, AuditId, Kind, Outcome
from byok_api.byokkey import BareDigests
from byok_api.errors import Reason, Refusal
from byok_api.signatures import SignatureError
from byok_signer.audit import AuditSink, RefusalLimiter
from byok_signer.authentication import Authenticator, Caller
from byok_signer.authorization import authorize
from byok_signer.bindings import KeyBindings
from byok_signer.entries import Catalogue, SigningEntry
from byok_signer.guard import CheckedClaim, check_claim, check_digest
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import Attempt as KmsAttempt
from byok_signer.kms.port import KeyHandle, Kms, SignAnswer
from byok_signer.metrics import Metrics

_PATIENCE = 10.0
"""Seconds that KMS gets when the caller set no deadline, or a longer one."""


@dataclass(frozen=True)
class Call:
    """One gRPC call, or one message of a stream."""

    request_id: str
    token: str | None
    deadline: float
    """By the monotonic clock."""

    @property
    def remaining(self) -> float:
        """Seconds left for KMS."""
        return max(0.0, min(self.deadline - time.monotonic(), _PATIENCE))


@dataclass(frozen=True)
class Admission:
    """A caller who may use a recipe."""

    call: Call
    caller: Caller
    entry: SigningEntry


@dataclass(frozen=True)
class Signed:
    """A signature that was verified and recorded."""

    entry: SigningEntry
    answer: SignAnswer
    claim: CheckedClaim | None
    """None for a bare digest."""
    audit_id: AuditId


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a refused request was about, as far as that was known."""

    recipe: str | None = None
    recipe_hash: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What the pipeline works with."""

    catalogue: Callable[[], Catalogue]
    authenticator: Authenticator
    kms: Kms
    audit: AuditSink
    metrics: Metrics
    now: Callable[[], datetime]


@dataclass(frozen=True)
class _Work:
    """A signature that nothing stands against any more: the part that must not be cut off."""

    admission: Admission
    handle: KeyHandle
    claim: CheckedClaim | None
    message: bytes | None
    digest: bytes | None

    @property
    def algorithm(self) -> SigningAlgorithm:
        return self.admission.entry.algorithm


class Pipeline:
    """Takes calls to signatures; one for the process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._bindings = KeyBindings(ports.kms, clock=time.monotonic)
        self._limiter = RefusalLimiter()
        self._unfinished: set[asyncio.Task[Signed]] = set()

    async def authenticate(self, call: Call) -> Caller:
        """Find out who calls."""
        try:
            return await self._ports.authenticator.authenticate(call.token)
        except Refusal:
            self._ports.metrics.unauthenticated()
            raise

    async def admit(self, call: Call, recipe: str) -> Admission:
        """Find out who calls and whether that caller may use `recipe`."""
        caller = await self.authenticate(call)
        async with self.recording_refusals(call, caller, Subject(recipe=recipe)):
            return Admission(call, caller, authorize(self._ports.catalogue(), caller, recipe))

    async def check_usable(self, admission: Admission) -> SigningEntry:
        """Return the recipe if it could sign right now, as far as that can be told without KMS."""
        async with self._recording_refusals_of(admission):
            admission.entry.check_usable_at(self._ports.now())
            return admission.entry

    async def sign_claim(self, admission: Admission, expected_hash: str, claim: bytes) -> Signed:
        """Sign the claim in a Sig_structure."""
        async with self._recording_refusals_of(admission):
            entry = self._usable(admission, expected_hash)
            checked = check_claim(claim, entry.policy)
            handle = await self._bindings.resolve(entry.pin, timeout=admission.call.remaining)
        self._ports.audit.ensure_available()
        return await self._sign_to_the_end(_Work(admission, handle, checked, claim, None))

    async def sign_digest(self, admission: Admission, expected_hash: str, digest: bytes, evidence: bytes) -> Signed:
        """Sign a digest, with the Sig_structure as evidence unless the key does without."""
        async with self._recording_refusals_of(admission):
            entry = self._usable(admission, expected_hash)
            checked = _check_evidence(entry, digest, evidence)
            handle = await self._bindings.resolve(entry.pin, timeout=admission.call.remaining)
        self._ports.audit.ensure_available()
        return await self._sign_to_the_end(_Work(admission, handle, checked, None, digest))

    async def drain(self) -> None:
        """Wait for what is between KMS and audit, then record the refusals that were only counted so far."""
        while self._unfinished:
            await asyncio.wait(self._unfinished)
        for event in self._limiter.drain():
            await self._ports.audit.append(event)

    @asynccontextmanager
    async def recording_refusals(self, call: Call, caller: Caller, subject: Subject) -> AsyncIterator[None]:
        """Record what is refused inside, with what is known of it; of a caller's flood only the count is recorded."""
        try:
            yield
        except Refusal as refusal:
            event = AuditEvent(
                kind=Kind.REFUSAL,
                request_id=call.request_id,
                caller=caller.username,
                reason=refusal.reason.name,
                recipe=subject.recipe,
                recipe_hash=subject.recipe_hash,
                key=subject.key,
            )
            for recorded in self._limiter.admit(event, now=time.monotonic()):
                await self._ports.audit.append(recorded)
            raise

    def _recording_refusals_of(self, admission: Admission) -> AbstractAsyncContextManager[None]:
        entry = admission.entry
        return self.recording_refusals(
            admission.call,
            admission.caller,
            Subject(
                recipe=f"{entry.recipe.name}@{entry.recipe.version}",
                recipe_hash=entry.recipe.hash,
                key=str(entry.key.name),
            ),
        )

    def _usable(self, admission: Admission, expected_hash: str) -> SigningEntry:
        entry = admission.entry
        if expected_hash != entry.recipe.hash:
            raise Refusal(
                Reason.RecipeChanged,
                f"recipe {entry.recipe.name}: the manifest was composed under another state of the recipe than the "
                "present one; fetch the recipe again and rebuild the manifest",
                metadata={"recipe": str(entry.recipe.name), "recipe_hash": entry.recipe.hash},
            )
        entry.check_usable_at(self._ports.now())
        return entry

    async def _sign_to_the_end(self, work: _Work) -> Signed:
        task = asyncio.create_task(self._sign_and_record(work))
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Signed]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here too, in case the caller has gone

    async def _sign_and_record(self, work: _Work) -> Signed:
        event = _event_of(work)
        try:
            answer = await self._ask_kms(work)
        except Refusal as refusal:
            await self._ports.audit.append(_failed(event, refusal))
            raise
        except Exception:
            # A bug: nobody knows what KMS did, and the record says so.
            unknown = (Attempt(None, Outcome.UNKNOWN),)
            await self._ports.audit.append(
                replace(event, outcome=Outcome.UNKNOWN, reason=Reason.Internal.name, attempts=unknown)
            )
            raise
        event = replace(event, key_arn=str(answer.key_arn), attempts=_attempts(answer.attempts))
        try:
            _verify(work, answer.signature)
        except SignatureError:
            await self._ports.audit.append(replace(event, outcome=Outcome.FAILED, reason=Reason.KmsAnswerInvalid.name))
            raise Refusal(
                Reason.KmsAnswerInvalid,
                f"key {work.handle.name}: the signature that KMS returned does not verify with the public key of the "
                "registered certificate; nothing was released",
                metadata={"key": str(work.handle.name), "key_arn": str(answer.key_arn)},
            ) from None
        audit_id = await self._ports.audit.append(event)
        entry = work.admission.entry
        self._ports.metrics.signed(entry.key.name, entry.recipe.name)
        return Signed(entry, answer, work.claim, audit_id)

    async def _ask_kms(self, work: _Work) -> SignAnswer:
        kms, timeout = self._ports.kms, work.admission.call.remaining
        started, outcome = time.monotonic(), Reason.Internal.name
        try:
            if work.message is not None:
                answer = await kms.sign(work.handle, work.algorithm, message=work.message, timeout=timeout)
            else:
                answer = await kms.sign_digest(work.handle, work.algorithm, digest=work.digest or b"", timeout=timeout)
            outcome = "ok"
        except Refusal as refusal:
            outcome = refusal.reason.name
            raise
        finally:
            self._ports.metrics.kms_called("Sign", outcome, time.monotonic() - started)
        return answer


def _check_evidence(entry: SigningEntry, digest: bytes, evidence: bytes) -> CheckedClaim | None:
    size = entry.algorithm.facts.digest_size
    if size is None:
        raise Refusal(
            Reason.DigestMismatch,
            f"key {entry.key.name}: {entry.algorithm} signs the message itself, never a digest; use SignClaim",
        )
    if len(digest) != size:
        raise Refusal(
            Reason.DigestMismatch,
            f"key {entry.key.name}: the digest has {len(digest)} bytes, {entry.algorithm} takes {size}",
        )
    if evidence:
        return check_digest(digest, evidence, entry.policy)
    if entry.key.manifest.spec.bare_digests is not BareDigests.ALLOW:
        raise Refusal(
            Reason.EvidenceMissing,
            f"key {entry.key.name} does not allow bare digests; send the Sig_structure as evidence, or use SignClaim",
        )
    return None


def _event_of(work: _Work) -> AuditEvent:
    admission, claim = work.admission, work.claim
    recipe = admission.entry.recipe
    return AuditEvent(
        kind=Kind.OUTCOME,
        request_id=admission.call.request_id,
        caller=admission.caller.username,
        recipe=f"{recipe.name}@{recipe.version}",
        recipe_hash=recipe.hash,
        key=str(admission.entry.key.name),
        key_arn=str(work.handle.signing_arn),
        algorithm=work.algorithm,
        manifest=claim.manifest_id if claim else None,
        claim_sha256=claim.claim_sha256 if claim else None,
        outcome=Outcome.SIGNED,
        guarded=claim is not None,
    )


def _failed(event: AuditEvent, refusal: Refusal) -> AuditEvent:
    attempts = _attempts(refusal.attempts) if isinstance(refusal, KmsError) else ()
    unknown = any(attempt.outcome is Outcome.UNKNOWN for attempt in attempts)
    outcome = Outcome.UNKNOWN if unknown else Outcome.FAILED
    return replace(event, outcome=outcome, reason=refusal.reason.name, attempts=attempts)


def _attempts(attempts: tuple[KmsAttempt, ...]) -> tuple[Attempt, ...]:
    return tuple(Attempt(attempt.request_id, Outcome(attempt.outcome)) for attempt in attempts)


def _verify(work: _Work, signature: bytes) -> None:
    public_key = work.admission.entry.chain.public_key
    if work.message is not None:
        signatures.verify(public_key, work.algorithm, signature, message=work.message)
    else:
        signatures.verify_digest(public_key, work.algorithm, signature, digest=work.digest or b"")
