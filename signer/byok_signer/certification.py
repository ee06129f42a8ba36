"""Certification.CreateCertificateRequest: a PKCS#10 request that the signer builds and KMS signs, for those who may.

    authenticate -> authorize -> names -> the key's standing -> its public key, whose it is -> sign and record -> answer

It takes names, never bytes to sign. A certificate is not needed yet, so KMS is the one to say what the public key is,
and claims to that key are compared once it has. From the intent on it goes to its end, whoever goes away.
"""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from byok_api.algorithms import RAW_MESSAGE_LIMIT, SigningAlgorithm
from byok_api.audit import AuditId, Kind
from byok_api.byokkey import DEFAULT_STALE_AFTER
from byok_api.errors import Reason, Refusal
from byok_api.fields import duration
from byok_api.references import KeyArn, ObjectName
from byok_api.signatures import PublicKey, algorithms_for, spki_sha256_of_der
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.access import Decision, Right
from byok_signer.asking import Asking, Question, check_release
from byok_signer.authentication import Caller
from byok_signer.authorization import CERTIFY, KEYS, authorize_key
from byok_signer.breaker import Breaker
from byok_signer.csr import Unsigned
from byok_signer.entries import KeyEntry, Pin, ReservedKey
from byok_signer.freshness import check_heard, too_old
from byok_signer.kms.errors import KmsError
from byok_signer.kms.messages import payload_of_message
from byok_signer.kms.port import PublicKeyAnswer, SignAnswer
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.quota import Demand
from byok_signer.recording import SubjectFields
from byok_signer.subjects import names_in
from byok_signer.work import Call

_TIMEOUT = 5.0
"""Seconds for one call of KMS."""
_LONGEST = 6.0
"""Seconds: a little more than a call of KMS and its record take."""


@dataclass(frozen=True)
class _Request:
    """A caller who may have the key certified."""

    call: Call
    caller: Caller
    right: Right
    decision: Decision
    entry: KeyEntry


@dataclass(frozen=True)
class _Job:
    """A certificate request that nothing stands against."""

    request: _Request
    unsigned: Unsigned
    question: Question


