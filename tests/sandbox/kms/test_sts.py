"""AssumeRole on the emulated STS heeds the trust policy, the external id and the session's tags."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from byok_sandbox.kms.identities import AccessKey
from tests.support.emulator import ACCOUNT, OTHER_ACCOUNT, Aws, code_of, running_emulator

SIGNER = f"arn:aws:iam::{ACCOUNT}:role/signer"
OWNER = f"arn:aws:iam::{OTHER_ACCOUNT}:role/owner"
EXTERNAL_ID = "byok:installation:media/photo-key"


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


@pytest.fixture
def signer(aws: Aws) -> AccessKey:
    return aws.role("signer", actions=("sts:AssumeRole", "sts:TagSession"))


def trust(*actions: str, **condition: object) -> str:
    principal = {"AWS": SIGNER}
    statement = {"Effect": "Allow", "Principal": principal, "Action": list(actions), "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def assume(aws: Aws, caller: AccessKey, arn: str = OWNER, **parameters: object) -> dict[str, Any]:
    return dict(aws.sts(caller).assume_role(RoleArn=arn, RoleSessionName="byok", **parameters))


def session_key(answer: dict[str, Any], template: AccessKey) -> AccessKey:
    found = answer["Credentials"]
    return AccessKey(
        found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], None, caller=template.caller
    )


def code_when_assuming(aws: Aws, caller: AccessKey, arn: str = OWNER, **parameters: object) -> str:
    with pytest.raises(ClientError) as caught:
        assume(aws, caller, arn, **parameters)
    return code_of(caught.value)


def test_a_trusted_caller_gets_a_session_that_is_the_role(aws: Aws, signer: AccessKey) -> None:
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:AssumeRole"))
    answer = assume(aws, signer, DurationSeconds=900)
    arn = f"arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/owner/byok"
    assert answer["AssumedRoleUser"]["Arn"] == arn
    assert 890 < (answer["Credentials"]["Expiration"] - datetime.now(UTC)).total_seconds() <= 900
    identity = aws.sts(session_key(answer, signer)).get_caller_identity()
    assert (identity["Arn"], identity["Account"]) == (arn, OTHER_ACCOUNT)


def test_a_session_signs_with_what_its_role_may_use(aws: Aws, signer: AccessKey) -> None:
    owner = aws.role("owner", account=OTHER_ACCOUNT, actions=("kms:*",), trust=trust("sts:AssumeRole"))
    metadata = aws.kms(owner).create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    request = {"KeyId": metadata["Arn"], "Message": b"claim", "SigningAlgorithm": "ECDSA_SHA_256"}
    session = session_key(assume(aws, signer), signer)
    assert aws.kms(session).sign(**request)["KeyId"] == metadata["Arn"]
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer).sign(**request)


def test_the_external_id_must_be_the_one_of_the_trust_policy(aws: Aws, signer: AccessKey) -> None:
    condition = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:AssumeRole", **condition))
    assume(aws, signer, ExternalId=EXTERNAL_ID)
    assert code_when_assuming(aws, signer, ExternalId="byok:installation:other/photo-key") == "AccessDenied"
    assert code_when_assuming(aws, signer) == "AccessDenied"


def test_session_tags_need_permission_and_are_conditions_of_the_trust_policy(aws: Aws, signer: AccessKey) -> None:
    tags = [{"Key": "byok-namespace", "Value": "media"}, {"Key": "byok-key", "Value": "photo"}]
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:AssumeRole"))
    assert code_when_assuming(aws, signer, Tags=tags) == "AccessDenied"
    condition = {
        "StringEquals": {"aws:RequestTag/byok-namespace": "media"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["byok-namespace", "byok-key"]},
    }
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:AssumeRole", "sts:TagSession", **condition))
    assume(aws, signer, Tags=tags)
    assert code_when_assuming(aws, signer, Tags=[{"Key": "byok-namespace", "Value": "news"}]) == "AccessDenied"
    assert code_when_assuming(aws, signer, Tags=[*tags, {"Key": "more", "Value": "x"}]) == "AccessDenied"


def test_session_tags_are_principal_tags_of_a_key_policy(aws: Aws, signer: AccessKey) -> None:
    owner = aws.role("owner", account=OTHER_ACCOUNT, actions=("kms:*",), trust=trust("sts:*"))
    condition = {"StringEquals": {"aws:PrincipalTag/byok-namespace": "media"}}
    root = {"Effect": "Allow", "Principal": {"AWS": OTHER_ACCOUNT}, "Action": "kms:*", "Resource": "*"}
    deny = {**root, "Effect": "Deny", "Action": "kms:Sign", "Condition": {"StringNotEquals": condition["StringEquals"]}}
    arn = aws.kms(owner).create_key(
        KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Policy=json.dumps({"Statement": [root, deny]})
    )["KeyMetadata"]["Arn"]
    request = {"KeyId": arn, "Message": b"claim", "SigningAlgorithm": "ECDSA_SHA_256"}
    tagged = session_key(assume(aws, signer, Tags=[{"Key": "byok-namespace", "Value": "media"}]), signer)
    aws.kms(tagged).sign(**request)
    for session in (
        session_key(assume(aws, signer), signer),
        session_key(assume(aws, signer, Tags=[{"Key": "byok-namespace", "Value": "news"}]), signer),
    ):
        with pytest.raises(ClientError, match="with an explicit deny"):
            aws.kms(session).sign(**request)


def test_who_is_not_trusted_or_not_allowed_by_their_own_account_gets_nothing(aws: Aws, signer: AccessKey) -> None:
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:AssumeRole"))
    assert code_when_assuming(aws, aws.role("stranger", actions=("sts:*",))) == "AccessDenied"
    assert code_when_assuming(aws, aws.role("signer")) == "AccessDenied"
    absent = f"arn:aws:iam::{OTHER_ACCOUNT}:role/absent"
    assert code_when_assuming(aws, signer, absent) == "AccessDenied"
    untrusting = aws.role("untrusting", account=OTHER_ACCOUNT)
    assert code_when_assuming(aws, signer, untrusting.caller.identity.arn) == "AccessDenied"


def test_in_one_account_the_trust_policy_alone_suffices(aws: Aws) -> None:
    aws.role("local", trust=trust("sts:AssumeRole"))
    assume(aws, aws.role("signer"), f"arn:aws:iam::{ACCOUNT}:role/local")


def test_a_changed_trust_policy_counts_at_once(aws: Aws, signer: AccessKey) -> None:
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:AssumeRole"))
    assume(aws, signer)
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:TagSession"))
    assert code_when_assuming(aws, signer) == "AccessDenied"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"DurationSeconds": 43_200}, "ValidationError"),
        ({"ExternalId": "no spaces"}, "ValidationError"),
        ({"Tags": [{"Key": "aws:reserved", "Value": "x"}]}, "ValidationError"),
        ({"Tags": [{"Key": "twice", "Value": "x"}, {"Key": "Twice", "Value": "y"}]}, "InvalidParameterValue"),
        ({"Policy": "{}"}, "ValidationError"),
        ({"TransitiveTagKeys": ["byok-key"]}, "ValidationError"),
        ({"SerialNumber": "arn:aws:iam::111122223333:mfa/x", "TokenCode": "123456"}, "ValidationError"),
    ],
)
def test_what_is_out_of_bounds_or_not_emulated_is_refused(
    aws: Aws, signer: AccessKey, parameters: dict[str, Any], code: str
) -> None:
    aws.role("owner", account=OTHER_ACCOUNT, trust=trust("sts:*"))
    assert code_when_assuming(aws, signer, **parameters) == code


def test_a_chained_session_lasts_an_hour_at_most(aws: Aws, signer: AccessKey) -> None:
    aws.role("owner", account=OTHER_ACCOUNT, actions=("sts:*",), trust=trust("sts:AssumeRole"))
    statement = {"Effect": "Allow", "Principal": {"AWS": OWNER}, "Action": "sts:AssumeRole"}
    aws.role("next", account=OTHER_ACCOUNT, trust=json.dumps({"Statement": [statement]}))
    chained = f"arn:aws:iam::{OTHER_ACCOUNT}:role/next"
    session = session_key(assume(aws, signer), signer)
    assume(aws, session, chained, DurationSeconds=3600)
    assert code_when_assuming(aws, session, chained, DurationSeconds=3601) == "ValidationError"


def test_an_unknown_action_is_refused(aws: Aws) -> None:
    with pytest.raises(ClientError) as caught:
        aws.sts().get_session_token()
    assert code_of(caught.value) == "InvalidAction"


def test_every_answer_of_sts_has_its_request_id(aws: Aws) -> None:
    answer = aws.sts().get_caller_identity()
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert answer["ResponseMetadata"]["RequestId"] == headers["x-amzn-requestid"]
    assert aws.last_event()["requestID"] == headers["x-amzn-requestid"]
