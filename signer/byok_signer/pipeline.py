"""The order of work for a signature, one step after the other, each refusing by name.

    authenticate -> find recipe -> authorize -> recipe, key, certificate -> guard -> KMS -> verify -> audit -> answer

Nothing here knows gRPC. What is refused after authentication is recorded. From KMS to audit the work is shielded from
the caller's going away: a signature that KMS made is always recorded, and none is released before that is durable.
Between the last look at the catalogue and the call of KMS nothing is waited for.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from byok_api import signatures
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
from byok_signer.kms.port import KeyHandle, Kms, SignAnswer
from byok_signer.metrics import Metrics

_PATIENCE = 10.0
"""Seconds that KMS gets when the caller set no deadline, or a longer one."""


@dataclass(frozen=True)
class Call:
    """One gRPC call, or one message of a stream."""

    request_id: str
    token: str | None = field(repr=False)
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
    recipe: str
    """As the caller names it."""
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
    entry: SigningEntry
    """As it stands now; the admission's may be older."""
    handle: KeyHandle
    claim: CheckedClaim | None
    message: bytes | None = None
    digest: bytes | None = None
    """One of the two is signed."""


class Pipeline:
    """Takes calls to signatures; one for the process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._bindings = KeyBindings(ports.kms, clock=time.monotonic)
        self._limiter = RefusalLimiter()
        self._unfinished: set[asyncio.Task[Signed]] = set()

    def seconds_left(self, caller: Caller) -> float:
        """Tell for how long a caller's token is good."""
        return (caller.expires_at - self._ports.now()).total_seconds()

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
            return Admission(call, caller, recipe, authorize(self._ports.catalogue(), caller, recipe))

    async def check_usable(self, admission: Admission) -> SigningEntry:
        """Return the recipe if it could sign right now, as far as that can be told without KMS."""
        async with self.recording_refusals_of(admission):
            admission.entry.key.check_valid_at(self._ports.now())
            return admission.entry

    async def sign_claim(self, admission: Admission, expected_hash: str, claim: bytes) -> Signed:
        """Sign the claim in a Sig_structure."""
        async with self.recording_refusals_of(admission):
            entry, handle = await self._usable(admission, expected_hash)
            checked = check_claim(claim, entry.policy)
        return await self._sign_to_the_end(_Work(admission, entry, handle, checked, message=claim))

    async def sign_digest(self, admission: Admission, expected_hash: str, digest: bytes, evidence: bytes) -> Signed:
        """Sign a digest, with the Sig_structure as evidence unless the key does without."""
        async with self.recording_refusals_of(admission):
            entry, handle = await self._usable(admission, expected_hash)
            checked = _check_evidence(entry, digest, evidence)
        return await self._sign_to_the_end(_Work(admission, entry, handle, checked, digest=digest))

    async def drain(self) -> None:
        """Wait for what is between KMS and audit, then record the refusals that were only counted so far."""
        while self._unfinished:
            await asyncio.wait(self._unfinished)
        await asyncio.gather(*map(self._ports.audit.append, self._limiter.drain()))

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
            await self._record_refusal(event)
            raise

    def recording_refusals_of(self, admission: Admission) -> AbstractAsyncContextManager[None]:
        """Record what is refused to an admitted caller."""
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

    async def _record_refusal(self, event: AuditEvent) -> None:
        admitted = self._limiter.admit(event, now=time.monotonic())
        # Shielded, since the limiter has forgotten what it gave out.
        await asyncio.shield(asyncio.gather(*map(self._ports.audit.append, admitted)))

    async def _usable(self, admission: Admission, expected_hash: str) -> tuple[SigningEntry, KeyHandle]:
        """Return recipe and key as they stand now, even if the admission was made, or KMS was asked, a while ago."""
        entry = self._standing(admission, expected_hash)
        while True:
            handle = await self._bindings.resolve(entry.pin, timeout=admission.call.remaining)
            present = self._standing(admission, expected_hash)
            if present.pin == entry.pin:
                return present, handle
            entry = present

    def _standing(self, admission: Admission, expected_hash: str) -> SigningEntry:
        entry = authorize(self._ports.catalogue(), admission.caller, admission.recipe)
        if expected_hash != entry.recipe.hash:
            raise Refusal(
                Reason.RecipeChanged,
                f"recipe {entry.recipe.name}: the manifest was composed under another state of the recipe than the "
                "present one; fetch the recipe again and rebuild the manifest",
                metadata={"recipe": str(entry.recipe.name), "recipe_hash": entry.recipe.hash},
            )
        entry.key.check_valid_at(self._ports.now())
        return entry

    async def _sign_to_the_end(self, work: _Work) -> Signed:
        self._ports.audit.ensure_available()
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
            _verify(work, answer)
            event = replace(event, key_arn=str(answer.key_arn), attempts=answer.attempts)
        except Refusal as refusal:
            if isinstance(refusal, KmsError) and refusal.attempts:
                await self._ports.audit.append(_failed(event, refusal))
            else:
                await self._record_refusal(_refused(event, refusal))
            raise
        except Exception:
            # A bug: nobody knows what KMS did, and the record says so.
            unknown = (Attempt(None, Outcome.UNKNOWN),)
            await self._ports.audit.append(
                replace(event, outcome=Outcome.UNKNOWN, reason=Reason.Internal.name, attempts=unknown)
            )
            raise
        audit_id = await self._ports.audit.append(event)
        self._ports.metrics.signed(work.entry.key.name, work.entry.recipe.name)
        return Signed(work.entry, answer, work.claim, audit_id)

    async def _ask_kms(self, work: _Work) -> SignAnswer:
        kms, timeout = self._ports.kms, work.admission.call.remaining
        started, outcome = time.monotonic(), Reason.Internal.name
        try:
            if work.message is not None:
                answer = await kms.sign(work.handle, work.entry.algorithm, message=work.message, timeout=timeout)
            else:
                answer = await kms.sign_digest(
                    work.handle, work.entry.algorithm, digest=work.digest or b"", timeout=timeout
                )
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
    recipe = work.entry.recipe
    return AuditEvent(
        kind=Kind.OUTCOME,
        request_id=admission.call.request_id,
        caller=admission.caller.username,
        recipe=f"{recipe.name}@{recipe.version}",
        recipe_hash=recipe.hash,
        key=str(work.entry.key.name),
        key_arn=str(work.handle.signing_arn),
        algorithm=work.entry.algorithm,
        manifest=claim.manifest_id if claim else None,
        claim_sha256=claim.claim_sha256 if claim else None,
        outcome=Outcome.SIGNED,
        guarded=claim is not None,
    )


