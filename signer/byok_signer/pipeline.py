"""The order of work for a signature, one step after the other, each refusing by name.

    authenticate -> find recipe -> authorize -> recipe, key, certificate -> guard -> sign and record -> answer

Nothing here knows gRPC. What is refused after authentication is recorded. The last step is `signing`'s.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from byok_api.byokkey import BareDigests
from byok_api.errors import Reason, Refusal
from byok_signer.access import Decision, Right
from byok_signer.authentication import Caller
from byok_signer.authorization import authorize, right_to_sign
from byok_signer.bindings import KeyBindings
from byok_signer.entries import Catalogue, SigningEntry
from byok_signer.freshness import check_heard, too_old
from byok_signer.guard import CheckedClaim, check_claim, check_digest
from byok_signer.health import HealthBoard
from byok_signer.kms.messages import Payload, payload_of_digest, payload_of_message
from byok_signer.kms.port import KeyHandle
from byok_signer.ports import Ports
from byok_signer.recording import RefusalTrail, SubjectFields, subject_of_admission
from byok_signer.signing import Signing
from byok_signer.work import Admission, Call, Identity, Signed, Work

_Checked = tuple[CheckedClaim | None, Payload]
"""What is to be signed; no claim for a bare digest."""


class Pipeline:
    """Takes calls to signatures; one for the process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.health = HealthBoard(ports.catalogue, now=ports.now, clock=ports.clock)
        """What KMS said last of each key."""
        self._bindings = KeyBindings(ports.kms, clock=ports.clock, health=self.health)
        self._refusals = RefusalTrail(ports.audit)
        self._signing = Signing(ports, self._refusals, self._standing, self.health)

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
        known = SubjectFields(request_id=call.request_id, caller=caller.username, recipe=recipe)
        async with self._refusals.recording(known) as subject:
            reference, right = right_to_sign(caller, recipe)
            decision = await self._ports.access.check(caller, right)
            subject["decision"] = decision.id or None
            entry, catalogue = self._find(caller, right, reference.version, decision)
            return Admission(call, caller, right, reference.version, decision, catalogue, entry)

    def _find(
        self, caller: Caller, right: Right, version: int | None, decision: Decision
    ) -> tuple[SigningEntry, Catalogue]:
        if right.name is None:
            raise AssertionError("nobody signs under all recipes")
        catalogue = self._ports.catalogue()
        entry = authorize(catalogue, caller, right.name, version, allowed=decision.allowed)
        check_heard(self._ports, caller, decision, key=entry.key.name, limit=entry.pin.stale_after)
        return entry, catalogue

    async def check_usable(self, admission: Admission) -> SigningEntry:
        """Return the recipe if it could sign right now, as far as that can be told without KMS."""
        async with self.recording_refusals_of(admission):
            admission.entry.key.check_valid_at(self._ports.now())
            return admission.entry

    async def sign_claim(self, admission: Admission, expected_hash: str, claim: bytes) -> Signed:
        """Sign the claim in a Sig_structure."""

        def check(entry: SigningEntry) -> _Checked:
            return check_claim(claim, entry.policy), payload_of_message(entry.key.name, entry.algorithm, claim)

        return await self._check_and_sign(admission, expected_hash, check)

    async def sign_digest(self, admission: Admission, expected_hash: str, digest: bytes, evidence: bytes) -> Signed:
        """Sign a digest, with the Sig_structure as evidence unless the key does without."""

        def check(entry: SigningEntry) -> _Checked:
            checked = _check_evidence(entry, digest, evidence)
            return checked, payload_of_digest(entry.key.name, entry.algorithm, digest)

        return await self._check_and_sign(admission, expected_hash, check)

    async def drain(self) -> None:
        """Wait for what is between intent and outcome, then record the refusals that were only counted so far."""
        await self._signing.drain()
        await self._refusals.drain()

    def recording_refusals(
        self, call: Call, caller: Caller, *, key: str | None = None
    ) -> AbstractAsyncContextManager[SubjectFields]:
        """Record what is refused inside to a caller, who asks about a key or has named nothing yet.

        What is entered takes more as it becomes known, such as the `decision`.
        """
        return self._refusals.recording({"request_id": call.request_id, "caller": caller.username, "key": key})

    def recording_refusals_of(self, admission: Admission) -> AbstractAsyncContextManager[SubjectFields]:
        """Record what is refused to an admitted caller."""
        return self._refusals.recording(subject_of_admission(admission))

    async def _check_and_sign(
        self, admission: Admission, expected_hash: str, check: Callable[[SigningEntry], _Checked]
    ) -> Signed:
        async with self.recording_refusals_of(admission):
            admission, handle = await self._usable(admission, expected_hash)
            claim, payload = check(admission.entry)
        identity = _identity(admission, handle, payload, guarded=claim is not None)
        work = Work(admission, admission.entry, expected_hash, handle, claim, payload, identity)
        signed = await self._signing.sign(work)
        return replace(signed, decision_id=admission.decision.id) if admission.decision.id else signed

    async def _usable(self, admission: Admission, expected_hash: str) -> tuple[Admission, KeyHandle]:
        """Return caller, recipe and key as they stand now, even if the admission was made, or KMS was asked, before."""
        admission = await self._renewed(admission, expected_hash)
        while True:
            pin = admission.entry.pin
            handle = await self._bindings.resolve(pin, timeout=admission.call.remaining)
            admission = await self._renewed(admission, expected_hash)
            if admission.entry.pin == pin:
                return admission, handle

    async def _renewed(self, admission: Admission, expected_hash: str) -> Admission:
        """Look at everything once more, and ask again who calls with what right where the answers have grown old."""
        present = self._present(admission, expected_hash)
        if present is None:
            caller = await self._ports.authenticator.authenticate(admission.call.token)
            await self._ports.access.check(caller, admission.right)
            present = self._present(replace(admission, caller=caller), expected_hash)
        return present or too_old()

    def _standing(self, work: Work) -> SigningEntry:
        present = self._present(work.admission, work.expected_hash) or too_old()
        return present.entry

    def _present(self, admission: Admission, expected_hash: str) -> Admission | None:
        """Look at everything without waiting; None if the API server must be asked about the caller again."""
        ports = self._ports
        caller = ports.authenticator.recall(admission.caller)
        decision = None if caller is None else ports.access.recall(caller, admission.right)
        if caller is None or decision is None:
            return None
        entry, catalogue = admission.entry, ports.catalogue()
        if catalogue is not admission.catalogue or decision is not admission.decision:
            entry, catalogue = self._find(caller, admission.right, admission.version, decision)
            admission = replace(admission, caller=caller, decision=decision, catalogue=catalogue, entry=entry)
        else:
            # Nothing has changed but the time.
            check_heard(self._ports, caller, decision, key=entry.key.name, limit=entry.pin.stale_after)
        if expected_hash != entry.recipe.hash:
            raise Refusal(
                Reason.RecipeChanged,
                f"recipe {entry.recipe.name}: the manifest was composed under another state of the recipe than the "
                "present one; fetch the recipe again and rebuild the manifest",
                metadata={"recipe": str(entry.recipe.name), "recipe_hash": entry.recipe.hash},
            )
        entry.key.check_valid_at(ports.now())
        return admission


def _identity(admission: Admission, handle: KeyHandle, payload: Payload, *, guarded: bool) -> Identity:
    recipe = admission.entry.recipe
    # A digest is one of all that is signed already.
    signed = payload.data if payload.message_type == "DIGEST" else hashlib.sha256(payload.data).digest()
    return Identity(
        caller=admission.caller.username,
        recipe_namespace=recipe.name.namespace,
        recipe_name=recipe.name.name,
        recipe_hash=recipe.hash,
        key_arn=handle.signing_arn.text,
        signed=signed,
        guarded=guarded,
    )


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
