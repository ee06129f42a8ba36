"""KeyProbe.ProbeKey: which key is meant and who may ask, then the probe, then its report as a message."""

from collections import OrderedDict
from datetime import datetime

from byok_api import signatures
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.access import Decision, Right
from byok_signer.authentication import Caller
from byok_signer.authorization import KEYS, PROBE, authorize_key
from byok_signer.entries import KeyEntry, Refused
from byok_signer.kms.port import KeyHandle
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.probe import Check, CheckOutcome, ProbeReport, ProbeRequest, not_asked, probe_key
from byok_signer.quota import Demand, Family, QuotaKey, family_of
from byok_signer.watching import HealthWatchers
from byok_signer.work import Call

_NOT_SEEN_RETRY_AFTER = 0.1
"""Seconds: the operator hears of a change a moment before a signer has put it into its catalogue."""
_CHECK_TIMEOUT = 5.0
_UNDESCRIBED_SECONDS = 3600.0
"""For which a key of which nothing more is told is not asked about again: its owner's CloudTrail logs each denial."""
_UNDESCRIBED_LIMIT = 10_000
_OUTCOMES = {
    CheckOutcome.PASSED: pb.ProbeResult.PASSED,
    CheckOutcome.FAILED: pb.ProbeResult.FAILED,
    CheckOutcome.UNKNOWN: pb.ProbeResult.UNKNOWN,
}


class Prober:
    """Probes keys of the catalogue for those who may ask."""

    def __init__(self, ports: Ports, pipeline: Pipeline, *, replica: str) -> None:
        self._ports = ports
        self._pipeline = pipeline
        self._replica = replica
        self.watchers = HealthWatchers(ports, pipeline, replica=replica)
        self._undescribed: OrderedDict[KeyHandle, float] = OrderedDict()

    async def probe(self, call: Call, request: pb.ProbeKeyRequest) -> pb.ProbeKeyResponse:
        """Probe a key as its manifest stands at the request's generation, or as it is known where that is 0."""
        caller = await self._pipeline.authenticate(call)
        key = f"{request.namespace}/{request.name}"
        async with self._pipeline.recording_refusals(call, caller, key=key) as subject:
            right = Right(PROBE, KEYS, _name_in(request))
            decision = await self._check(caller, right)
            subject["decision"] = decision.id or None
            entry = self._find(caller, right, decision, request)
            if entry.acceptance_problem is None:
                await self._take_quota(call, caller, entry)
        report = await self._report(call, entry, least_privilege=request.least_privilege)
        now = self._ports.now()
        response = _response(report)
        response.generation = entry.manifest.metadata.generation or 0
        response.replica = self._replica
        response.certificate.CopyFrom(_certificate_result(entry, report.certificate, now))
        response.standing.CopyFrom(_standing_result(entry, report, now))
        return response

    async def _report(self, call: Call, entry: KeyEntry, *, least_privilege: bool) -> ProbeReport:
        """Ask KMS, unless the rules have it that this ByokKey is not to name the KMS key: it may be somebody else's."""
        if entry.acceptance_problem is not None:
            return not_asked(entry.handle, entry.acceptance_problem.message)
        chain = entry.chain
        report = await probe_key(
            self._ports.kms,
            ProbeRequest(
                key=entry.handle,
                algorithm=entry.algorithm,
                registered_spki=signatures.spki_of(chain.public_key) if chain else None,
                least_privilege=least_privilege,
                timeout=min(call.remaining, _CHECK_TIMEOUT),
                describe=self._may_describe(entry.handle),
            ),
        )
        if report.description_denied:
            self._do_not_describe(entry.handle)
        return report

    def _find(self, caller: Caller, right: Right, decision: Decision, request: pb.ProbeKeyRequest) -> KeyEntry:
        """Find a key that the caller may probe; refused with a delay while what is meant has not come yet."""
        name, catalogue, generation = right.name, self._ports.catalogue(), request.generation
        if name is None:
            raise AssertionError("one key is probed")
        found = catalogue.keys.get(name) if decision.allowed else None
        if generation and decision.allowed:
            seen = found.manifest.metadata.generation or 0 if isinstance(found, KeyEntry) else 0
            # An object from a folder has no uid.
            uid = found.manifest.metadata.uid if isinstance(found, KeyEntry) else None
            is_another = uid is not None and request.uid not in {"", uid}
            if found is None or is_another or (isinstance(found, KeyEntry) and generation > seen):
                raise Refusal(
                    Reason.GenerationNotSeen,
                    f"key {name}: generation {generation} has not reached this signer, which has {seen}; ask again",
                    retry_after=_NOT_SEEN_RETRY_AFTER,
                )
            if isinstance(found, Refused):
                # Perhaps an older one; which, an object that cannot be read does not tell.
                raise Refusal(found.reason, found.message, retry_after=_NOT_SEEN_RETRY_AFTER)
        return authorize_key(catalogue, caller, right, decision)

    async def _check(self, caller: Caller, right: Right) -> Decision:
        """Ask for the right on all keys first: the operator has it, and one answer then serves thousands of keys."""
        on_all = await self._ports.access.check(caller, right._replace(name=None))
        return on_all if on_all.allowed else await self._ports.access.check(caller, right)

    def _may_describe(self, handle: KeyHandle) -> bool:
        return self._ports.clock() >= self._undescribed.get(handle, 0.0)

    def _do_not_describe(self, handle: KeyHandle) -> None:
        self._undescribed[handle] = self._ports.clock() + _UNDESCRIBED_SECONDS
        self._undescribed.move_to_end(handle)
        if len(self._undescribed) > _UNDESCRIBED_LIMIT:
            self._undescribed.popitem(last=False)

    async def _take_quota(self, call: Call, caller: Caller, entry: KeyEntry) -> None:
        """Take a token: KMS counts the calls of a probe too."""
        timeout = min(call.remaining, _CHECK_TIMEOUT)
        account = await self._ports.kms.calling_account(entry.handle, timeout=timeout)
        quota = QuotaKey(
            account, entry.handle.arn.region, family_of(entry.algorithm) if entry.algorithm else Family.ECC
        )
        demand = Demand(quota, entry.name, limit=None, namespace=caller.namespace)
        await self._ports.quotas.acquire(demand, timeout=timeout)