def _refused(event: AuditEvent, refusal: Refusal) -> AuditEvent:
    """Say that KMS was never asked to sign: the message is too long, the role cannot be assumed, no time was left."""
    return replace(event, kind=Kind.REFUSAL, outcome=None, reason=refusal.reason.name)


def _failed(event: AuditEvent, refusal: KmsError) -> AuditEvent:
    unknown = any(attempt.outcome is Outcome.UNKNOWN for attempt in refusal.attempts)
    outcome = Outcome.UNKNOWN if unknown else Outcome.FAILED
    return replace(event, outcome=outcome, reason=refusal.reason.name, attempts=refusal.attempts)


def _verify(work: _Work, answer: SignAnswer) -> None:
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


def _check_answer(work: _Work, answer: SignAnswer) -> None:
    public_key, algorithm = work.entry.chain.public_key, work.entry.algorithm
    if answer.key_arn not in (work.handle.signing_arn, *work.handle.replicas):
        raise SignatureError("it is from another key than the one that was asked")
    if work.message is not None:
        signatures.verify(public_key, algorithm, answer.signature, message=work.message)
    else:
        signatures.verify_digest(public_key, algorithm, answer.signature, digest=work.digest or b"")
    if answer.signature_der and signatures.p1363_from_der(answer.signature_der, algorithm) != answer.signature:
        raise SignatureError("its DER form is another signature")
