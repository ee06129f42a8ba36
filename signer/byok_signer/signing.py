"""From work that nothing stands against to a signature that is verified and recorded.

    breaker -> quota -> intent, durable -> does it still stand? -> KMS -> verify -> does it still? -> outcome, durable

Up to the intent a signature is called off when all who wait for it have gone. From the intent on it goes to its end,
whoever goes away: every intent is settled, and no signature is released before that is durable. KMS may take
seconds, retries included: a signature that it made of what was withdrawn meanwhile is recorded, and released to nobody.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial

from byok_api.audit import AuditEvent, Kind, Outcome
from byok_api.errors import Reason, Refusal
from byok_signer.asking import Asking, Question, check_release
from byok_signer.entries import SigningEntry
from byok_signer.flights import Flights, Made
from byok_signer.health import HealthBoard
from byok_signer.kms.port import SignAnswer
from byok_signer.ports import Ports
from byok_signer.recording import RefusalTrail, subject_of_work
from byok_signer.work import Signed, Work

_LONGEST = 12.0
"""Seconds: a little more than any call of KMS and its record take."""

Present = Callable[[Work], SigningEntry]
"""Looks at the catalogue again; Refusal if the work's caller, recipe and key no longer go together."""


class Signing:
    """Makes signatures; one for the process."""

    def __init__(self, ports: Ports, refusals: RefusalTrail, present: Present, health: HealthBoard) -> None:
        self._ports = ports
        self._refusals = refusals
        self._present = present
        self._flights = Flights(clock=ports.clock)
        self._asking = Asking(ports, health)

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
        subject, question = subject_of_work(work), _question_of(work)
        caller, remaining = work.admission.caller, work.admission.call.remaining
        try:
            demand = await self._asking.demand(work.entry.key, question, caller.namespace, remaining=remaining)
            self._asking.check(work.handle)
            await self._ports.quotas.acquire(demand, timeout=work.admission.call.remaining)
        except Refusal as refusal:
            await self._refusals.record(refusal, subject)
            raise
        commit()
        announced = await self._asking.announce(Kind.OUTCOME, subject, demand)

        async def make() -> SignAnswer:
            self._check_standing(work)
            answer = await self._asking.ask(question, announced, remaining=work.admission.call.remaining)
            return check_release(answer, partial(self._check_standing, work))

        made = await self._asking.settle(announced, make)
        self._ports.metrics.signed(work.entry.key.name, work.entry.recipe.name)
        return made

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


def _question_of(work: Work) -> Question:
    entry = work.entry
    return Question(entry.pin, work.handle, entry.algorithm, entry.chain.public_key, work.payload)
