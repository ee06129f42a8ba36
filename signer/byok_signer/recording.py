"""What is recorded of requests: their subjects, and refusals, of a caller's flood only the count."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypedDict

from byok_api.audit import AuditEvent, Kind
from byok_api.errors import Reason, Refusal
from byok_signer.audit import AuditSink, RefusalLimiter
from byok_signer.entries import SigningEntry
from byok_signer.work import Admission, Work


class SubjectFields(TypedDict, total=False):
    """The fields of a record that say what a request was about, as far as that was known."""

    request_id: str
    caller: str
    recipe: str | None
    recipe_hash: str | None
    key: str | None
    key_arn: str
    algorithm: str
    manifest: str | None
    claim_sha256: str | None
    guarded: bool
    decision: str | None


@dataclass(frozen=True)
class RefusalTrail:
    """The trail as refusals reach it."""

    audit: AuditSink
    _limiter: RefusalLimiter = field(default_factory=RefusalLimiter)

    @asynccontextmanager
    async def recording(self, subject: SubjectFields) -> AsyncIterator[SubjectFields]:
        """Record what is refused inside; what is found out about the subject meanwhile can be added to it."""
        try:
            yield subject
        except Refusal as refusal:
            # What is not there yet was not refused: the operator asks about new objects before they have come here.
            if refusal.reason is not Reason.GenerationNotSeen:
                await self.record(refusal, subject)
            raise

    async def record(self, refusal: Refusal, subject: SubjectFields) -> None:
        """Record a refusal, or count it."""
        event = AuditEvent(kind=Kind.REFUSAL, reason=refusal.reason.name, **subject)
        admitted = self._limiter.admit(event, now=time.monotonic())
        # Shielded, since the limiter has forgotten what it gave out.
        await asyncio.shield(asyncio.gather(*map(self.audit.append, admitted)))

    async def drain(self) -> None:
        """Record the refusals that were only counted so far."""
        await asyncio.gather(*map(self.audit.append, self._limiter.drain()))


def subject_of_admission(admission: Admission) -> SubjectFields:
    """Say what an admitted caller's request is about."""
    return _subject(admission, admission.entry)


def subject_of_work(work: Work) -> SubjectFields:
    """Say what a signature is about."""
    claim, subject = work.claim, _subject(work.admission, work.entry)
    subject["key_arn"] = work.handle.signing_arn.text
    subject["algorithm"] = work.entry.algorithm
    subject["guarded"] = claim is not None
    if claim is not None:
        subject["manifest"] = claim.manifest_id
        subject["claim_sha256"] = claim.claim_sha256
    return subject


def _subject(admission: Admission, entry: SigningEntry) -> SubjectFields:
    return SubjectFields(
        request_id=admission.call.request_id,
        caller=admission.caller.username,
        recipe=entry.recipe_label,
        recipe_hash=entry.recipe.hash,
        key=entry.key_label,
        decision=admission.decision.id or None,
    )
