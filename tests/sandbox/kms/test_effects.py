"""What a caller with plain boto3 meets under each fault, and that the event log stays true under all of them."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_sandbox.kms.client import ControlClient, ControlError
from byok_sandbox.kms.injection import (
    ClockSkew,
    ErrorAnswer,
    Fault,
    FaultRule,
    Garbage,
    GatewayAnswer,
    Hang,
    Latency,
    OtherSignature,
    Reset,
    Truncate,
    WrongKeyId,
)
from tests.support.emulator import Aws, code_of, message_of, running_emulator, signed

DIGEST = bytes(range(32))
SIGN = {"Message": DIGEST, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}


@pytest.fixture(scope="module")
def running() -> Iterator[Aws]:
    with running_emulator() as aws:
        yield aws


@pytest.fixture(scope="module")
def arn(running: Aws) -> str:
    return running.new_key()


@pytest.fixture
def aws(running: Aws) -> Iterator[Aws]:
    running.emulator.faults.clear()
    yield running
    running.emulator.faults.clear()


@dataclasses.dataclass
class Met:
    """What came of one Sign."""

    answer: dict[str, Any] | None
    error: ClientError | BotoCoreError | None
    events: list[dict[str, Any]]


def sign_under(aws: Aws, arn: str, *faults: Fault, **selects: Any) -> Met:  # noqa: ANN401 - fields of FaultRule
    for fault in faults:
        aws.emulator.faults.add(FaultRule(fault=fault, **selects))
    known = len(aws.emulator.events.since())
    answer, error = None, None
    try:
        answer = aws.kms().sign(KeyId=arn, **SIGN)
    except (ClientError, BotoCoreError) as caught:
        error = caught
    return Met(answer, error, aws.emulator.events.since(known))


def verify(aws: Aws, arn: str, signature: bytes, digest: bytes) -> None:
    key = load_der_public_key(aws.kms().get_public_key(KeyId=arn)["PublicKey"])
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def send(aws: Aws, timeout: float = 30) -> bytes:
    """Call ListKeys without any library's retries, and read the answer."""
    address = urlsplit(aws.emulator.address)
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=timeout)) as connection:
        connection.request("POST", "/", body=b"{}", headers=signed(aws))
        return connection.getresponse().read()


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "KeyUnavailableException",
        "DependencyTimeoutException",
        "KMSInternalException",
        "ServiceUnavailable",
        "DisabledException",
        "NotFoundException",
    ],
)
def test_an_error_is_answered_and_recorded_as_such(aws: Aws, arn: str, code: str) -> None:
    met = sign_under(aws, arn, ErrorAnswer(code=code))
    assert isinstance(met.error, ClientError)
    (event,) = met.events
    assert (code_of(met.error), event["errorCode"], event["resources"][0]["ARN"]) == (code, code, arn)
    assert event["requestID"] == met.error.response["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"])
def test_an_error_of_a_caller_that_aws_does_not_know_leaves_no_event(aws: Aws, arn: str, code: str) -> None:
    met = sign_under(aws, arn, ErrorAnswer(code=code))
    assert isinstance(met.error, ClientError)
    assert (code_of(met.error), met.events) == (code, [])


def test_sts_answers_its_own_name_for_an_error(aws: Aws) -> None:
    aws.emulator.faults.add(FaultRule(fault=ErrorAnswer(code="ThrottlingException", message="slower"), service="sts"))
    with pytest.raises(ClientError) as caught:
        aws.sts().get_caller_identity()
    assert (code_of(caught.value), message_of(caught.value)) == ("Throttling", "slower")
    assert aws.last_event()["eventName"] == "GetCallerIdentity"


def test_the_status_of_an_error_can_be_chosen(aws: Aws, arn: str) -> None:
    met = sign_under(aws, arn, ErrorAnswer(code="KMSInternalException", status=502))
    assert isinstance(met.error, ClientError)
    assert met.error.response["ResponseMetadata"]["HTTPStatusCode"] == 502


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [GatewayAnswer, Reset])
def test_what_was_done_is_an_event_though_no_answer_of_kms_came(
    aws: Aws, arn: str, kind: Callable[..., Fault], *, after: bool
) -> None:
    met = sign_under(aws, arn, kind(after=after))
    assert met.error is not None
    assert ["errorCode" in event for event in met.events] == [False] * after


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_gateway_answers_without_code_and_request_id(aws: Aws, arn: str, status: int) -> None:
    met = sign_under(aws, arn, GatewayAnswer(status=status))
    assert isinstance(met.error, ClientError)
    metadata = met.error.response["ResponseMetadata"]
    assert (code_of(met.error), metadata["HTTPStatusCode"]) == (str(status), status)
    assert "x-amzn-requestid" not in metadata["HTTPHeaders"]


@pytest.mark.parametrize("fault", [Truncate(), Garbage(), Reset(after=True)])
def test_a_signature_that_does_not_arrive_is_an_event_all_the_same(aws: Aws, arn: str, fault: Fault) -> None:
    met = sign_under(aws, arn, fault)
    assert "Signature" not in (met.answer or {})
    (event,) = met.events
    assert (event["eventName"], "errorCode" in event) == ("Sign", False)


def test_a_reset_is_one(aws: Aws) -> None:
    aws.emulator.faults.add(FaultRule(fault=Reset()))
    with pytest.raises(ConnectionResetError) as caught:
        send(aws)
    assert caught.type is ConnectionResetError  # not RemoteDisconnected, as after an orderly end


