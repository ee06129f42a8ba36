"""The order of work for a signature, one step after the other, each refusing by name.

    authenticate -> find recipe -> authorize -> recipe, key, certificate -> guard -> sign and record -> answer

Nothing here knows gRPC. What is refused after authentication is recorded. The last step is `signing`'s.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from byok_api.byokkey import BareDigests
from byok_api.errors import Reason, Refusal
from byok_signer.authentication import Caller
from byok_signer.authorization import authorize
from byok_signer.bindings import KeyBindings
from byok_signer.entries import SigningEntry
from byok_signer.guard import CheckedClaim, check_claim, check_digest
from byok_signer.kms.messages import Payload, payload_of_digest, payload_of_message
from byok_signer.kms.port import KeyHandle
from byok_signer.ports import Ports
from byok_signer.recording import RefusalTrail, subject_of_admission
from byok_signer.signing import Signing
from byok_signer.work import Admission, Call, Identity, Signed, Work

_Checked = tuple[CheckedClaim | None, Payload]
"""What is to be signed; no claim for a bare digest."""


class Pipeline:
    """Takes calls to signatures; one for the process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._bindings = KeyBindings(ports.kms, clock=ports.clock)
        self._refusals = RefusalTrail(ports.audit)
        self._signing = Signing(ports, self._refusals, lambda work: self._present(work.admission, work.expected_hash))

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
        catalogue = self._ports.catalogue()
        try:
            return Admission(call, caller, recipe, catalogue, authorize(catalogue, caller, recipe))
        except Refusal as refusal:
            await self._refusals.record(
                refusal, {"request_id": call.request_id, "caller": caller.username, "recipe": recipe}
            )
            raise

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
    ) -> AbstractAsyncContextManager[None]:
        """Record what is refused inside to a caller, who asks about a key or has named nothing yet."""
        return self._refusals.recording({"request_id": call.request_id, "caller": caller.username, "key": key})

    def recording_refusals_of(self, admission: Admission) -> AbstractAsyncContextManager[None]:
        """Record what is refused to an admitted caller."""
        return self._refusals.recording(subject_of_admission(admission))

    async def _check_and_sign(
        self, admission: Admission, expected_hash: str, check: Callable[[SigningEntry], _Checked]
    ) -> Signed:
        async with self.recording_refusals_of(admission):
            entry, handle = await self._usable(admission, expected_hash)
            claim, payload = check(entry)
        identity = _identity(admission, entry, handle, payload, guarded=claim is not None)
        return await self._signing.sign(Work(admission, entry, expected_hash, handle, claim, payload, identity))

    async def _usable(self, admission: Admission, expected_hash: str) -> tuple[SigningEntry, KeyHandle]:
        """Return recipe and key as they stand now, even if the admission was made, or KMS was asked, a while ago."""
        entry = self._present(admission, expected_hash)
        while True:
            handle = await self._bindings.resolve(entry.pin, timeout=admission.call.remaining)
            present = self._present(admission, expected_hash)
            if present.pin == entry.pin:
                return present, handle
            entry = present

    def _present(self, admission: Admission, expected_hash: str) -> SigningEntry:
        catalogue, entry = self._ports.catalogue(), admission.entry
        # One that has not changed would give the same answer.
        if catalogue is not admission.catalogue:
            entry = authorize(catalogue, admission.caller, admission.recipe)
        if expected_hash != entry.recipe.hash:
            raise Refusal(
                Reason.RecipeChanged,
                f"recipe {entry.recipe.name}: the manifest was composed under another state of the recipe than the "
                "present one; fetch the recipe again and rebuild the manifest",
                metadata={"recipe": str(entry.recipe.name), "recipe_hash": entry.recipe.hash},
            )
        entry.key.check_valid_at(self._ports.now())
        return entry


def _identity(
    admission: Admission, entry: SigningEntry, handle: KeyHandle, payload: Payload, *, guarded: bool
) -> Identity:
    name = entry.recipe.name
    # A digest is one of all that is signed already.
    signed = payload.data if payload.message_type == "DIGEST" else hashlib.sha256(payload.data).digest()
    return Identity(
        caller=admission.caller.username,
        recipe_namespace=name.namespace,
        recipe_name=name.name,
        recipe_hash=entry.recipe.hash,
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
