"""The event log is what CloudTrail would show: who called what, with which request id, and never the message."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from byok_sandbox.kms.events import EventLog, Happening, Origin
from byok_sandbox.kms.identities import Caller, Identity
from tests.support.emulator import ACCOUNT, REGION, Aws, running_emulator


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Aws]:
    with running_emulator(events_file=tmp_path / "events.jsonl") as running:
        yield running


def test_a_signature_is_one_event_with_the_request_id_of_its_answer(aws: Aws) -> None:
    arn = aws.new_key()
    role = aws.role("signer")
    aws.kms().create_grant(KeyId=arn, GranteePrincipal=role.caller.identity.arn, Operations=["Sign"])
    answer = aws.kms(role).sign(KeyId=arn, Message=b"secret-claim", SigningAlgorithm="ECDSA_SHA_256")
    event = aws.last_event()
    assert event["requestID"] == answer["ResponseMetadata"]["RequestId"]
    assert (event["eventName"], event["eventSource"], event["awsRegion"]) == ("Sign", "kms.amazonaws.com", REGION)
    assert event["requestParameters"] == {"keyId": arn, "signingAlgorithm": "ECDSA_SHA_256"}
    assert event["resources"] == [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": arn}]
    assert (event["readOnly"], "errorCode" in event, event["responseElements"]) == (True, False, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["eventTime"])


def test_an_event_says_which_role_called(aws: Aws) -> None:
    role = aws.role("signer", actions=("kms:ListKeys",))
    aws.kms(role).list_keys()
    identity = aws.last_event()["userIdentity"]
    assert (identity["type"], identity["accountId"]) == ("AssumedRole", ACCOUNT)
    assert identity["arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/signer/sandbox"
    assert identity["sessionContext"]["sessionIssuer"]["arn"] == f"arn:aws:iam::{ACCOUNT}:role/signer"
    assert identity["accessKeyId"] == role.access_key_id


@pytest.mark.parametrize(
    ("disabled", "parameters", "code"),
    [
        (False, {"DryRun": True}, "DryRunOperationException"),
        (True, {}, "DisabledException"),
        (False, {"SigningAlgorithm": "ECDSA_SHA_512"}, "InvalidKeyUsageException"),
    ],
)
def test_a_call_that_made_no_signature_has_an_error_code(
    aws: Aws, *, disabled: bool, parameters: dict[str, object], code: str
) -> None:
    arn = aws.new_key()
    if disabled:
        aws.kms().disable_key(KeyId=arn)
    with pytest.raises(ClientError) as caught:
        aws.kms().sign(**{"KeyId": arn, "Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256", **parameters})
    event = aws.last_event()
    assert (event["eventName"], event["errorCode"]) == ("Sign", code)
    assert event["requestID"] == caught.value.response["ResponseMetadata"]["RequestId"]


def test_a_dry_run_is_marked(aws: Aws) -> None:
    with pytest.raises(ClientError):
        aws.kms().sign(KeyId=aws.new_key(), Message=b"x", SigningAlgorithm="ECDSA_SHA_256", DryRun=True)
    assert aws.last_event()["requestParameters"]["dryRun"] is True


def test_a_denial_is_access_denied_as_cloudtrail_names_it(aws: Aws) -> None:
    arn = aws.new_key()
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(aws.role("nobody")).sign(KeyId=arn, Message=b"x", SigningAlgorithm="ECDSA_SHA_256")
    assert aws.last_event()["errorCode"] == "AccessDenied"
    assert aws.last_event()["resources"][0]["ARN"] == arn


def test_no_event_holds_a_message_a_signature_or_a_secret(aws: Aws, tmp_path: Path) -> None:
    arn = aws.new_key()
    request = {"KeyId": arn, "Message": b"secret-claim", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = aws.kms().sign(**request)["Signature"]
    aws.kms().verify(**request, Signature=signature)
    token = aws.kms().create_grant(KeyId=arn, GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/x", Operations=["Sign"])[
        "GrantToken"
    ]
    aws.kms().sign(**request, GrantTokens=[token])
    text = (tmp_path / "events.jsonl").read_text()
    for secret in ("c2VjcmV0LWNsYWlt", token, aws.emulator.administrator.secret_access_key, 'ignature":"M'):
        assert secret not in text


def test_the_file_holds_every_event_in_order(aws: Aws, tmp_path: Path) -> None:
    aws.kms().list_keys()
    aws.new_key()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert lines == aws.emulator.events.since()
    assert [line["eventName"] for line in lines] == ["ListKeys", "CreateKey"]


def test_the_log_in_memory_is_bounded_and_counts_on() -> None:
    log = EventLog(limit=2)
    origin = Origin(Caller(Identity(f"arn:aws:iam::{ACCOUNT}:user/x"), "AKIAX"), REGION, "id", "agent")
    for number in range(4):
        log.append(origin, Happening("kms", f"Call{number}", {}, read_only=True), [], 0.0)
    assert [event["eventName"] for event in log.since()] == ["Call2", "Call3"]
    assert [event["eventName"] for event in log.since(3)] == ["Call3"]
    assert log.since(4) == []


def test_a_request_of_nobody_leaves_no_event(aws: Aws) -> None:
    stranger = aws.role("stranger")
    aws.emulator.directory.forget(stranger.access_key_id)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        aws.kms(stranger).list_keys()
    assert aws.emulator.events.since() == []
