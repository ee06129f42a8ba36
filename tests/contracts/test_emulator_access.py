"""Who may sign on the emulated KMS: key policies, identity policies and grants, as plain boto3 sees them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from byok_sandbox.kms.identities import AccessKey, Identity
from tests.support.emulator import ACCOUNT, OTHER_ACCOUNT, Aws, code_of, message_of, running_emulator

ADMINISTRATION = {
    "Sid": "Administration",
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    "Action": "kms:*",
    "Resource": "*",
}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


@pytest.fixture
def signer(aws: Aws) -> AccessKey:
    return aws.role("signer")


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [ADMINISTRATION, *statements]})


def allow(key: AccessKey, *actions: str, **elements: object) -> dict[str, Any]:
    principal = {"AWS": key.caller.identity.arn}
    return {"Effect": "Allow", "Principal": principal, "Action": list(actions), "Resource": "*", **elements}


def sign(aws: Aws, key: AccessKey, arn: str, **parameters: object) -> None:
    request = {"Message": bytes(32), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256", **parameters}
    aws.kms(key).sign(KeyId=arn, **request)


def test_a_key_policy_statement_lets_a_role_sign_and_nothing_else(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key(Policy=policy(allow(signer, "kms:Sign", "kms:GetPublicKey")))
    sign(aws, signer, arn)
    kms = aws.kms(signer)
    kms.get_public_key(KeyId=arn)
    granting = {"KeyId": arn, "GranteePrincipal": signer.caller.identity.arn, "Operations": ["Sign"]}
    forbidden = {
        "DescribeKey": lambda: kms.describe_key(KeyId=arn),
        "GetKeyPolicy": lambda: kms.get_key_policy(KeyId=arn),
        "PutKeyPolicy": lambda: kms.put_key_policy(KeyId=arn, Policy=policy()),
        "CreateGrant": lambda: kms.create_grant(**granting, DryRun=True),
        "DisableKey": lambda: kms.disable_key(KeyId=arn),
        "ScheduleKeyDeletion": lambda: kms.schedule_key_deletion(KeyId=arn),
        "ListKeys": kms.list_keys,
        "CreateKey": kms.create_key,
        "ListAliases": kms.list_aliases,
        "CreateAlias": lambda: kms.create_alias(AliasName="alias/mine", TargetKeyId=arn),
    }
    for action, call in forbidden.items():
        with pytest.raises(ClientError, match=f"not authorized to perform: kms:{action}") as caught:
            call()
        assert code_of(caught.value) == "AccessDeniedException"


def test_a_key_policy_that_names_only_the_account_leaves_it_to_the_identity_policy(aws: Aws) -> None:
    arn = aws.new_key()
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, aws.role("without-policy"), arn)
    sign(aws, aws.role("with-policy", actions=("kms:Sign",)), arn)


def test_a_denial_names_caller_action_and_key(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    with pytest.raises(ClientError) as caught:
        sign(aws, signer, arn)
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/signer/sandbox"
    assert message_of(caught.value) == (
        f"User: {session} is not authorized to perform: kms:Sign on resource: {arn} "
        "because no resource-based policy allows the kms:Sign action"
    )


def test_taking_the_statement_out_denies_at_once_and_giving_it_back_allows_at_once(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key(Policy=policy(allow(signer, "kms:Sign")))
    for _ in range(3):
        sign(aws, signer, arn)
        aws.kms().put_key_policy(KeyId=arn, Policy=policy())
        with pytest.raises(ClientError, match="AccessDeniedException"):
            sign(aws, signer, arn)
        aws.kms().put_key_policy(KeyId=arn, Policy=policy(allow(signer, "kms:Sign")))
    assert aws.kms().get_key_policy(KeyId=arn)["Policy"] == policy(allow(signer, "kms:Sign"))


def test_an_explicit_deny_beats_policy_and_grant(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key(Policy=policy(allow(signer, "kms:Sign"), {**allow(signer, "kms:Sign"), "Effect": "Deny"}))
    aws.kms().create_grant(KeyId=arn, GranteePrincipal=signer.caller.identity.arn, Operations=["Sign"])
    with pytest.raises(ClientError, match="with an explicit deny"):
        sign(aws, signer, arn)


def test_a_dry_run_tells_a_permission_that_is_missing_from_one_that_is_there(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    with pytest.raises(ClientError) as caught:
        sign(aws, signer, arn, DryRun=True)
    assert code_of(caught.value) == "AccessDeniedException"
    aws.kms().put_key_policy(KeyId=arn, Policy=policy(allow(signer, "kms:Sign")))
    with pytest.raises(ClientError) as caught:
        sign(aws, signer, arn, DryRun=True)
    assert code_of(caught.value) == "DryRunOperationException"


@pytest.mark.parametrize(
    ("condition", "parameters", "allowed"),
    [
        ({"kms:SigningAlgorithm": "ECDSA_SHA_256"}, {}, True),
        ({"kms:SigningAlgorithm": "ECDSA_SHA_384"}, {}, False),
        ({"kms:MessageType": "DIGEST"}, {}, True),
        ({"kms:MessageType": "RAW"}, {}, False),
        ({"kms:MessageType": "RAW"}, {"MessageType": "RAW"}, True),
        ({"kms:KeySpec": "ECC_NIST_P256", "kms:KeyUsage": "SIGN_VERIFY"}, {}, True),
        ({"kms:CallerAccount": OTHER_ACCOUNT}, {}, False),
        ({"kms:RequestAlias": "alias/x"}, {}, False),
        ({"aws:PrincipalTag/team": "media"}, {}, True),
        ({"aws:PrincipalTag/team": "news"}, {}, False),
        ({"aws:ResourceTag/stage": "test"}, {}, True),
        ({"aws:ResourceTag/stage": "production"}, {}, False),
        ({"aws:NoSuchKey": "x"}, {}, False),
    ],
)
def test_conditions_of_a_key_policy_see_the_request(
    aws: Aws, condition: dict[str, str], parameters: dict[str, object], *, allowed: bool
) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/tagged"
    aws.emulator.directory.put(Identity(arn, tags={"team": "media"}))
    role = aws.emulator.directory.issue(arn)
    statement = allow(role, "kms:Sign", Condition={"StringEquals": condition})
    key = aws.new_key(Policy=policy(statement), Tags=[{"TagKey": "stage", "TagValue": "test"}])
    if allowed:
        sign(aws, role, key, **parameters)
        return
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, role, key, **parameters)


def test_a_condition_on_the_alias_sees_how_the_key_was_named(aws: Aws, signer: AccessKey) -> None:
    statement = allow(signer, "kms:Sign", Condition={"StringEquals": {"kms:RequestAlias": "alias/front-door"}})
    arn = aws.new_key(Policy=policy(statement))
    aws.kms().create_alias(AliasName="alias/front-door", TargetKeyId=arn)
    sign(aws, signer, "alias/front-door")
    sign(aws, signer, arn.rpartition("key/")[0] + "alias/front-door")
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, signer, arn)


def test_a_condition_of_sign_keeps_get_public_key_out(aws: Aws, signer: AccessKey) -> None:
    condition = {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}
    arn = aws.new_key(Policy=policy(allow(signer, "kms:Sign", "kms:GetPublicKey", Condition=condition)))
    sign(aws, signer, arn)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer).get_public_key(KeyId=arn)


def test_another_account_needs_both_policies_and_learns_nothing_without(aws: Aws) -> None:
    foreign = aws.role("foreign", account=OTHER_ACCOUNT, actions=("kms:Sign",))
    unequipped = aws.role("unequipped", account=OTHER_ACCOUNT)
    arn = aws.new_key(Policy=policy(allow(foreign, "kms:Sign"), allow(unequipped, "kms:Sign")))
    sign(aws, foreign, arn)
    messages = set()
    for key, name in ((unequipped, arn), (foreign, aws.new_key()), (foreign, arn[:-12] + "0" * 12)):
        with pytest.raises(ClientError, match="AccessDeniedException") as caught:
            sign(aws, key, name)
        messages.add(message_of(caught.value).partition("on this resource")[2])
    assert len(messages) == 1


def test_another_account_does_not_find_a_key_by_its_id_or_manage_it(aws: Aws) -> None:
    foreign = aws.role("foreign", account=OTHER_ACCOUNT, actions=("kms:*",))
    arn = aws.new_key(Policy=policy(allow(foreign, "kms:*")))
    with pytest.raises(ClientError, match="NotFoundException"):
        sign(aws, foreign, arn.rpartition("/")[2])
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(foreign).disable_key(KeyId=arn)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        json.dumps({"Version": "2012-10-17", "Statement": []}),
        json.dumps({"Statement": [{**ADMINISTRATION, "Condition": {"DateLessThan": {"aws:CurrentTime": "x"}}}]}),
        json.dumps({"Statement": [{**ADMINISTRATION, "Action": "kms:Sign"}]}),
        json.dumps({"Statement": [{**ADMINISTRATION, "Principal": {"AWS": f"arn:aws:iam::{OTHER_ACCOUNT}:root"}}]}),
    ],
)
def test_a_policy_that_is_malformed_or_locks_its_author_out_is_refused_and_the_old_one_stays(
    aws: Aws, text: str
) -> None:
    arn = aws.new_key(Policy=policy())
    with pytest.raises(ClientError, match="MalformedPolicyDocumentException"):
        aws.kms().put_key_policy(KeyId=arn, Policy=text)
    assert aws.kms().get_key_policy(KeyId=arn)["Policy"] == policy()


def test_who_insists_may_lock_themselves_out(aws: Aws) -> None:
    arn = aws.new_key()
    text = json.dumps({"Statement": [{**ADMINISTRATION, "Action": "kms:Sign"}]})
    aws.kms().put_key_policy(KeyId=arn, Policy=text, BypassPolicyLockoutSafetyCheck=True)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms().put_key_policy(KeyId=arn, Policy=policy())


def test_an_alias_moves_only_by_who_may_on_both_keys(aws: Aws, signer: AccessKey) -> None:
    arn, mine = aws.new_key(), aws.new_key(Policy=policy(allow(signer, "kms:UpdateAlias")))
    aws.kms().create_alias(AliasName="alias/guarded", TargetKeyId=arn)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer).update_alias(AliasName="alias/guarded", TargetKeyId=mine)


def test_an_alias_of_the_same_name_in_another_region_is_another(aws: Aws) -> None:
    first = aws.new_key()
    aws.kms().create_alias(AliasName="alias/regional", TargetKeyId=first)
    with pytest.raises(ClientError, match="NotFoundException"):
        aws.kms(region="us-west-2").get_public_key(KeyId="alias/regional")