def test_a_truncated_answer_says_how_long_it_would_have_been(aws: Aws) -> None:
    whole = send(aws)
    aws.emulator.faults.add(FaultRule(fault=Truncate()))
    with pytest.raises(IncompleteRead) as caught:
        send(aws)
    partial, missing = caught.value.partial, caught.value.expected or 0
    assert (whole[: len(partial)], len(partial) + missing) == (partial, len(whole))


@pytest.mark.parametrize("after", [False, True])
def test_a_call_that_hangs_is_not_answered_and_its_connection_stays_open(aws: Aws, *, after: bool) -> None:
    aws.emulator.faults.add(FaultRule(fault=Hang(after=after)))
    known = len(aws.emulator.events.since())
    with pytest.raises(TimeoutError):
        send(aws, timeout=2)
    assert len(aws.emulator.events.since(known)) == after


def test_the_right_key_signs_something_else(aws: Aws, arn: str) -> None:
    met = sign_under(aws, arn, OtherSignature())
    assert met.answer is not None
    with pytest.raises(InvalidSignature):
        verify(aws, arn, met.answer["Signature"], DIGEST)
    verify(aws, arn, met.answer["Signature"], bytes(byte ^ 0xFF for byte in DIGEST))


def test_an_answer_names_another_key(aws: Aws, arn: str) -> None:
    met = sign_under(aws, arn, WrongKeyId())
    assert met.answer is not None
    assert met.answer["KeyId"] != arn
    assert met.answer["KeyId"].rpartition("-")[0] == arn.rpartition("-")[0]
    verify(aws, arn, met.answer["Signature"], DIGEST)


def test_latency_delays_the_answer_and_nothing_else(aws: Aws, arn: str) -> None:
    began = time.monotonic()
    met = sign_under(aws, arn, Latency(seconds=0.2))
    assert time.monotonic() - began >= 0.2
    assert met.answer is not None


def test_faults_lie_around_each_other(aws: Aws, arn: str) -> None:
    met = sign_under(aws, arn, WrongKeyId(), OtherSignature(), Latency(seconds=0.01))
    assert met.answer is not None
    assert met.answer["KeyId"] != arn
    verify(aws, arn, met.answer["Signature"], bytes(byte ^ 0xFF for byte in DIGEST))


@pytest.mark.parametrize(("seconds", "words"), [(400, "Signature expired"), (-400, "Signature not yet current")])
def test_a_clock_that_is_off_is_a_signature_of_another_time(aws: Aws, arn: str, seconds: int, words: str) -> None:
    met = sign_under(aws, arn, ClockSkew(seconds=seconds))
    assert isinstance(met.error, ClientError)
    assert (code_of(met.error), met.events) == ("InvalidSignatureException", [])
    assert message_of(met.error).startswith(words)


def test_a_clock_less_than_five_minutes_off_hurts_nobody(aws: Aws, arn: str) -> None:
    assert sign_under(aws, arn, ClockSkew(seconds=200)).error is None


def test_a_key_is_selected_however_it_is_named(aws: Aws, arn: str) -> None:
    other, alias = aws.new_key(), "alias/selected"
    aws.kms().create_alias(AliasName=alias, TargetKeyId=arn)
    aws.emulator.faults.add(FaultRule(fault=ErrorAnswer(code="DisabledException"), key=arn, operation="GetPublicKey"))
    for name in (arn, arn.rpartition("/")[2], alias):
        with pytest.raises(ClientError, match="DisabledException"):
            aws.kms().get_public_key(KeyId=name)
    aws.kms().get_public_key(KeyId=other)
    aws.kms().describe_key(KeyId=arn)


def test_throttling_counts_the_signatures_of_each_family() -> None:
    now = time.time()
    with running_emulator(clock=lambda: now) as aws:
        p256, p384, rsa = (aws.new_key(spec) for spec in ("ECC_NIST_P256", "ECC_NIST_P384", "RSA_2048"))
        rule = FaultRule(fault=ErrorAnswer(code="ThrottlingException"), operation="Sign", above_per_second=2)
        aws.emulator.faults.add(rule)
        assert sign_with(aws, p256, "ECDSA_SHA_256") == "OK"
        assert sign_with(aws, p384, "ECDSA_SHA_384") == "OK"
        assert sign_with(aws, p256, "ECDSA_SHA_256") == "ThrottlingException"
        assert sign_with(aws, rsa, "RSASSA_PSS_SHA_256") == "OK"
        now += 1
        assert sign_with(aws, p256, "ECDSA_SHA_256") == "OK"


def sign_with(aws: Aws, arn: str, algorithm: str) -> str:
    try:
        aws.kms().sign(KeyId=arn, Message=b"x", SigningAlgorithm=algorithm)
    except ClientError as error:
        return code_of(error)
    return "OK"


def test_faults_are_ordered_listed_and_cleared_over_http(aws: Aws) -> None:
    control = ControlClient(aws.emulator.address, aws.emulator.control_token)
    rule = FaultRule(fault=ErrorAnswer(code="DisabledException"), operation="Sign", times=3)
    number = control.add_fault(rule)
    assert control.faults() == {number: rule}
    assert (control.clear_faults("none"), control.clear_faults(number), control.faults()) == (0, 1, {})
    assert (control.add_fault(rule) != number, control.clear_faults()) == (True, 1)


def test_without_the_control_token_no_fault_is_ordered(aws: Aws) -> None:
    intruder = ControlClient(aws.emulator.address, "wrong")
    for call in (intruder.faults, intruder.clear_faults, lambda: intruder.add_fault(FaultRule(fault=Reset()))):
        with pytest.raises(ControlError, match="control token"):
            call()
    assert aws.emulator.faults.rules() == {}
