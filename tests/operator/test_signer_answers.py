"""What signers say, also those of other versions and what is no signer, in the operator's words."""

from datetime import UTC, datetime

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_operator.observations import Outcome
from byok_operator.signer_answers import failed_call, health_in, probe_in
from byok_signer.rpc_status import STATUS_DETAILS_KEY, status_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
CODE = grpc.StatusCode


def error(code: grpc.StatusCode, details: str = "words", status: bytes | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata(*([(STATUS_DETAILS_KEY, status)] if status is not None else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details)


@pytest.mark.parametrize("delay", [None, 0.5])
def test_a_refusal_is_read_with_its_delay(delay: float | None) -> None:
    status = status_of(Refusal(Reason.GenerationNotSeen, "words", retry_after=delay)).SerializeToString()
    failure = failed_call(error(CODE.UNAVAILABLE, status=status), "one:1")
    assert (failure.reason, failure.message, failure.retry_after) == ("GenerationNotSeen", "words", delay)
    assert not failure.is_transport_failure


def test_a_reason_of_a_newer_signer_is_passed_on() -> None:
    status = status_of(Refusal(Reason.Internal, "words")).SerializeToString().replace(b"Internal", b"Tomorrow")
    assert failed_call(error(CODE.INTERNAL, status=status), "one:1").reason == "Tomorrow"


@pytest.mark.parametrize(
    ("code", "details", "reason", "said"),
    [
        (CODE.UNAVAILABLE, "connection refused", Reason.SignerUnreachable, "no signer answers at one:1: UNAVAILABLE"),
        (CODE.CANCELLED, "", Reason.SignerUnreachable, "no signer answers"),
        (CODE.DEADLINE_EXCEEDED, "", Reason.SignerUnreachable, "no signer answers"),
        (CODE.UNAVAILABLE, "SSL: CERTIFICATE_VERIFY_FAILED", Reason.SignerUnreachable, "is not trusted"),
        (CODE.UNIMPLEMENTED, "", Reason.SignerUnreachable, "is no signer of this version"),
        (CODE.UNKNOWN, "a proxy's", Reason.Internal, "UNKNOWN: a proxy's"),
    ],
)
def test_without_a_reason_the_code_tells(code: grpc.StatusCode, details: str, reason: Reason, said: str) -> None:
    failure = failed_call(error(code, details), "one:1")
    assert (failure.reason, failure.retry_after, said in failure.message) == (reason.name, None, True)
    assert failure.is_transport_failure is (reason is Reason.SignerUnreachable)


@pytest.mark.parametrize(
    "status",
    [b"\xff", b"", Status(details=[Any(type_url="x/google.rpc.ErrorInfo", value=b"\xff")]).SerializeToString()],
)
def test_details_that_are_damaged_are_none(status: bytes) -> None:
    assert failed_call(error(CODE.UNAVAILABLE, status=status), "one:1").is_transport_failure


def test_what_who_knows_what_answers_is_repeated_in_part() -> None:
    assert len(failed_call(error(CODE.UNKNOWN, "x" * 100_000), "one:1").message) < 400


def test_checks_that_an_older_signer_does_not_make_are_unknown() -> None:
    probe = probe_in(pb.ProbeKeyResponse(), AT, replica="one:1")
    findings = (probe.public_key, probe.sign, probe.certificate, probe.standing)
    assert [finding.outcome for finding in findings] == [Outcome.UNKNOWN] * 4
    assert (probe.replica, probe.least_privilege, probe.facts.multi_region) == ("one:1", None, None)


def test_facts_are_told_where_they_are_known() -> None:
    response = pb.ProbeKeyResponse(key_state="Disabled", origin="EXTERNAL", multi_region=False, replica="one")
    probe = probe_in(response, AT, replica="one:1")
    facts = probe.facts
    assert (facts.key_state, facts.origin, facts.multi_region, probe.replica) == ("Disabled", "EXTERNAL", False, "one")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (pb.ProbeResult.PASSED, Outcome.PASSED),
        (pb.ProbeResult.FAILED, Outcome.FAILED),
        (pb.ProbeResult.UNKNOWN, Outcome.UNKNOWN),
        (99, Outcome.UNKNOWN),
    ],
)
def test_health_is_read(outcome: "pb.ProbeResult.Outcome.ValueType", expected: Outcome) -> None:
    message = pb.KeyHealth(namespace="media", name="brand", generation=3, outcome=outcome, reason="Why")
    message.since.FromDatetime(AT)
    name, health = health_in(message, "one")
    assert health is not None
    assert (name, health.outcome, health.since, health.last_verified) == (
        ObjectName("media", "brand"),
        expected,
        AT,
        None,
    )
    assert (health.replica, health.generation, health.reason) == ("one", 3, "Why")


def test_a_key_that_a_signer_has_forgotten_has_no_health() -> None:
    assert health_in(pb.KeyHealth(namespace="media", name="brand"), "one") == (ObjectName("media", "brand"), None)
