"""`python -m byok_sandbox.kms` serves until it is told to end, and is steered by whoever has its control token."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from byok_sandbox.kms.__main__ import main
from byok_sandbox.kms.client import ControlClient, ControlError
from byok_sandbox.kms.keys import SoftwareKey

COMMAND = [sys.executable, "-m", "byok_sandbox.kms"]
ROLE = "arn:aws:iam::111122223333:role/signer"


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    ready: dict[str, Any]
    events_file: Path

    @property
    def control(self) -> ControlClient:
        return ControlClient(self.ready["address"], self.ready["controlToken"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    events_file = tmp_path_factory.mktemp("kms") / "events.jsonl"
    command = [*COMMAND, "--events-file", str(events_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Running(process, json.loads(process.stdout.readline()), events_file)
        finally:
            process.kill()


def list_keys(running: Running, key: dict[str, Any]) -> str:
    session: Any = boto3.session.Session()
    client = session.client(
        "kms",
        region_name="eu-central-1",
        endpoint_url=running.ready["address"],
        aws_access_key_id=key["accessKeyId"],
        aws_secret_access_key=key["secretAccessKey"],
        aws_session_token=key["sessionToken"],
    )
    try:
        return str(client.list_keys()["ResponseMetadata"]["RequestId"])
    finally:
        client.close()


def test_the_printed_line_is_enough_to_call_it(running: Running) -> None:
    request_id = list_keys(running, running.ready["administrator"])
    assert running.control.events()[-1]["requestID"] == request_id
    assert request_id in running.events_file.read_text()


def test_credentials_of_a_new_role_work_at_once(running: Running) -> None:
    running.control.put_identity(ROLE, actions=["kms:ListKeys"])
    list_keys(running, running.control.issue(ROLE))
    seen = len(running.control.events())
    list_keys(running, running.control.issue(ROLE, session_name="pod-1", expires_in=60))
    (event,) = running.control.events(since=seen)
    assert event["userIdentity"]["arn"].endswith("assumed-role/signer/pod-1")


@pytest.mark.parametrize(
    ("arn", "attributes", "finding"),
    [
        ("arn:aws:s3:::bucket", {}, "not the ARN"),
        (ROLE, {"trustPolicy": "{"}, "not JSON"),
        (ROLE, {"trusts": "x"}, "trusts: Extra inputs"),
        (ROLE, {"maxSessionSeconds": 1}, "maxSessionSeconds"),
    ],
)
def test_what_is_no_identity_is_refused_by_name(
    running: Running, arn: str, attributes: dict[str, object], finding: str
) -> None:
    with pytest.raises(ControlError, match=finding):
        running.control.put_identity(arn, **attributes)


def test_an_unknown_identity_gets_no_credentials(running: Running) -> None:
    with pytest.raises(ControlError, match="PUT it to"):
        running.control.issue("arn:aws:iam::111122223333:role/unknown")


ARN = "arn:aws:kms:eu-west-1:444455556666:key/0f5e2a10-0000-4000-8000-00000000000a"


def test_a_key_that_was_made_before_signs_under_its_arn_once_its_policy_lets_somebody(running: Running) -> None:
    material = SoftwareKey.generate("ECC_NIST_P384")
    running.control.put_key(ARN, material.pem.decode())
    running.control.put_identity("arn:aws:iam::444455556666:role/owner", actions=["kms:*"])
    owner = running.control.issue("arn:aws:iam::444455556666:role/owner")
    client = boto3.client(
        "kms",
        region_name="eu-west-1",
        endpoint_url=running.ready["address"],
        aws_access_key_id=owner["accessKeyId"],
        aws_secret_access_key=owner["secretAccessKey"],
    )
    answer = client.sign(KeyId=ARN, Message=b"x", MessageType="RAW", SigningAlgorithm="ECDSA_SHA_384")
    material.verify("ECDSA_SHA_384", b"x", answer["Signature"])
    assert client.describe_key(KeyId=ARN)["KeyMetadata"]["Arn"] == ARN
    assert [key["KeyArn"] for key in client.list_keys()["Keys"]] == [ARN]
    with pytest.raises(ControlError, match="AlreadyExistsException"):
        running.control.put_key(ARN, material.pem.decode())


@pytest.mark.parametrize(
    ("arn", "pem", "finding"),
    [
        (ARN.replace("key/", "alias/"), None, "AlreadyExistsException"),
        ("arn:aws:kms", None, "InvalidArnException"),
        (ARN.replace(":kms:", ":s3:"), None, "InvalidArnException"),
        (ARN, "hush", "expected a private key in PEM"),
        (ARN, "x" * 20_000, "privateKey: String should have at most"),
    ],
)
def test_what_is_no_key_is_refused_by_name(running: Running, arn: str, pem: str | None, finding: str) -> None:
    material = SoftwareKey.generate("ECC_NIST_P256").pem.decode() if pem is None else pem
    with pytest.raises(ControlError, match=finding) as caught:
        running.control.put_key(arn, material)
    assert material not in str(caught.value)


def test_credentials_that_were_issued_before_are_believed_again(running: Running) -> None:
    known = {"accessKeyId": "AKIA" + "A" * 16, "secretAccessKey": "s" * 40, "sessionToken": None}
    with pytest.raises(ControlError, match="PUT it to"):
        running.control.put_access_key(
            "arn:aws:iam::111122223333:role/none", access_key_id="AKIA" + "A" * 16, secret_access_key="s" * 40
        )
    running.control.put_identity(ROLE, actions=["kms:ListKeys"])
    running.control.put_access_key(ROLE, access_key_id="AKIA" + "A" * 16, secret_access_key="s" * 40)
    list_keys(running, known)
    with pytest.raises(ControlError, match="accessKeyId: String should match"):
        running.control.put_access_key(ROLE, access_key_id="none", secret_access_key="s" * 40)


def test_without_the_control_token_nothing_is_told_or_made(running: Running) -> None:
    for token in ("", "wrong"):
        intruder = ControlClient(running.ready["address"], token)
        for call in (intruder.events, lambda: intruder.issue(ROLE), lambda: intruder.put_identity(ROLE)):  # noqa: B023 - called at once
            with pytest.raises(ControlError, match="control token"):
                call()


@pytest.mark.parametrize(
    "arguments", [["--port", "x"], ["--port", "65536"], ["--account", "1"], ["--unknown"], ["--events-file", "/no/x"]]
)
def test_a_wrong_argument_names_itself_and_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told(number: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["address"]
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
