"""KeyProbe.WatchHealth over the real door: who may watch, what they see, and when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind
from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.issuer import ServiceAccount
from byok_sandbox.software_kms import GRANTED
from byok_signer.entries import SigningEntry
from byok_signer.kms.errors import KmsError
from tests.support.manifests import recipe_document
from tests.support.many_claims import another_claim
from tests.support.pki import certified, identity, new_key
from tests.support.refusals import refusal_of
from tests.support.replicas import replica_of, watch
from tests.support.signer import DEADLINE, Bench, certified_key

ES256 = SigningAlgorithm.ES256
PASSED, FAILED, UNKNOWN, GONE = (
    pb.ProbeResult.PASSED,
    pb.ProbeResult.FAILED,
    pb.ProbeResult.UNKNOWN,
    pb.ProbeResult.OUTCOME_UNSPECIFIED,
)


@pytest.fixture
async def replica(bench: Bench) -> AsyncIterator[Bench]:
    async with replica_of(bench) as running:
        yield running


async def sign(bench: Bench) -> None:
    await bench.sign(bench.request(another_claim()))


async def refused(bench: Bench) -> Reason:
    return (await refusal_of(bench.sign(bench.request(another_claim())))).reason


def grants(bench: Bench, operations: frozenset[str]) -> None:
    bench.kms.keys.find(bench.entry.key.handle.arn).granted = operations


def hash_of(bench: Bench, recipe: str) -> str:
    entry = bench.catalogue.recipes[ObjectName("media", recipe)]
    assert isinstance(entry, SigningEntry)
    return entry.recipe.hash


async def test_what_is_known_comes_first_even_if_it_is_nothing(replica: Bench) -> None:
    first = await watch(replica).next()
    assert (first.replica, first.snapshot, list(first.keys)) == ("one", True, [])
    await sign(replica)
    second = await watch(replica).next()
    assert [(health.name, health.outcome) for health in second.keys] == [("brand", PASSED)]
    assert second.keys[0].HasField("last_verified")


async def test_a_grant_that_goes_and_comes_back_is_seen_soon_after_the_call_that_met_it(
    replica: Bench,
) -> None:
    watcher = watch(replica)
    await sign(replica)
    await watcher.until(PASSED)
    grants(replica, frozenset({"GetPublicKey"}))
    assert await refused(replica) is Reason.KeyAccessDenied
    async with asyncio.timeout(10):
        health = await watcher.until(FAILED)
    assert (health.reason, "kms:Sign" in health.message) == ("KeyAccessDenied", True)
    assert health.HasField("last_verified")
    grants(replica, GRANTED)
    assert await refused(replica) is Reason.KeyAccessDenied  # the breaker's: no trial yet
    replica.clock.offset = timedelta(seconds=10)
    await sign(replica)
    async with asyncio.timeout(10):
        assert (await watcher.until(PASSED)).reason == ""


async def test_a_public_key_that_is_denied_is_a_failure_too(replica: Bench) -> None:
    grants(replica, frozenset())
    watcher = watch(replica)
    assert await refused(replica) is Reason.KeyAccessDenied
    assert "kms:GetPublicKey" in (await watcher.until(FAILED)).message


async def test_another_public_key_than_the_certificates_is_a_failure(replica: Bench) -> None:
    stored = replica.kms.keys.find(replica.entry.key.handle.arn)
    stored.material = replica.kms.keys.create("ECC_NIST_P256").material
    watcher = watch(replica)
    assert await refused(replica) is Reason.CertificateMismatch
    assert (await watcher.until(FAILED)).reason == "CertificateMismatch"


async def test_a_signature_that_does_not_verify_is_a_failure(replica: Bench) -> None:
    replica.kms.forge = lambda answer: replace(answer, signature=b"\x01" * 64)
    watcher = watch(replica)
    assert await refused(replica) is Reason.KmsAnswerInvalid
    assert (await watcher.until(FAILED)).reason == "KmsAnswerInvalid"


async def test_a_key_of_which_nothing_good_was_heard_is_unknown_while_kms_is_away(replica: Bench) -> None:
    replica.kms.failure = KmsError(Reason.KmsUnavailable, "out")
    watcher = watch(replica)
    assert await refused(replica) is Reason.KmsUnavailable
    assert (await watcher.until(UNKNOWN)).reason == "KmsUnavailable"


async def test_a_key_that_is_gone_is_said_to_be(replica: Bench) -> None:
    watcher = watch(replica)
    await sign(replica)
    await watcher.until(PASSED)
    replica.apply(recipe_document())
    await watcher.until(GONE)
    assert list((await watch(replica).next()).keys) == []


async def test_without_a_cluster_callers_watch_the_keys_of_their_own_namespace(replica: Bench) -> None:
    await sign(replica)
    mine = watch(replica)
    replica.call_as(ServiceAccount("vault", "job"))
    foreign = watch(replica)
    assert (len((await mine.next()).keys), len((await foreign.next()).keys)) == (1, 0)


@pytest.mark.parametrize(("token", "reason"), [("", Reason.TokenMissing), ("garbage", Reason.TokenInvalid)])
async def test_who_has_no_good_token_watches_nothing(replica: Bench, token: str, reason: Reason) -> None:
    replica.token = token
    assert (await refusal_of(watch(replica).next())).reason is reason


async def test_a_watch_ends_with_its_token(replica: Bench) -> None:
    replica.call_as(ServiceAccount("media", "job"), lifetime=timedelta(seconds=5))
    watcher = watch(replica)
    await watcher.next()
    assert (await refusal_of(watcher.next())).reason is Reason.TokenExpired


async def test_a_watch_ends_when_the_signer_does_and_says_that_another_answers(replica: Bench) -> None:
    watcher = watch(replica)
    await watcher.next()
    stopping = asyncio.ensure_future(replica.server.stop(DEADLINE))
    told = await refusal_of(watcher.next())
    assert (told.reason, told.retry_after is not None) == (Reason.ShuttingDown, True)
    await stopping


async def test_watchers_that_take_nothing_hold_up_neither_signing_nor_others(bench: Bench) -> None:
    async with replica_of(bench, answer_seconds=0.2) as replica, AsyncExitStack() as stack:
        silent = [watch(replica) for _ in range(4)]
        stack.callback(lambda: [watcher.call.cancel() for watcher in silent])
        for watcher in silent:
            await watcher.next()
        assert (await refusal_of(watch(replica).next())).reason is Reason.CallerLimited
        replica.call_as(ServiceAccount("media", "other"))
        other = watch(replica)
        await sign(replica)
        assert (await other.until(PASSED)).reason == ""


async def test_callers_without_a_watch_get_one_however_many_there_are(bench: Bench) -> None:
    async with replica_of(bench, watches=2) as replica:
        first, second = watch(replica), watch(replica)
        await first.next()
        await second.next()
        assert (await refusal_of(watch(replica).next())).reason is Reason.CallerLimited
        replica.call_as(ServiceAccount("media", "other"))
        assert (await watch(replica).next()).snapshot


async def test_a_watch_that_was_left_makes_room(bench: Bench) -> None:
    async with replica_of(bench, watches_per_caller=1) as replica:
        watcher = watch(replica)
        await watcher.next()
        watcher.call.cancel()
        await replica.edge.idle()
        assert (await watch(replica).next()).snapshot


async def test_what_is_known_of_many_keys_comes_in_parts(replica: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_signer.watching.KEYS_LIMIT", 1)
    await sign(replica)
    other = certified(new_key(ES256), ES256)
    stored = replica.store(other)
    stored.granted = frozenset()
    first, second = certified_key(identity(ES256), replica.entry.key.handle.arn), certified_key(other, stored.arn)
    second["metadata"]["name"] = "second"
    replica.apply(first, second, recipe_document(), recipe_document("media/other", keyRef={"name": "second"}))
    request = replica.request(recipe="other")
    request.expected_recipe_hash = hash_of(replica, "other")
    await refusal_of(replica.sign(request))
    watcher = watch(replica)
    parts = [await watcher.next() for _ in range(2)]
    assert [(part.snapshot, [health.name for health in part.keys]) for part in parts] == [
        (True, ["brand"]),
        (False, ["second"]),
    ]


async def test_a_refused_watch_is_recorded(replica: Bench) -> None:
    async with replica_of(replica, "two", watches_per_caller=0) as other:
        assert (await refusal_of(watch(other).next())).reason is Reason.CallerLimited
        (record,) = await other.records(Kind.REFUSAL)
    assert record.reason == "CallerLimited"


async def test_a_malformed_message_is_refused(replica: Bench) -> None:
    call = replica.raw_stream("/byok.signer.v1.KeyProbe/WatchHealth")(metadata=replica.metadata, timeout=DEADLINE)
    await call.write(b"\xff")
    assert (await refusal_of(call.read())).reason is Reason.InvalidRequest