def _name_in(request: pb.ProbeKeyRequest) -> ObjectName:
    try:
        return ObjectName.parse(f"{request.namespace}/{request.name}")
    except ValueError as error:
        raise Refusal(Reason.InvalidRequest, f"namespace and name: {error}") from None


def _response(report: ProbeReport) -> pb.ProbeKeyResponse:
    public_key, description = report.public_key, report.description
    return pb.ProbeKeyResponse(
        get_public_key=_result(report.get_public_key),
        sign=_result(report.sign),
        least_privilege=_result(report.least_privilege) if report.least_privilege else None,
        key_arn=str(public_key.key_arn) if public_key else "",
        public_key=public_key.spki if public_key else b"",
        key_spec=public_key.key_spec if public_key else "",
        algorithm=str(report.algorithm) if report.algorithm else "",
        external_id=report.external_id,
        key_state=description.state if description else "",
        origin=description.origin if description else "",
        multi_region=description.multi_region if description else None,
    )


def _certificate_result(entry: KeyEntry, check: Check, now: datetime) -> pb.ProbeResult:
    # What is wrong with the chain itself comes before whether its key is KMS's.
    try:
        if entry.certificate_problem is not None:
            raise entry.certificate_problem.refusal()
        entry.check_valid_at(now)
    except Refusal as refusal:
        return pb.ProbeResult(outcome=pb.ProbeResult.FAILED, reason=refusal.reason.name, message=refusal.message)
    return _result(check)


def _standing_result(entry: KeyEntry, report: ProbeReport, now: datetime) -> pb.ProbeResult:
    if report.get_public_key.reason is Reason.KeyInvalid:
        # It is the spec's fault: an endpoint that is not allowed, a Region that is none, replicas of another key.
        return _result(report.get_public_key)
    try:
        if entry.problem is not None:
            raise entry.problem.refusal()
        entry.check_valid_at(now)
    except Refusal as refusal:
        return pb.ProbeResult(outcome=pb.ProbeResult.FAILED, reason=refusal.reason.name, message=refusal.message)
    return pb.ProbeResult(outcome=pb.ProbeResult.PASSED)


def _result(check: Check) -> pb.ProbeResult:
    return pb.ProbeResult(
        outcome=_OUTCOMES[check.outcome],
        reason=check.reason.name if check.reason else "",
        message=check.message,
        missing_statement=check.missing_statement,
        kms_request_id=check.request_id,
    )
