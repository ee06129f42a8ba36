"""The emulated KMS believes nobody: every request's signature is checked, and refused as AWS does."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from byok_sandbox.kms.front import BODY_LIMIT
from byok_sandbox.kms.identities import AccessKey
from tests.support.emulator import REGION, Aws, code_of, message_of, running_emulator, signed

JSON = "application/x-amz-json-1.1"


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


def send(aws: Aws, headers: dict[str, str], body: bytes = b"{}", *, method: str = "POST", path: str = "/") -> str:
    """Send a request and return the error code, or `OK`."""
    address = urlsplit(aws.emulator.address)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        assert answer.headers["x-amzn-RequestId"]
        assert answer.headers["Content-Type"] == JSON
        assert (answer.status == 200) == ("__type" not in document)
        return str(document.get("__type", "OK"))
    finally:
        connection.close()


def test_a_request_signed_by_botocore_is_believed(aws: Aws) -> None:
    assert send(aws, signed(aws)) == "OK"


def list_keys_as(aws: Aws, key: AccessKey) -> ClientError:
    with pytest.raises(ClientError) as caught:
        aws.kms(key).list_keys()
    return caught.value


def test_an_unknown_access_key_is_unrecognized(aws: Aws) -> None:
    stranger = replace(aws.emulator.administrator, access_key_id="AKIAIOSFODNN7EXAMPLE")
    assert code_of(list_keys_as(aws, stranger)) == "UnrecognizedClientException"


def test_a_wrong_secret_is_an_invalid_signature(aws: Aws) -> None:
    imposter = replace(aws.emulator.administrator, access_key_id=aws.role("any").access_key_id)
    assert code_of(list_keys_as(aws, imposter)) == "InvalidSignatureException"


def test_a_wrong_or_missing_session_token_is_unrecognized(aws: Aws) -> None:
    aws.role("session", actions=("kms:*",))
    arn = "arn:aws:iam::111122223333:role/session"
    for token in (None, "wrong"):
        session = aws.emulator.directory.issue(arn, expires_at=time.time() + 60)
        assert code_of(list_keys_as(aws, replace(session, session_token=token))) == "UnrecognizedClientException"


def test_temporary_credentials_count_until_they_expire(aws: Aws) -> None:
    aws.role("session", actions=("kms:*",))
    arn = "arn:aws:iam::111122223333:role/session"
    aws.kms(aws.emulator.directory.issue(arn, expires_at=time.time() + 60)).list_keys()
    expired = aws.emulator.directory.issue(arn, expires_at=time.time() - 1)
    assert code_of(list_keys_as(aws, expired)) == "ExpiredTokenException"


@pytest.mark.parametrize(("offset", "words"), [(301, "Signature expired"), (-302, "Signature not yet current")])
def test_a_clock_more_than_five_minutes_off_is_refused(offset: int, words: str) -> None:
    with running_emulator(clock=lambda: time.time() + offset) as aws:
        error = list_keys_as(aws, aws.emulator.administrator)
        assert (code_of(error), words in message_of(error)) == ("InvalidSignatureException", True)
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            aws.sts().get_caller_identity()


@pytest.mark.parametrize("offset", [290, -290])
def test_a_clock_less_than_five_minutes_off_is_accepted(offset: int) -> None:
    with running_emulator(clock=lambda: time.time() + offset) as aws:
        aws.kms().list_keys()


def test_nothing_that_is_signed_can_be_changed(aws: Aws) -> None:
    headers = signed(aws)
    date = headers["X-Amz-Date"]
    assert send(aws, headers, b'{"Limit": 1}') == "InvalidSignatureException"
    for name, value in {
        "X-Amz-Target": "TrentService.CreateKey",
        "X-Amz-Date": f"{date[:-2]}{(int(date[-2]) + 1) % 10}Z",  # another second, whichever this is
        "Host": "kms.eu-central-1.amazonaws.com",
        "Authorization": headers["Authorization"].replace(REGION, "us-west-2"),
    }.items():
        assert send(aws, {**headers, name: value}) == "InvalidSignatureException", name


def test_what_decides_must_be_under_the_signature(aws: Aws) -> None:
    headers = signed(aws)
    unsigned = headers["Authorization"].replace("x-amz-date;x-amz-target", "x-amz-date")
    assert send(aws, {**headers, "Authorization": unsigned}) == "InvalidSignatureException"
    assert send(aws, {**headers, "X-Amz-Extra": "smuggled"}) == "InvalidSignatureException"


def test_a_signature_for_another_service_is_refused(aws: Aws) -> None:
    assert send(aws, signed(aws, service="sts")) == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("", "IncompleteSignatureException"),
        ("Bearer token", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 Credential=AKIA/x", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 " + "x" * 4000, "IncompleteSignatureException"),
    ],
)
def test_a_request_without_a_signature_is_refused(aws: Aws, authorization: str | None, code: str) -> None:
    headers = {name: value for name, value in signed(aws).items() if name != "Authorization"}
    if authorization is not None:
        headers["Authorization"] = authorization
    assert send(aws, headers) == code


def test_a_missing_date_is_refused(aws: Aws) -> None:
    headers = {name: value for name, value in signed(aws).items() if name != "X-Amz-Date"}
    assert send(aws, headers) == "IncompleteSignatureException"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "SerializationException"),
        (b"{", "SerializationException"),
        (b"[]", "SerializationException"),
        (b"\xff\xfe", "SerializationException"),
        (b"[" * 100_000, "SerializationException"),
        (b'{"KeyId": 7}', "SerializationException"),
        (b'{"KeyId": ["x"]}', "SerializationException"),
        (b'{"KeyId": ""}', "ValidationException"),
        (b"{}", "ValidationException"),
        (b'{"KeyId": null}', "ValidationException"),
        (b'{"KeyId": "%s"}' % (b"x" * 3000), "ValidationException"),
        (b'{"KeyId": "alias/\\u0000"}', "NotFoundException"),
    ],
)
def test_garbage_in_the_body_is_refused_by_name(aws: Aws, body: bytes, code: str) -> None:
    assert send(aws, signed(aws, body, target="TrentService.GetPublicKey"), body) == code


def test_what_is_no_operation_is_refused(aws: Aws) -> None:
    assert send(aws, signed(aws, target="TrentService.Fly")) == "UnknownOperationException"
    assert send(aws, signed(aws, target="ListKeys")) == "UnknownOperationException"
    assert send(aws, signed(aws), path="/elsewhere") == "UnknownOperationException"
    assert send(aws, signed(aws), path="/?query") == "UnknownOperationException"
    assert send(aws, signed(aws), method="PUT") == "UnknownOperationException"


def test_a_body_over_the_limit_is_refused(aws: Aws) -> None:
    body = b"x" * (BODY_LIMIT + 1)
    assert send(aws, signed(aws, body), body) == "RequestEntityTooLargeException"


def test_a_message_that_is_not_base64_is_refused(aws: Aws) -> None:
    arn = aws.new_key()
    body = json.dumps({"KeyId": arn, "Message": "%%%", "SigningAlgorithm": "ECDSA_SHA_256"}).encode()
    assert send(aws, signed(aws, body, target="TrentService.Sign"), body) == "SerializationException"