class Certifier:
    """Makes certificate requests; one for the process."""

    def __init__(self, ports: Ports, pipeline: Pipeline, *, checkpoint_key: ReservedKey | None) -> None:
        self._ports = ports
        self._pipeline = pipeline
        self._checkpoint_key = checkpoint_key
        self._looks = Breaker(clock=ports.clock)
        self._asking = Asking(ports, pipeline.health)
        self._under_way: set[asyncio.Task[pb.CreateCertificateRequestResponse]] = set()

    async def certify(
        self, call: Call, request: pb.CreateCertificateRequestRequest
    ) -> pb.CreateCertificateRequestResponse:
        """Have a key's certificate request signed."""
        caller = await self._pipeline.authenticate(call)
        key = f"{request.namespace}/{request.name}"
        async with self._pipeline.recording_refusals(call, caller, key=key) as subject:
            right = Right(CERTIFY, KEYS, _name_in(request))
            decision = await self._ports.access.check(caller, right)
            subject["decision"] = decision.id or None
            admitted = self._admit(call, caller, right, decision)
            unsigned, question = await self._question(admitted, request)
            demand = await self._asking.demand(
                admitted.entry, question, caller.namespace, remaining=min(call.remaining, _TIMEOUT)
            )
            self._asking.check(question.handle)
            await self._ports.quotas.acquire(demand, timeout=call.remaining)
        making = asyncio.create_task(self._make(_Job(admitted, unsigned, question), demand))
        self._under_way.add(making)
        making.add_done_callback(self._made)
        return await asyncio.shield(making)

    async def drain(self) -> None:
        """Wait for what is under way, as long as a call of KMS can take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST):
                while self._under_way:
                    await asyncio.wait(self._under_way)

    def _admit(self, call: Call, caller: Caller, right: Right, decision: Decision) -> _Request:
        entry = authorize_key(self._ports.catalogue(), caller, right, decision)
        request = _Request(call, caller, right, decision, entry)
        self._check_standing(request, entry)
        return request

    async def _question(
        self, admitted: _Request, request: pb.CreateCertificateRequestRequest
    ) -> tuple[Unsigned, Question]:
        names, entry = names_in(request), admitted.entry
        answer = await self._look(entry, admitted.call)
        self._check_owner(entry, answer)
        algorithm, public_key = _usable(entry, answer)
        unsigned = Unsigned(public_key, algorithm, names)
        message = unsigned.message()
        if algorithm.facts.hash_name is None and len(message) > RAW_MESSAGE_LIMIT:
            found = f"the request has {len(message)} bytes, of which {algorithm} signs at most {RAW_MESSAGE_LIMIT}"
            raise Refusal(Reason.InvalidRequest, f"{found}; ask for fewer names, or shorter ones")
        payload = payload_of_message(entry.name, algorithm, message)
        # Neither period counts here.
        pin = Pin(handle=entry.handle, spki_sha256=spki_sha256_of_der(answer.spki), recheck_after=0, stale_after=0)
        handle = replace(entry.handle, resolved_arn=answer.key_arn)
        return unsigned, Question(pin, handle, algorithm, public_key, payload)

    async def _look(self, entry: KeyEntry, call: Call) -> PublicKeyAnswer:
        self._looks.enter(entry.handle)
        try:
            answer = await self._ports.kms.get_public_key(entry.handle, timeout=min(call.remaining, _TIMEOUT))
        except KmsError as refusal:
            self._looks.failed(entry.handle, refusal)
            raise
        self._looks.succeeded(entry.handle)
        return answer

    def _check_owner(self, entry: KeyEntry, answer: PublicKeyAnswer) -> None:
        """Refuse a KMS key that is not this ByokKey's to use, now that KMS has told which one it is."""
        spki_sha256 = spki_sha256_of_der(answer.spki)
        reserved = self._checkpoint_key
        if reserved is not None and reserved.is_named_by((answer.key_arn, *entry.handle.replicas), spki_sha256):
            raise Refusal(
                Reason.KeyInvalid,
                f"key {entry.name} is the key that signs the installation's audit checkpoints; name another KMS key",
            )
        self._check_claim(entry, answer.key_arn, spki_sha256)

    def _check_claim(self, entry: KeyEntry, key_arn: KeyArn, spki_sha256: str) -> None:
        """Refuse a KMS key to which another namespace has the better claim, by what the spec names or by the key."""
        catalogue = self._ports.catalogue()
        for arn in (entry.handle.arn, key_arn):
            catalogue.check_claim(replace(entry, handle=replace(entry.handle, arn=arn)), spki_sha256)

    def _check_standing(self, request: _Request, entry: KeyEntry) -> None:
        """Refuse for a spec that may not sign, its certificate left aside, and on what was heard too long ago."""
        problem = entry.acceptance_problem
        if entry.standing.deactivated and entry.standing.problem is not None:
            raise entry.standing.problem.refusal()
        if problem is not None:
            raise problem.refusal()
        check_heard(self._ports, request.caller, request.decision, key=entry.name, limit=_stale_after(entry))

    def _check_still_standing(self, job: _Job) -> None:
        """Refuse what was withdrawn while the intent was written, or KMS was asked."""
        request, before = job.request, job.request.entry
        caller = self._ports.authenticator.recall(request.caller)
        decision = None if caller is None else self._ports.access.recall(caller, request.right)
        if caller is None or decision is None:
            too_old()
        entry = authorize_key(self._ports.catalogue(), caller, request.right, decision)
        self._check_standing(replace(request, caller=caller, decision=decision), entry)
        if entry.handle != before.handle:
            raise Refusal(Reason.KeyInvalid, f"key {before.name} was changed a moment ago; request again")
        self._check_claim(entry, job.question.handle.signing_arn, job.question.pin.spki_sha256)

    async def _make(self, job: _Job, demand: Demand) -> pb.CreateCertificateRequestResponse:
        made: list[x509.CertificateSigningRequest] = []
        announced = await self._asking.announce(Kind.CERTIFY, _subject_of(job), demand)

        async def make() -> SignAnswer:
            self._check_still_standing(job)
            remaining = min(job.request.call.remaining, _TIMEOUT)
            answer = await self._asking.ask(job.question, announced, remaining=remaining)
            answer = check_release(answer, lambda: self._check_still_standing(job))
            made.append(job.unsigned.signed(answer.signature_der or answer.signature))
            return answer

        answer, audit_id = await self._asking.settle(announced, make)
        return _response(job, made[0], answer, audit_id)

    def _made(self, task: "asyncio.Task[pb.CreateCertificateRequestResponse]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here too, in case the caller has gone


def _name_in(request: pb.CreateCertificateRequestRequest) -> ObjectName:
    try:
        return ObjectName.parse(f"{request.namespace}/{request.name}")
    except ValueError as error:
        raise Refusal(Reason.InvalidRequest, f"namespace and name: {error}") from None


def _usable(entry: KeyEntry, answer: PublicKeyAnswer) -> tuple[SigningAlgorithm, PublicKey]:
    """Choose the algorithm: the spec's, or the key's default."""
    wanted = entry.manifest.spec.signing_algorithm or next(iter(answer.algorithms), None)
    if wanted is None or wanted not in answer.algorithms or answer.key_usage != "SIGN_VERIFY":
        able = ", ".join(answer.algorithms) or "nothing that C2PA allows"
        raise Refusal(
            Reason.KeyUsageInvalid,
            f"key {entry.name}: {answer.key_arn} of usage {answer.key_usage} and spec {answer.key_spec} signs with "
            f"{able}; the ByokKey wants {wanted or 'its default'}. {Reason.KeyUsageInvalid.facts.remedy}",
            metadata={"key": str(entry.name), "key_arn": str(answer.key_arn)},
        )
    public_key = load_der_public_key(answer.spki)
    if wanted not in algorithms_for(public_key):
        raise Refusal(
            Reason.KmsAnswerInvalid, f"key {entry.name}: the public key of {answer.key_arn} is not one for {wanted}"
        )
    return wanted, cast("PublicKey", public_key)


def _stale_after(entry: KeyEntry) -> float:
    verification = entry.manifest.spec.verification
    given = verification.stale_after if verification else None
    return duration(given or DEFAULT_STALE_AFTER).total_seconds()


def _subject_of(job: _Job) -> SubjectFields:
    request, question = job.request, job.question
    return SubjectFields(
        request_id=request.call.request_id,
        caller=request.caller.username,
        key=str(request.entry.name),
        key_arn=question.handle.signing_arn.text,
        algorithm=question.algorithm,
        decision=request.decision.id or None,
    )


def _response(
    job: _Job, request: x509.CertificateSigningRequest, answer: SignAnswer, audit_id: AuditId
) -> pb.CreateCertificateRequestResponse:
    return pb.CreateCertificateRequestResponse(
        request=request.public_bytes(Encoding.DER),
        algorithm=str(job.question.algorithm),
        key_arn=str(answer.key_arn),
        spki_sha256=job.question.pin.spki_sha256,
        audit_id=str(audit_id),
        kms_request_id=answer.request_id,
        decision_id=job.request.decision.id,
    )
