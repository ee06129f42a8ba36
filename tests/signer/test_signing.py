"""From quota to outcome: what is announced before KMS is asked, and which requests share a signature."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, Kind, Outcome, read_record
from byok_api.errors import Reason
from byok_api.references import KeyArn
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.entries import SigningEntry
from byok_signer.kms.errors import KmsError
from tests.support.manifests import recipe_document
from tests.support.pki import identity
from tests.support.refusals import refusal_of
from tests.support.signer import Bench, certified_key, until

ES256 = SigningAlgorithm.ES256
DEMANDING: dict[str, Any] = {"c2pa": {"enabled": True, "assertions": ["creator"]}}
OTHER_ARN = KeyArn("arn:aws:kms:eu-central-1:111122223333:key/0d9bd0e4-6b8e-4a9c-9c5e-0d2f3c1b7a10")
THROTTLED = KmsError(Reason.KmsThrottled, "slow down", retry_after=0.5)


async def test_every_signature_is_announced_before_kms_is_asked(bench: Bench) -> None:
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(bench.sign())
    await until(lambda: bench.kms.signed == 1)
    (line,) = (bench.folder / "audit.jsonl").read_bytes().splitlines()[1:]
    intent = read_record(line)
    bench.kms.gate.set()
    await answer
    (outcome,) = await bench.records(Kind.OUTCOME)
    assert (intent.kind, outcome.intent) == (Kind.INTENT, intent.sequence)
    assert isinstance(intent.event, AuditEvent)
    assert intent.event == replace(outcome, kind=Kind.INTENT, outcome=None, attempts=(), intent=None)


async def test_without_a_durable_intent_kms_is_not_asked(bench: Bench) -> None:
    bench.audit.gate.clear()
    answer = asyncio.ensure_future(bench.sign())
    await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    assert not bench.kms.asked.is_set()
    bench.audit.gate.set()
    await answer


WITHDRAWN: dict[str, tuple[Callable[[Bench, SigningEntry], None], Reason]] = {
    "deactivated": (lambda bench, entry: respecify(bench, entry, state="Deactivated"), Reason.KeyDeactivated),
    "recipe changed": (lambda bench, entry: respecify(bench, entry, recipe=DEMANDING), Reason.RecipeChanged),
    "another ARN": (lambda bench, entry: respecify(bench, entry, OTHER_ARN), Reason.CertificateChanged),
    "expired": (lambda bench, _: setattr(bench.clock, "offset", timedelta(days=1000)), Reason.CertificateExpired),
}


def respecify(
    bench: Bench, entry: SigningEntry, arn: KeyArn | None = None, recipe: dict[str, Any] | None = None, **spec: object
) -> None:
    """Apply the key and the recipe again, with something else in them."""
    key = certified_key(identity(ES256), arn or entry.key.handle.arn, **spec)
    bench.apply(key, recipe_document(**(recipe or {})))


@pytest.mark.parametrize("change", WITHDRAWN)
async def test_what_is_withdrawn_while_its_intent_is_written_is_not_signed(bench: Bench, change: str) -> None:
    withdraw, reason = WITHDRAWN[change]
    entry = bench.entry
    bench.audit.gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign()))
    await until(lambda: bench.audit.held == 1)
    withdraw(bench, entry)
    bench.audit.gate.set()
    assert (await answer).reason is reason
    (outcome,) = await bench.records(Kind.OUTCOME)
    assert (outcome.outcome, outcome.reason, outcome.attempts) == (Outcome.FAILED, reason.name, ())
    assert bench.kms.signed == 0


async def test_the_same_claim_asked_for_again_costs_no_second_signature_and_is_recorded(bench: Bench) -> None:
    first, second = await bench.sign(), await bench.sign()
    assert (first.signature, first.kms_request_id) == (second.signature, second.kms_request_id)
    made, repeated = await bench.records(Kind.OUTCOME)
    assert (repeated.outcome, repeated.attempts, repeated.repeats) == (Outcome.SIGNED, (), 2)
    assert (bench.kms.signed, made.repeats) == (1, None)
    assert first.audit_id != second.audit_id


async def test_equal_calls_at_once_share_one_signature(bench: Bench) -> None:
    bench.kms.gate.clear()
    calls = [asyncio.ensure_future(bench.sign()) for _ in range(5)]
    await until(lambda: bench.kms.signed == 1)
    bench.kms.gate.set()
    assert len({answer.signature for answer in await asyncio.gather(*calls)}) == bench.kms.signed == 1
    assert len([event for event in await bench.records(Kind.OUTCOME) if event.repeats]) == 4


async def test_a_signature_is_not_repeated_once_its_key_is_deactivated(bench: Bench) -> None:
    request = bench.request()
    await bench.sign(request)
    respecify(bench, bench.entry, state="Deactivated")
    assert (await refusal_of(bench.sign(request))).reason is Reason.KeyDeactivated


async def test_a_failure_is_not_repeated(bench: Bench) -> None:
    bench.kms.failure = THROTTLED
    await refusal_of(bench.sign())
    bench.kms.failure = None
    assert (await bench.sign()).signature


async def test_who_joined_a_call_that_ran_out_of_time_has_the_claim_signed_anew(bench: Bench) -> None:
    late = KmsError(Reason.KmsDeadlineExceeded, "too late", attempts=(Attempt(None, Outcome.UNKNOWN),))
    bench.kms.gate.clear()
    bench.kms.failure = late
    first = bench.signer.SignClaim(bench.request(), metadata=bench.metadata, timeout=2)
    await until(lambda: bench.kms.signed == 1)
    reached = time.monotonic()
    second = asyncio.ensure_future(bench.sign())
    await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    assert await first.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # By the signer's count it came later, and so ends later.
    await until(lambda: time.monotonic() > reached + 2)
    bench.kms.fails_once = True
    bench.kms.gate.set()
    assert (await second).signature
    assert bench.kms.signed == 2


@pytest.mark.parametrize("change", WITHDRAWN)
async def test_what_is_withdrawn_while_kms_is_asked_is_recorded_as_made_and_not_released(
    bench: Bench, change: str
) -> None:
    withdraw, reason = WITHDRAWN[change]
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign()))
    await until(lambda: bench.kms.signed == 1)
    withdraw(bench, bench.entry)
    bench.kms.gate.set()
    assert (await answer).reason is reason
    (intent,) = await bench.records(Kind.INTENT)
    (outcome,) = await bench.records(Kind.OUTCOME)
    assert (outcome.outcome, outcome.reason, outcome.claim_sha256) == (Outcome.FAILED, reason.name, intent.claim_sha256)
    assert [attempt.outcome for attempt in outcome.attempts] == [Outcome.SIGNED]


async def test_what_was_made_of_a_key_deactivated_meanwhile_is_not_given_out_once_it_is_active_again(
    bench: Bench,
) -> None:
    bench.kms.gate.clear()
    request, catalogue = bench.request(), bench.catalogue
    answer = asyncio.ensure_future(refusal_of(bench.sign(request)))
    await until(lambda: bench.kms.signed == 1)
    respecify(bench, bench.entry, state="Deactivated")
    bench.kms.gate.set()
    await answer
    bench.catalogue = catalogue
    assert (await bench.sign(request)).signature
    assert bench.kms.signed == 2


async def test_a_key_deactivated_while_equal_calls_wait_for_one_signature_gives_it_to_none(bench: Bench) -> None:
    bench.kms.gate.clear()
    request, entry = bench.request(), bench.entry
    first = asyncio.ensure_future(refusal_of(bench.sign(request)))
    await until(lambda: bench.kms.signed == 1)
    joined = asyncio.ensure_future(refusal_of(bench.sign(request)))
    await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    respecify(bench, entry, state="Deactivated")
    bench.kms.gate.set()
    assert (await first).reason is Reason.KeyDeactivated
    assert (await joined).reason is Reason.KeyDeactivated
