"""The order of work for a signature, and what is recorded of it, through the real gRPC door."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, Kind, Outcome
from byok_api.errors import Reason
from byok_api.references import KeyArn
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.issuer import ServiceAccount
from byok_sandbox.kms.keys import SoftwareKey
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import SignAnswer
from tests.support.claims import MEDIA_FOLDER, created_claim, created_manifest, sign
from tests.support.manifests import recipe_document
from tests.support.many_claims import another_claim
from tests.support.pki import certified, identity, new_key, sign_der
from tests.support.refusals import refusal_of
from tests.support.signer import JOB, Bench, certified_key, until

ES256, ED25519 = SigningAlgorithm.ES256, SigningAlgorithm.ED25519
CLAIM = created_claim().sig_structure
STRANGER = ServiceAccount("other", "job")
DEMANDING: dict[str, Any] = {"c2pa": {"enabled": True, "assertions": ["creator"]}}
THROTTLED = KmsError(Reason.KmsThrottled, "slow down", retry_after=0.5)


@dataclass
class Call:
    """A call in which anything can be wrong."""

    bench: Bench
    caller: ServiceAccount | None = JOB
    claim: bytes = CLAIM
    recipe_hash: str | None = None
    key: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    async def reason(self) -> Reason:
        stored = self.bench.store(identity(ES256))
        self.bench.apply(certified_key(identity(ES256), stored.arn), recipe_document(**self.recipe))
        request = self.bench.request(self.claim, recipe="media/photo")
        request.expected_recipe_hash = self.recipe_hash or request.expected_recipe_hash
        self.bench.apply(certified_key(identity(ES256), stored.arn, **self.key), recipe_document(**self.recipe))
        if "wrong key" in self.key.get("description", ""):
            stored.material = SoftwareKey("ECC_NIST_P256", new_key(ES256))
        self.bench.token = ""
        if self.caller is not None:
            self.bench.call_as(self.caller)
        return (await refusal_of(self.bench.sign(request))).reason


def nobody(call: Call) -> None:
    call.caller = None


def stranger(call: Call) -> None:
    call.caller = STRANGER


def deactivated(call: Call) -> None:
    call.key["state"] = "Deactivated"


def composed_long_ago(call: Call) -> None:
    call.recipe_hash = "0" * 64


def after_the_certificates_end(call: Call) -> None:
    call.bench.clock.offset = timedelta(days=1000)


def wrong_key_in_kms(call: Call) -> None:
    call.key["description"] = "wrong key"


def garbage(call: Call) -> None:
    call.claim = b"garbage"


def demanding(call: Call) -> None:
    call.recipe |= DEMANDING


def denied(call: Call) -> None:
    call.bench.kms.failure = KmsError(Reason.KeyAccessDenied, "denied")


def forged(call: Call) -> None:
    call.bench.kms.forge = lambda answer: replace(answer, signature=bytes(64), signature_der=b"")


STEPS: tuple[tuple[Callable[[Call], None], Reason], ...] = (
    (nobody, Reason.TokenMissing),
    (stranger, Reason.RecipeNotAllowed),
    (deactivated, Reason.KeyDeactivated),
    (composed_long_ago, Reason.RecipeChanged),
    (after_the_certificates_end, Reason.CertificateExpired),
    (wrong_key_in_kms, Reason.CertificateMismatch),
    (garbage, Reason.ClaimRefused),
    (demanding, Reason.RecipeNotMet),
    (denied, Reason.KeyAccessDenied),
    (forged, Reason.KmsAnswerInvalid),
)


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[reason.name for _, reason in STEPS])
async def test_each_step_refuses_before_the_next_is_taken(bench: Bench, step: int) -> None:
    call = Call(bench)
    for spoil, _ in reversed(STEPS[step:]):
        spoil(call)
    assert await call.reason() is STEPS[step][1]
    assert bool(bench.kms.signed) is (STEPS[step][1] in (Reason.KeyAccessDenied, Reason.KmsAnswerInvalid))


async def test_a_refusal_after_authentication_is_recorded_with_what_is_known(bench: Bench) -> None:
    told = await refusal_of(bench.sign(bench.request(b"garbage")))
    (event,) = await bench.records(Kind.REFUSAL)
    assert (event.caller, event.reason) == ("system:serviceaccount:media:job", told.reason.name)
    assert (event.recipe, event.recipe_hash) == ("media/photo@1", bench.entry.recipe.hash)
    assert (event.key, event.attempts) == ("media/brand", ())


async def test_a_refused_recipe_is_recorded_by_the_name_that_the_caller_gave_it(bench: Bench) -> None:
    await refusal_of(bench.sign(bench.request(recipe="vault/x@7")))
    assert [(event.recipe, event.reason) for event in await bench.records(Kind.REFUSAL)] == [
        ("vault/x@7", "RecipeNotAllowed")
    ]


async def test_a_refusal_before_authentication_is_only_counted(bench: Bench) -> None:
    bench.token = "garbage"
    assert (await refusal_of(bench.sign())).reason is Reason.TokenInvalid
    assert await bench.records(Kind.REFUSAL) == []
    assert b"byok_signer_unauthenticated_total 1.0" in bench.metrics.exposition()


async def test_of_a_callers_flood_of_refusals_the_count_is_recorded(bench: Bench) -> None:
    await asyncio.gather(*(refusal_of(bench.sign(bench.request(b""))) for _ in range(60)))
    events = await bench.records(Kind.REFUSAL)
    assert len(events) < 30
    assert sum(event.suppressed + 1 for event in events) == 60


async def test_calls_that_are_given_up_leave_no_signature_unrecorded(bench: Bench) -> None:
    bench.kms.gate.clear()
    requests = [bench.request(another_claim()) for _ in range(80)]
    calls = [
        bench.signer.SignClaim(request, metadata=bench.metadata, timeout=n / 100)
        for n, request in enumerate(requests, start=1)
    ]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {error.code() for error in ended if isinstance(error, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.DEADLINE_EXCEEDED
    }
    bench.kms.gate.set()
    outcomes = await bench.records(Kind.OUTCOME)
    assert sum(bool(outcome.attempts) for outcome in outcomes) == bench.kms.signed > 10
    assert len(await bench.records(Kind.INTENT)) == len(outcomes)


async def test_a_call_cancelled_by_its_caller_is_recorded_as_signed(bench: Bench) -> None:
    bench.kms.gate.clear()
    call = bench.signer.SignClaim(bench.request(), metadata=bench.metadata)
    await until(lambda: bench.kms.signed == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    bench.kms.gate.set()
    assert [event.outcome for event in await bench.records(Kind.OUTCOME)] == [Outcome.SIGNED]


async def test_no_answer_leaves_before_its_record_is_durable(bench: Bench) -> None:
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(bench.sign())
    await until(lambda: bench.kms.signed == 1)
    bench.audit.gate.clear()
    bench.kms.gate.set()
    await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    assert not answer.done()
    bench.audit.gate.set()
    signatures.verify(identity(ES256).public_key, ES256, (await answer).signature, message=CLAIM)


async def test_when_the_trail_fails_nothing_is_released_and_nothing_more_is_signed(bench: Bench) -> None:
    (bench.folder / "audit.jsonl").unlink()
    assert (await refusal_of(bench.sign())).reason is Reason.AuditUnavailable
    assert (await refusal_of(bench.sign())).reason is Reason.AuditUnavailable
    assert bench.kms.signed == 0


OTHER = certified(new_key(ES256), ES256)
OTHER_DER = sign_der(OTHER.private_key, ES256, CLAIM)
FORGERIES: dict[str, Callable[[SignAnswer], SignAnswer]] = {
    "of something else": lambda a: replace(a, signature=identity(ES256).sign(CLAIM[:-1]), signature_der=b""),
    "by another key": lambda a: replace(a, signature=OTHER.sign(CLAIM), signature_der=OTHER_DER),
    "from another key ARN": lambda a: replace(a, key_arn=KeyArn(a.key_arn.text[:-1] + "x")),
    "with the DER of another": lambda a: replace(a, signature_der=OTHER_DER),
    "with garbage for DER": lambda a: replace(a, signature_der=b"garbage"),
    "empty": lambda a: replace(a, signature=b""),
    "in DER where P1363 is due": lambda a: replace(a, signature=a.signature_der),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_a_signature_that_is_not_the_pinned_keys_is_withheld_and_recorded(
    bench: Bench, forge: Callable[[SignAnswer], SignAnswer]
) -> None:
    bench.kms.forge = forge
    told = await refusal_of(bench.sign())
    assert (told.reason, told.metadata["key"], told.retry_after) == (Reason.KmsAnswerInvalid, "media/brand", None)
    (event,) = await bench.records(Kind.OUTCOME)
    assert (event.outcome, event.reason) == (Outcome.FAILED, "KmsAnswerInvalid")
    assert [attempt.outcome for attempt in event.attempts] == [Outcome.SIGNED]


async def test_an_alias_that_moves_between_two_calls_changes_nothing_until_it_is_looked_at_again(bench: Bench) -> None:
    stored = bench.store(identity(ES256))
    alias = bench.kms.keys.point("brand", stored)
    bench.apply(certified_key(identity(ES256), alias), recipe_document())
    before = await bench.sign()
    bench.kms.keys.point("brand", bench.store(OTHER))
    after = await bench.sign()
    assert before.key_arn == after.key_arn == stored.arn.text
    signatures.verify(identity(ES256).public_key, ES256, after.signature, message=CLAIM)


async def test_a_key_deactivated_while_kms_is_asked_for_it_signs_no_more(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    bench.kms.look_gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign()))
    await until(lambda: bench.kms.looks == 1)
    bench.apply(certified_key(identity(ES256), stored.arn, state="Deactivated"), recipe_document())
    bench.kms.look_gate.set()
    assert (await answer).reason is Reason.KeyDeactivated
    assert bench.kms.signed == 0


async def test_a_key_replaced_while_kms_is_asked_for_it_is_not_the_one_that_signs(bench: Bench) -> None:
    bench.kms.look_gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign()))
    await until(lambda: bench.kms.looks == 1)
    bench.apply(certified_key(OTHER, bench.store(OTHER).arn), recipe_document())
    bench.kms.look_gate.set()
    assert (await answer).reason is Reason.CertificateChanged
    assert bench.kms.looks == 2


async def test_a_denial_of_kms_is_recorded_with_its_request(bench: Bench) -> None:
    stored = bench.use(identity(ES256))
    stored.granted = frozenset({"GetPublicKey"})
    told = await refusal_of(bench.sign())
    assert (told.reason, told.retry_after) == (Reason.KeyAccessDenied, None)
    (event,) = await bench.records(Kind.OUTCOME)
    assert (event.outcome, event.reason) == (Outcome.FAILED, "KeyAccessDenied")
    assert [attempt.outcome for attempt in event.attempts] == [Outcome.FAILED]


@pytest.mark.parametrize("granted", [set(), {"GetPublicKey"}], ids=["nothing", "no Sign"])
async def test_a_grant_that_comes_back_works_with_the_first_call_after_ten_seconds(
    bench: Bench, granted: set[str]
) -> None:
    stored = bench.use(identity(ES256))
    stored.granted = frozenset(granted)
    assert (await refusal_of(bench.sign())).reason is Reason.KeyAccessDenied
    stored.granted = frozenset({"Sign", "GetPublicKey"})
    assert (await refusal_of(bench.sign())).reason is Reason.KeyAccessDenied
    bench.clock.offset = timedelta(seconds=10)
    signatures.verify(identity(ES256).public_key, ES256, (await bench.sign()).signature, message=CLAIM)


async def test_waiting_is_advised_only_where_it_helps(bench: Bench) -> None:
    bench.kms.failure = THROTTLED
    assert (await refusal_of(bench.sign())).retry_after == 0.5
    bench.kms.failure = KmsError(Reason.KeyDisabled, "disabled")
    assert (await refusal_of(bench.sign())).retry_after is None


async def test_what_kms_was_never_asked_is_recorded_as_a_refusal(bench: Bench) -> None:
    data = {"@context": {"dc": "http://purl.org/dc/elements/1.1/"}, "dc:title": "long"}
    long = created_manifest(*({"label": "cawg.metadata", "data": data, "created": True} for _ in range(40)))
    who, source = identity(ED25519), (MEDIA_FOLDER / "landscape.jpg").read_bytes()
    bench.use(who)
    told = await refusal_of(bench.sign(bench.request(sign(who, "image/jpeg", source, long).sig_structure)))
    assert told.reason is Reason.MessageTooLong
    assert [event.reason for event in await bench.records(Kind.REFUSAL)] == ["MessageTooLong"]
    assert await bench.records(Kind.OUTCOME) == []


async def test_a_bug_after_kms_was_asked_is_recorded_as_unknown_and_told_without_its_words(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.kms.failure = ZeroDivisionError("inner workings")
    told = await refusal_of(bench.sign())
    assert (told.reason, "inner workings" in told.message) == (Reason.Internal, False)
    (event,) = await bench.records(Kind.OUTCOME)
    assert (event.outcome, event.attempts) == (Outcome.UNKNOWN, (Attempt(None, Outcome.UNKNOWN),))
    assert "inner workings" in caplog.text


async def test_what_was_signed_is_counted_by_key_and_recipe(bench: Bench) -> None:
    await asyncio.gather(*(bench.sign(bench.request(another_claim())) for _ in range(10)))
    metrics = bench.metrics.exposition().decode()
    assert 'byok_signer_signatures_total{key="media/brand",recipe="media/photo"} 10.0' in metrics
    assert 'byok_signer_kms_seconds_count{operation="Sign",outcome="ok"} 10.0' in metrics
    assert "byok_signer_in_flight 0.0" in metrics
