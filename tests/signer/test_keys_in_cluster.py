"""Watching and certifying keys where RBAC decides: the API server is a fake, all else is real."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from byok_api.audit import Kind
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.issuer import ServiceAccount
from tests.support.manifests import key_document
from tests.support.many_claims import another_claim
from tests.support.refusals import refusal_of
from tests.support.replicas import Watcher, watch
from tests.support.reviewing_cluster import ReviewingCluster, reviewing_cluster
from tests.support.signer import JOB, Bench, running_bench, until

OPERATOR, OWNER = ServiceAccount("byok-system", "byok-operator"), ServiceAccount("media", "owner")
SUBJECT = pb.CertificateSubject(common_name="Media signing", organization="Example Media")
REQUEST = pb.CreateCertificateRequestRequest(namespace="media", name="brand", subject=SUBJECT)


@pytest.fixture
async def cluster() -> AsyncIterator[ReviewingCluster]:
    async with reviewing_cluster() as running:
        for account in (JOB, OPERATOR, OWNER):
            running.add(account)
        running.grant(JOB, "media/photo")
        running.grant(OPERATOR, verb="probe")
        running.grant(OWNER, "media/brand", verb="certify")
        running.grant(OWNER, "media/brand", verb="probe")
        yield running


@pytest.fixture
async def bench(tmp_path: Path, cluster: ReviewingCluster) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path, cluster) as running:
        yield running


def watching_as(bench: Bench, account: ServiceAccount) -> Watcher:
    """Watch as somebody, and go on as the job."""
    bench.call_as(account)
    watcher = watch(bench)
    bench.call_as(JOB)
    return watcher


async def sign(bench: Bench) -> None:
    await bench.sign(bench.request(another_claim()))


async def certify(bench: Bench) -> pb.CreateCertificateRequestResponse:
    return await bench.certification.CreateCertificateRequest(REQUEST, metadata=bench.metadata)


async def test_who_may_probe_cluster_wide_watches_the_keys_of_all_namespaces(bench: Bench) -> None:
    watcher = watching_as(bench, OPERATOR)
    await sign(bench)
    assert (await watcher.until(pb.ProbeResult.PASSED)).namespace == "media"


@pytest.mark.parametrize("account", [JOB, OWNER])
async def test_who_may_probe_single_keys_only_watches_none(bench: Bench, account: ServiceAccount) -> None:
    told = await refusal_of(watching_as(bench, account).next())
    assert (told.reason, "cluster-wide" in told.message) == (Reason.ProbeNotAllowed, True)
    (record,) = await bench.records(Kind.REFUSAL)
    assert (record.reason, record.caller) == ("ProbeNotAllowed", account.username)


async def test_a_watch_ends_once_the_right_is_taken_away(bench: Bench, cluster: ReviewingCluster) -> None:
    watcher = watching_as(bench, OPERATOR)
    await watcher.next()
    cluster.granted -= {grant for grant in cluster.granted if grant[1] == "probe"}
    bench.clock.offset += timedelta(seconds=31)
    await sign(bench)
    assert (await refusal_of(watcher.until(pb.ProbeResult.PASSED))).reason is Reason.ProbeNotAllowed


async def test_a_certificate_request_takes_the_right_to_certify_and_names_the_decision(bench: Bench) -> None:
    bench.call_as(OWNER)
    answer = await certify(bench)
    assert x509.load_der_x509_csr(answer.request).is_signature_valid
    assert answer.decision_id.startswith("audit-")
    for kind in (Kind.INTENT, Kind.CERTIFY):
        assert [event.decision for event in await bench.records(kind)] == [answer.decision_id]


async def test_neither_jobs_nor_the_operator_certify(bench: Bench) -> None:
    for account in (JOB, OPERATOR):
        bench.call_as(account)
        assert (await refusal_of(certify(bench))).reason is Reason.CertifyNotAllowed


async def test_a_right_that_is_taken_away_while_the_intent_is_written_counts(
    bench: Bench, cluster: ReviewingCluster
) -> None:
    bench.call_as(OWNER)
    bench.audit.gate.clear()
    answer = asyncio.ensure_future(refusal_of(certify(bench)))
    await until(lambda: bench.audit.held == 1)
    cluster.granted.clear()
    bench.clock.offset += timedelta(seconds=31)
    bench.audit.gate.set()
    assert (await answer).reason in (Reason.ClusterUnavailable, Reason.CertifyNotAllowed)
    (record,) = await bench.records(Kind.CERTIFY)
    assert (record.attempts, bench.kms.signed) == ((), 0)


async def test_what_was_heard_too_long_ago_certifies_nothing(bench: Bench) -> None:
    stored = bench.kms.keys.find(bench.entry.key.handle.arn)
    bench.apply(key_document(aws={"keyArn": stored.arn.text}, verification={"staleAfter": "2h"}, certificate=None))
    bench.call_as(OWNER)
    bench.catalogue_confirmed_at = bench.clock.seconds() - 2 * 3600 - 1
    told = await refusal_of(certify(bench))
    assert (told.reason, told.retry_after) == (Reason.CatalogueStale, 5.0)
