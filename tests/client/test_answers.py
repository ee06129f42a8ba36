"""What the client makes of failed calls: pure."""

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.errors import Reason, Refusal
from byok_client.answers import DETAILS_KEY, Failure, SignerError, error_of, retry_delay
from byok_signer.rpc_status import status_of

WHERE = "signer:443"


def answered(refusal: Refusal) -> SignerError:
    trailers = (("x-other", "1"), (DETAILS_KEY, status_of(refusal).SerializeToString()))
    return error_of(Failure(refusal.reason.facts.status, refusal.message, trailers), WHERE)


def bare(code: grpc.StatusCode, details: str = "", trailer: bytes = b"") -> SignerError:
    return error_of(Failure(code, details, ((DETAILS_KEY, trailer),)), WHERE)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_the_signer_comes_through(reason: Reason) -> None:
    error = answered(Refusal(reason, "what and why", metadata={"check": "size"}))
    assert (error.reason, error.message, error.metadata["check"]) == (reason, "what and why", "size")
    assert error.metadata["remedy"] == reason.facts.remedy
    assert error.code is reason.facts.status
    assert error.retry_after is None


def test_the_signers_delay_comes_through() -> None:
    assert answered(Refusal(Reason.KmsThrottled, "busy", retry_after=1.25)).retry_after == 1.25


def test_a_reason_of_a_newer_signer_keeps_its_name() -> None:
    status = status_of(Refusal(Reason.Internal, "x"))
    trailer = status.SerializeToString().replace(b"Internal", b"Mystical")
    error = bare(grpc.StatusCode.INTERNAL, "x", trailer)
    assert (error.reason, error.message) == (Reason.Internal, "Mystical: x")


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", Reason.SignerUnreachable),
        (grpc.StatusCode.UNAVAILABLE, "SSL: CERTIFICATE_VERIFY_FAILED", Reason.ConfigurationInvalid),
        (grpc.StatusCode.UNAVAILABLE, "Hostname Verification Check failed.", Reason.ConfigurationInvalid),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Reason.SignerUnreachable),
        (grpc.StatusCode.UNIMPLEMENTED, "", Reason.SignerUnreachable),
        (grpc.StatusCode.UNAUTHENTICATED, "", Reason.TokenInvalid),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 8)", Reason.ClaimRefused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", Reason.SignerUnreachable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", Reason.SignerUnreachable),
        (grpc.StatusCode.INTERNAL, "", Reason.Internal),
        (grpc.StatusCode.UNKNOWN, "", Reason.Internal),
    ],
)
def test_a_status_without_details_is_told_apart_by_its_code(
    code: grpc.StatusCode, details: str, reason: Reason
) -> None:
    error = bare(code, details)
    assert error.reason is reason
    assert WHERE in error.message


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(list(grpc.StatusCode)), st.text(), st.binary())
def test_no_answer_raises(code: grpc.StatusCode, details: str, trailer: bytes) -> None:
    assert isinstance(bare(code, details, trailer), SignerError)


def test_someone_elses_details_are_not_ours() -> None:
    trailer = status_of(Refusal(Reason.KmsThrottled, "x", retry_after=1)).SerializeToString()
    error = bare(grpc.StatusCode.UNAVAILABLE, "x", trailer.replace(b"byok.dev", b"evil.dev"))
    assert error.reason is Reason.SignerUnreachable


THROTTLED = answered(Refusal(Reason.KmsThrottled, "busy", retry_after=1.0))
QUEUED = answered(Refusal(Reason.QuotaExceeded, "busy", retry_after=0.1))
AT_ONCE = answered(Refusal(Reason.ShuttingDown, "stopping", retry_after=0.0))
LATER = answered(Refusal(Reason.CallerLimited, "busy", retry_after=7.0))
OVERLOADED = bare(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
TOO_LARGE = bare(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (9 vs. 8)")
DENIED = answered(Refusal(Reason.KeyAccessDenied, "denied"))
UNREACHABLE = bare(grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize(
    ("error", "attempt", "remaining", "chance", "delay"),
    [
        (THROTTLED, 0, 30, 0.0, 1.0),
        (THROTTLED, 0, 30, 1.0, 1.25),
        (THROTTLED, 5, 30, 1.0, 2.5),
        (THROTTLED, 0, 0.9, 0.0, None),
        (QUEUED, 0, 30, 0.0, 0.1),
        (QUEUED, 1, 30, 0.0, 0.2),
        (QUEUED, 10_000, 30, 0.0, 2.0),
        (AT_ONCE, 0, 30, 0.0, 0.01),
        (LATER, 0, 30, 0.0, 7.0),
        (LATER, 3, 30, 1.0, 8.75),
        (OVERLOADED, 0, 30, 1.0, 0.1),
        (OVERLOADED, 3, 30, 0.0, 0.4),
        (TOO_LARGE, 0, 30, 0.0, None),
        (DENIED, 0, 30, 0.0, None),
        (UNREACHABLE, 0, 30, 0.0, 0.05),
        (UNREACHABLE, 0, 30, 1.0, 0.1),
        (UNREACHABLE, 3, 30, 1.0, 0.8),
        (UNREACHABLE, 10_000, 30, 1.0, 2.0),
        (UNREACHABLE, 0, 0.01, 0.0, None),
        (bare(grpc.StatusCode.DEADLINE_EXCEEDED), 0, 30, 0.0, None),
        (bare(grpc.StatusCode.UNAVAILABLE, "CERTIFICATE_VERIFY_FAILED"), 0, 30, 0.0, None),
    ],
)
def test_only_what_waiting_helps_is_retried_and_only_in_time(
    error: SignerError, attempt: int, remaining: float, chance: float, delay: float | None
) -> None:
    assert retry_delay(error, attempt, remaining, chance) == delay


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100), st.floats(0.01, 60), st.floats(0, 1, exclude_max=True))
def test_no_retry_outlives_the_deadline(attempt: int, remaining: float, chance: float) -> None:
    for error in (THROTTLED, QUEUED, AT_ONCE, LATER, UNREACHABLE, OVERLOADED):
        delay = retry_delay(error, attempt, remaining, chance)
        assert delay is None or max(0, error.retry_after or 0) <= delay < remaining


def test_garbage_in_our_details_is_no_detail() -> None:
    trailer = status_of(Refusal(Reason.KmsThrottled, "x")).SerializeToString()
    assert bare(grpc.StatusCode.INTERNAL, "x", trailer.replace(b"KmsThrottled", b"\xff" * 12)).reason is Reason.Internal


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_call_that_no_signer_answered_may_be_tried_again(code: grpc.StatusCode) -> None:
    error = error_of(Failure(code, "the server stopped", ()), "signer:8443")
    assert (error.reason, error.is_transport_failure) == (Reason.SignerUnreachable, True)
