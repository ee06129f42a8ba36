"""Grants on the emulated KMS give their grantee what they say, from the next call on, until they are taken back."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from byok_sandbox.kms.identities import AccessKey
from tests.support.emulator import ACCOUNT, OTHER_ACCOUNT, Aws, code_of, running_emulator


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


@pytest.fixture
def signer(aws: Aws) -> AccessKey:
    return aws.role("signer")


def sign(aws: Aws, key: AccessKey, arn: str, **parameters: object) -> None:
    aws.kms(key).sign(KeyId=arn, Message=b"claim", SigningAlgorithm="ECDSA_SHA_256", **parameters)


def grant(aws: Aws, arn: str, key: AccessKey, *operations: str, **parameters: object) -> dict[str, str]:
    principal = key.caller.identity.arn
    answer = aws.kms().create_grant(KeyId=arn, GranteePrincipal=principal, Operations=list(operations), **parameters)
    return {"GrantId": answer["GrantId"], "GrantToken": answer["GrantToken"]}


def test_a_grant_allows_what_it_lists_and_nothing_else(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    grant(aws, arn, signer, "Sign")
    sign(aws, signer, arn)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer).get_public_key(KeyId=arn)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, signer, aws.new_key())
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, aws.role("another"), arn)


def test_a_revoked_grant_allows_nothing_any_more(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    made = grant(aws, arn, signer, "Sign")
    aws.kms().revoke_grant(KeyId=arn, GrantId=made["GrantId"])
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, signer, arn)
    with pytest.raises(ClientError, match="NotFoundException"):
        aws.kms().revoke_grant(KeyId=arn, GrantId=made["GrantId"])


def test_a_grant_across_accounts_needs_no_key_policy(aws: Aws) -> None:
    foreign = aws.role("foreign", account=OTHER_ACCOUNT)
    arn = aws.new_key()
    grant(aws, arn, foreign, "Sign")
    sign(aws, foreign, arn)


def test_a_grant_on_a_replica_is_not_one_on_the_primary(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key(MultiRegion=True)
    aws.kms().replicate_key(KeyId=arn, ReplicaRegion="us-west-2")
    grant(aws, arn, signer, "Sign")
    replica = arn.replace("eu-central-1", "us-west-2")
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer, "us-west-2").sign(KeyId=replica, Message=b"x", SigningAlgorithm="ECDSA_SHA_256")


def test_list_grants_shows_what_was_granted_and_never_the_token(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    made = grant(aws, arn, signer, "Sign", "GetPublicKey", Name="for-the-signer")
    (entry,) = aws.kms().list_grants(KeyId=arn)["Grants"]
    assert (entry["GrantId"], entry["Name"], entry["KeyId"]) == (made["GrantId"], "for-the-signer", arn)
    assert entry["Operations"] == ["GetPublicKey", "Sign"]
    assert entry["GranteePrincipal"] == signer.caller.identity.arn
    assert entry["IssuingAccount"] == f"arn:aws:iam::{ACCOUNT}:root"
    assert made["GrantToken"] not in str(entry)
    assert aws.kms().list_grants(KeyId=arn, GrantId="0" * 64)["Grants"] == []


def test_the_same_named_grant_asked_for_twice_is_one(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    first = grant(aws, arn, signer, "Sign", Name="once")
    assert grant(aws, arn, signer, "Sign", Name="once") == first
    assert grant(aws, arn, signer, "Sign") != grant(aws, arn, signer, "Sign")


def test_a_grantee_with_create_grant_passes_on_no_more_than_it_has(aws: Aws, signer: AccessKey) -> None:
    arn, third = aws.new_key(), aws.role("third")
    grant(aws, arn, signer, "Sign", "CreateGrant")
    request = {"KeyId": arn, "GranteePrincipal": third.caller.identity.arn}
    aws.kms(signer).create_grant(**request, Operations=["Sign"])
    sign(aws, third, arn)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer).create_grant(**request, Operations=["Sign", "GetPublicKey"])


def test_a_grant_is_retired_by_whom_it_names_and_nobody_else(aws: Aws, signer: AccessKey) -> None:
    arn, retiring = aws.new_key(), aws.role("retiring")
    made = grant(aws, arn, signer, "Sign", RetiringPrincipal=retiring.caller.identity.arn)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        aws.kms(signer).retire_grant(GrantToken=made["GrantToken"])
    sign(aws, signer, arn)
    with pytest.raises(ClientError, match="would have succeeded"):
        aws.kms(retiring).retire_grant(GrantToken=made["GrantToken"], DryRun=True)
    aws.kms(retiring).retire_grant(KeyId=arn, GrantId=made["GrantId"])
    with pytest.raises(ClientError, match="AccessDeniedException"):
        sign(aws, signer, arn)


def test_a_grantee_that_may_retire_its_grant_does(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    made = grant(aws, arn, signer, "Sign", "RetireGrant")
    aws.kms(signer).retire_grant(GrantToken=made["GrantToken"])
    assert aws.kms().list_grants(KeyId=arn)["Grants"] == []


def test_grant_tokens_that_were_never_given_out_are_refused(aws: Aws, signer: AccessKey) -> None:
    arn = aws.new_key()
    made = grant(aws, arn, signer, "Sign")
    sign(aws, signer, arn, GrantTokens=[made["GrantToken"]])
    with pytest.raises(ClientError, match="InvalidGrantTokenException"):
        sign(aws, signer, arn, GrantTokens=["made-up"])


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Operations": ["Fly"]}, "ValidationException"),
        ({"Operations": ["Encrypt"]}, "ValidationException"),
        ({"Operations": []}, "ValidationException"),
        ({"GranteePrincipal": "arn:aws:s3:::bucket"}, "InvalidArnException"),
        ({"RetiringPrincipal": "nobody"}, "InvalidArnException"),
        ({"Name": "no spaces"}, "ValidationException"),
        ({"Constraints": {"EncryptionContextEquals": {"a": "b"}}}, "UnsupportedOperationException"),
        ({"DryRun": True}, "DryRunOperationException"),
    ],
)
def test_create_grant_refuses_what_makes_no_grant(
    aws: Aws, signer: AccessKey, parameters: dict[str, object], code: str
) -> None:
    arn = aws.new_key()
    request = {"GranteePrincipal": signer.caller.identity.arn, "Operations": ["Sign"], **parameters}
    with pytest.raises(ClientError) as caught:
        aws.kms().create_grant(KeyId=arn, **request)
    assert code_of(caught.value) == code
    assert aws.kms().list_grants(KeyId=arn)["Grants"] == []
