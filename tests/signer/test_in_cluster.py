"""The signer in a cluster, through its gRPC door: RBAC decides who may use what, and for how long an answer counts."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind, Outcome
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.issuer import ServiceAccount
from byok_signer.access import LIMIT
from tests.support.claims import created_claim
from tests.support.manifests import key_document, recipe_document
from tests.support.many_claims import another_claim
from tests.support.pki import identity
from tests.support.refusals import refusal_of, status_in, told_by
from tests.support.reviewing_cluster import ACCESS_REVIEW, TOKEN_REVIEW, ReviewingCluster, reviewing_cluster
from tests.support.signer import DEADLINE, JOB, Bench, certified_key, running_bench, until

ES256 = SigningAlgorithm.ES256
CLAIM = created_claim().sig_structure
SPORTS = ServiceAccount("sports", "job")
NOBODY = ServiceAccount("other", "job")
SHARED: dict[str, Any] = {"allowedConsumers": {"namespaces": ["sports"]}}
METHODS = ["GetRecipe", "SignClaim", "SignDigest", "Verify", "GetPublicKey"]


@pytest.fixture
async def cluster() -> AsyncIterator[ReviewingCluster]:
    async with reviewing_cluster() as running:
        for account in (JOB, SPORTS, NOBODY):
            running.add(account)
        running.grant(JOB, "media/photo")
        yield running


@pytest.fixture
async def bench(tmp_path: Path, cluster: ReviewingCluster) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path, cluster) as running:
        yield running


def pass_time(bench: Bench, seconds: float) -> None:
    bench.clock.offset += timedelta(seconds=seconds)


async def test_a_signature_carries_the_decision_that_allowed_it_in_answer_and_trail(
    bench: Bench, cluster: ReviewingCluster
) -> None:
    answer = await bench.sign()
    signatures.verify(identity(ES256).public_key, ES256, answer.signature, message=CLAIM)
    assert answer.decision_id == "audit-3"  # the issuer's keys and the token came first
    assert cluster.asked == {"jwks": 1, TOKEN_REVIEW: 1, ACCESS_REVIEW: 1}
    for kind in (Kind.INTENT, Kind.OUTCOME):
        assert [event.decision for event in await bench.records(kind)] == ["audit-3"]


async def test_a_refusal_names_the_decision_in_the_trail(bench: Bench) -> None:
    bench.call_as(NOBODY)
    assert (await refusal_of(bench.sign(bench.request(recipe="media/photo")))).reason is Reason.RecipeNotAllowed
    (event,) = await bench.records(Kind.REFUSAL)
    assert (event.caller, event.recipe, event.decision) == (NOBODY.username, "media/photo", "audit-3")


async def test_a_callers_own_namespace_is_no_right(bench: Bench, cluster: ReviewingCluster) -> None:
    cluster.granted.clear()
    assert (await refusal_of(bench.sign())).reason is Reason.RecipeNotAllowed


@pytest.mark.parametrize(
    ("spec", "granted", "reason"),
    [
        (SHARED, "media/photo", None),
        (SHARED, "", None),
        (SHARED, "media/photo-v2", Reason.RecipeNotAllowed),
        (SHARED, None, Reason.RecipeNotAllowed),
        ({}, "media/photo", Reason.KeyNotAllowed),
        ({}, None, Reason.RecipeNotAllowed),
    ],
    ids=["granted", "granted all", "granted another", "not granted", "not consumer", "neither"],
)
async def test_a_caller_of_another_namespace_needs_the_right_and_the_key_owners_consent(
    bench: Bench, cluster: ReviewingCluster, spec: dict[str, Any], granted: str | None, reason: Reason | None
) -> None:
    bench.use(identity(ES256), **spec)
    if granted is not None:
        cluster.grant(SPORTS, granted)
    bench.call_as(SPORTS)
    request = bench.request(recipe="media/photo")
    if reason is None:
        signatures.verify(identity(ES256).public_key, ES256, (await bench.sign(request)).signature, message=CLAIM)
    else:
        assert (await refusal_of(bench.sign(request))).reason is reason


async def bytes_of(bench: Bench, method: str) -> tuple[object, ...]:
    message = getattr(pb, f"{method}Request")(recipe="media/photo")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(bench.signer, method)(message, metadata=bench.metadata, timeout=DEADLINE)
    return caught.value.code(), caught.value.details(), status_in(caught.value).SerializeToString()


async def test_without_the_right_unknown_and_forbidden_are_answered_with_the_same_bytes(bench: Bench) -> None:
    bench.call_as(NOBODY)
    there = [await bytes_of(bench, method) for method in METHODS]
    bench.apply()
    assert there == [await bytes_of(bench, method) for method in METHODS]
    assert len(set(there)) == 1


async def test_a_probe_takes_the_right_to_probe(bench: Bench, cluster: ReviewingCluster) -> None:
    request = pb.ProbeKeyRequest(namespace="media", name="brand")
    assert (await refusal_of(bench.probe.ProbeKey(request, metadata=bench.metadata))).reason is Reason.ProbeNotAllowed
    cluster.grant(SPORTS, verb="probe")
    bench.call_as(SPORTS)
    answer = await bench.probe.ProbeKey(request, metadata=bench.metadata)
    assert answer.sign.outcome == pb.ProbeResult.PASSED


async def test_who_may_probe_all_keys_is_asked_about_once(bench: Bench, cluster: ReviewingCluster) -> None:
    cluster.grant(SPORTS, verb="probe")
    bench.call_as(SPORTS)
    names = [f"key-{number}" for number in range(5)]
    bench.apply(*(key_document(f"media/{name}") for name in names))
    for name in names:
        await bench.probe.ProbeKey(pb.ProbeKeyRequest(namespace="media", name=name), metadata=bench.metadata)
    assert cluster.asked[ACCESS_REVIEW] == 1


async def test_who_may_probe_one_key_may_probe_no_other(bench: Bench, cluster: ReviewingCluster) -> None:
    cluster.grant(SPORTS, "media/brand", verb="probe")
    bench.call_as(SPORTS)
    request = pb.ProbeKeyRequest(namespace="media", name="brand")
    assert (await bench.probe.ProbeKey(request, metadata=bench.metadata)).sign.outcome == pb.ProbeResult.PASSED
    other = pb.ProbeKeyRequest(namespace="media", name="other")
    assert (await refusal_of(bench.probe.ProbeKey(other, metadata=bench.metadata))).reason is Reason.ProbeNotAllowed
    (event,) = await bench.records(Kind.REFUSAL)
    assert (event.key, event.decision) == ("media/other", f"audit-{cluster.asked.total()}")


async def test_fifty_callers_cost_one_question_of_each_kind_each(bench: Bench, cluster: ReviewingCluster) -> None:
    accounts = [cluster.add(ServiceAccount("media", f"job-{number}")) for number in range(50)]
    for account in accounts:
        cluster.grant(account, "media/photo")
        bench.call_as(account)
        await asyncio.gather(*(bench.sign() for _ in range(10)))
    assert (cluster.asked[TOKEN_REVIEW], cluster.asked[ACCESS_REVIEW]) == (50, 50)
    assert cluster.most_open <= 16


async def test_while_the_api_server_is_away_for_a_minute_no_call_of_a_known_caller_fails(
    bench: Bench, cluster: ReviewingCluster
) -> None:
    known = bench.token
    await bench.sign()
    await cluster.stop()
    for _ in range(60):
        pass_time(bench, 1)
        bench.token = known
        await asyncio.gather(*(bench.sign(bench.request(another_claim())) for _ in range(3)))
        bench.token = cluster.issuer.mint(SPORTS, now=bench.clock.now())
        told = await refusal_of(bench.sign())
        assert told.reason is Reason.ClusterUnavailable
        assert told.retry_after is not None
    await cluster.start()
    cluster.grant(SPORTS)
    bench.use(identity(ES256), **SHARED)
    pass_time(bench, told.retry_after or 0)
    answers = [await _patiently(bench) for _ in range(2)]
    assert len(answers) == 2


async def _patiently(bench: Bench) -> pb.SignClaimResponse:
    """Call as the SDK does: again after the time that a refusal names."""
    while True:
        try:
            return await bench.sign(bench.request(recipe="media/photo"))
        except grpc.aio.AioRpcError as error:
            retry_after = told_by(status_in(error)).retry_after
            assert retry_after is not None
            pass_time(bench, retry_after)


STALE: dict[str, Any] = {"verification": {"staleAfter": "2h"}}


@pytest.mark.parametrize(("hours", "spec", "signs"), [(1.9, STALE, True), (2.1, STALE, False), (23.9, {}, True)])
async def test_without_the_api_server_a_key_signs_until_stale_after(
    bench: Bench, cluster: ReviewingCluster, hours: float, spec: dict[str, Any], *, signs: bool
) -> None:
    bench.use(identity(ES256), **spec)
    bench.call_as(JOB, lifetime=timedelta(days=2))
    await bench.sign()
    await cluster.stop()
    pass_time(bench, hours * 3600)
    if signs:
        assert (await bench.sign(bench.request(another_claim()))).signature
    else:
        told = await refusal_of(bench.sign(bench.request(another_claim())))
        assert (told.reason, told.metadata["key"]) == (Reason.CatalogueStale, "media/brand")
        assert told.retry_after is not None


async def test_a_catalogue_that_was_not_heard_of_for_too_long_signs_no_more(bench: Bench) -> None:
    bench.use(identity(ES256), **STALE)
    bench.catalogue_confirmed_at = bench.clock.seconds() - 7100
    await bench.sign()
    bench.catalogue_confirmed_at -= 200
    assert (await refusal_of(bench.sign())).reason is Reason.CatalogueStale
    bench.catalogue_confirmed_at = bench.clock.seconds()
    await bench.sign()


@pytest.mark.parametrize("what", ["right", "account"])
async def test_what_is_taken_away_while_a_call_waits_for_kms_counts(
    bench: Bench, cluster: ReviewingCluster, what: str
) -> None:
    bench.kms.look_gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign()))
    await until(lambda: bench.kms.looks == 1)
    (cluster.granted if what == "right" else cluster.uids).clear()
    pass_time(bench, LIMIT)
    bench.kms.look_gate.set()
    assert (await answer).reason is (Reason.RecipeNotAllowed if what == "right" else Reason.TokenInvalid)
    assert bench.kms.signed == 0


@pytest.mark.parametrize("what", ["right", "account"])
async def test_a_denial_that_another_call_met_counts_for_those_that_wait_with_their_intent_recorded(
    bench: Bench, cluster: ReviewingCluster, what: str
) -> None:
    await bench.sign()
    bench.audit.gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign(bench.request(another_claim()))))
    await until(lambda: bench.audit.held == 1)
    (cluster.granted if what == "right" else cluster.uids).clear()
    pass_time(bench, LIMIT)
    other = asyncio.ensure_future(refusal_of(bench.sign(bench.request(another_claim()))))
    await until(
        lambda: f'kind="{ACCESS_REVIEW if what == "right" else TOKEN_REVIEW}",outcome="denied"' in counted(bench)
    )
    bench.audit.gate.set()
    assert (await answer).reason is (await other).reason
    assert bench.kms.signed == 1


def counted(bench: Bench) -> str:
    return bench.metrics.exposition().decode()


async def test_a_call_that_waited_longer_than_an_answer_counts_is_to_be_made_again(bench: Bench) -> None:
    await bench.sign()
    bench.audit.gate.clear()
    answer = asyncio.ensure_future(refusal_of(bench.sign(bench.request(another_claim()))))
    await until(lambda: bench.audit.held == 1)
    pass_time(bench, LIMIT)
    bench.audit.gate.set()
    told = await answer
    assert told.reason is Reason.ClusterUnavailable
    assert told.retry_after == 0.1
    assert bench.kms.signed == 1
    outcomes = await bench.records(Kind.OUTCOME)
    assert [(event.outcome, event.reason) for event in outcomes[1:]] == [(Outcome.FAILED, "ClusterUnavailable")]


async def test_a_stream_ends_once_its_caller_loses_the_right(bench: Bench, cluster: ReviewingCluster) -> None:
    stream = bench.signer.SignClaims(metadata=bench.metadata, timeout=DEADLINE)
    recipe_hash = bench.entry.recipe.hash

    async def send(name: str) -> None:
        items = [pb.SignClaimsItem(id=name, claim=another_claim())]
        await stream.write(pb.SignClaimsRequest(recipe="photo", expected_recipe_hash=recipe_hash, items=items))

    await send("a")
    answer = await stream.read()
    assert isinstance(answer, pb.SignClaimsResponse)
    assert answer.results[0].signed.decision_id == "audit-3"
    cluster.granted.clear()
    pass_time(bench, LIMIT)
    await send("b")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert told_by(status_in(caught.value)).reason is Reason.RecipeNotAllowed


async def test_consent_withdrawn_by_the_keys_owner_counts_at_once(bench: Bench, cluster: ReviewingCluster) -> None:
    stored = bench.use(identity(ES256), **SHARED)
    cluster.grant(SPORTS)
    bench.call_as(SPORTS)
    request = bench.request(recipe="media/photo")
    await bench.sign(request)
    bench.apply(certified_key(identity(ES256), stored.arn), recipe_document())
    assert (await refusal_of(bench.sign(request))).reason is Reason.KeyNotAllowed
