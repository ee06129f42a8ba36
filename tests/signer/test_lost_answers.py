"""An answer of KMS that got lost is on record before KMS is asked again: an intent stands for one signature at most."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditId, Kind, Outcome, read_record, verify_chain
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.audit import sinks
from byok_signer.kms.errors import KmsError
from tests.support.pki import identity
from tests.support.refusals import refusal_of
from tests.support.replicas import replica_of
from tests.support.signer import Bench, until

LOST = (Attempt(None, Outcome.UNKNOWN),)
NOT_SENT = KmsError(Reason.KmsUnavailable, "no connection")
DENIED = KmsError(Reason.KeyAccessDenied, "no", attempts=(Attempt("r1", Outcome.FAILED),))


@pytest.fixture
async def signer(bench: Bench) -> AsyncIterator[Bench]:
    async with replica_of(bench) as running:
        yield running


async def certify(signer: Bench) -> str:
    asked = pb.CreateCertificateRequestRequest(
        namespace="media", name="brand", subject=pb.CertificateSubject(common_name="Media", organization="Example")
    )
    return (await signer.certification.CreateCertificateRequest(asked, metadata=signer.metadata)).audit_id


async def sign(signer: Bench) -> str:
    return (await signer.sign()).audit_id


ASK: dict[Kind, Callable[[Bench], Awaitable[str]]] = {Kind.OUTCOME: sign, Kind.CERTIFY: certify}


@pytest.mark.parametrize("kind", ASK)
async def test_each_answer_lost_is_told_by_the_intent_that_follows(signer: Bench, kind: Kind) -> None:
    signer.kms.losses = 2
    audit_id = AuditId.parse(await ASK[kind](signer))
    (intent, again, once_more), (done,) = await signer.records(Kind.INTENT), await signer.records(kind)
    assert [(each.intent, each.attempts) for each in (intent, again, once_more)] == [(None, ()), (1, LOST), (2, LOST)]
    assert (done.intent, [attempt.outcome for attempt in done.attempts]) == (3, [Outcome.SIGNED])
    assert (done.outcome, audit_id.sequence, signer.kms.signed) == (Outcome.SIGNED, 4, 3)
    subjects = [
        (each.request_id, each.caller, each.key, each.manifest, each.decision) for each in (intent, again, done)
    ]
    assert len(set(subjects)) == 1


@pytest.mark.parametrize("kind", ASK)
async def test_the_trail_accounts_for_all_that_kms_signed(signer: Bench, kind: Kind) -> None:
    signer.kms.losses = 2
    await ASK[kind](signer)
    report = verify_chain((signer.folder / "audit.jsonl").read_bytes().splitlines(keepends=True))
    assert (report.intact, report.unknown, report.intent_count) == (True, 2, 0)


async def test_kms_is_not_asked_again_before_the_loss_is_durable(bench: Bench) -> None:
    bench.kms.losses = 1
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(bench.sign())
    await until(lambda: bench.kms.signed == 1)
    bench.audit.gate.clear()
    bench.kms.gate.set()
    await until(lambda: bench.audit.held == 1)
    await bench.signer.GetPublicKey(pb.GetPublicKeyRequest(recipe="photo"), metadata=bench.metadata)
    assert bench.kms.signed == 1
    bench.audit.gate.set()
    await answer
    assert bench.kms.signed == 2


async def test_a_request_that_is_not_sent_after_a_loss_may_have_been_signed(bench: Bench) -> None:
    bench.kms.losses, bench.kms.failure = 1, NOT_SENT
    assert (await refusal_of(bench.sign())).reason is Reason.KmsUnavailable
    (done,) = await bench.records(Kind.OUTCOME)
    assert (done.intent, done.outcome, done.attempts) == (2, Outcome.UNKNOWN, ())


@pytest.mark.parametrize(("losses", "then"), [(0, Reason.KmsUnavailable), (1, Reason.KeyRateLimited)])
async def test_a_loss_has_spent_its_token(bench: Bench, losses: int, then: Reason) -> None:
    bench.use(identity(SigningAlgorithm.ES256), rateLimit={"signaturesPerSecond": 1, "burst": 1})
    bench.pipeline._ports.quotas._clock = lambda: 0.0  # noqa: SLF001 - no time passes, and no token comes with it
    bench.kms.losses, bench.kms.failure = losses, NOT_SENT
    assert (await refusal_of(bench.sign())).reason is Reason.KmsUnavailable
    assert (await refusal_of(bench.sign())).reason is then


async def test_what_is_refused_after_a_loss_has_its_own_attempts_only(bench: Bench) -> None:
    bench.kms.losses, bench.kms.failure = 1, DENIED
    assert (await refusal_of(bench.sign())).reason is Reason.KeyAccessDenied
    (done,) = await bench.records(Kind.OUTCOME)
    assert (done.intent, done.outcome, done.reason) == (2, Outcome.UNKNOWN, "KeyAccessDenied")
    assert done.attempts == DENIED.attempts


@pytest.mark.parametrize("kind", ASK)
async def test_a_loss_that_is_refused_a_record_ends_it_and_is_told_by_the_outcome(
    signer: Bench, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer.kms.losses = 1
    signer.kms.gate.clear()
    answer = asyncio.ensure_future(refusal_of(ASK[kind](signer)))
    await until(lambda: signer.kms.signed == 1)
    monkeypatch.setattr(sinks, "MAX_PENDING", 0)
    signer.kms.gate.set()
    assert (await answer).reason is Reason.AuditUnavailable
    (done,) = await signer.records(kind)
    assert (done.intent, done.outcome, done.reason, done.attempts) == (1, Outcome.UNKNOWN, "AuditUnavailable", LOST)
    assert signer.kms.signed == 1


async def test_a_loss_that_a_broken_disk_does_not_take_is_an_intent_without_outcome(bench: Bench) -> None:
    bench.kms.losses = 1
    bench.kms.gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign()))
    await until(lambda: bench.kms.signed == 1)
    with (bench.folder / "audit.jsonl").open("rb") as trail:
        (bench.folder / "audit.jsonl").unlink()
        bench.kms.gate.set()
        assert (await answer).reason is Reason.AuditUnavailable
        assert [read_record(line.rstrip(b"\n")).kind for line in trail] == [Kind.CHAIN_START, Kind.INTENT]
    assert bench.kms.signed == 1


async def test_a_loss_says_nothing_of_the_key(bench: Bench) -> None:
    bench.kms.losses = 1
    await bench.sign()
    health = bench.pipeline.health.look_up(bench.entry.key.name)
    assert (health.reason, health.last_verified is not None) == (None, True)
