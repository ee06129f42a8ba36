"""Key and trust policies decide as IAM does; what cannot be evaluated is refused, or counts against the caller."""

import json
from typing import Any

import pytest

from byok_sandbox.kms.policies import POLICY_LIMIT, PolicyError, Request, Verdict, allows, parse_policy

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLE = "arn:aws:iam::111122223333:role/signer"
SESSION = "arn:aws:sts::111122223333:assumed-role/signer/pod-1"
ROOT = "arn:aws:iam::111122223333:root"
NEITHER = Verdict(denied=False, direct=False, delegated=False)
DIRECT = Verdict(denied=False, direct=True, delegated=False)
DELEGATED = Verdict(denied=False, direct=False, delegated=True)
DENIED = Verdict(denied=True, direct=False, delegated=False)


def statement(**elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Sign", "Resource": "*", **elements}


def without(element: str, **elements: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {name: value for name, value in statement(**elements).items() if name != element}


def evaluate(*statements: dict[str, Any], action: str = "kms:Sign", **context: str) -> Verdict:
    policy = parse_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
    values = {name.replace("__", ":").replace("_", "/"): (value,) for name, value in context.items()}
    return policy.evaluate(Request(action, KEY, "111122223333", frozenset({ROLE, SESSION}), values))


@pytest.mark.parametrize(
    ("principal", "verdict"),
    [
        ("*", DIRECT),
        ({"AWS": "*"}, DIRECT),
        ({"AWS": ROLE}, DIRECT),
        ({"AWS": SESSION}, DIRECT),
        ({"AWS": ["arn:aws:iam::111122223333:role/other", ROLE]}, DIRECT),
        ({"AWS": ROOT}, DELEGATED),
        ({"AWS": "111122223333"}, DELEGATED),
        ({"AWS": [ROOT, ROLE]}, Verdict(denied=False, direct=True, delegated=True)),
        ({"AWS": "arn:aws:iam::111122223333:role/signer2"}, NEITHER),
        ({"AWS": "arn:aws:iam::444455556666:role/signer"}, NEITHER),
        ({"AWS": "arn:aws:iam::444455556666:root"}, NEITHER),
        ({"AWS": "444455556666"}, NEITHER),
        ({"Service": "kms.amazonaws.com"}, NEITHER),
    ],
)
def test_a_statement_applies_to_the_principals_it_names(principal: object, verdict: Verdict) -> None:
    assert evaluate(statement(Principal=principal)) == verdict


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ("kms:Sign", DIRECT),
        ("KMS:sign", DIRECT),
        ("kms:*", DIRECT),
        ("*", DIRECT),
        ("kms:S*", DIRECT),
        ("kms:?ign", DIRECT),
        (["kms:GetPublicKey", "kms:Sign"], DIRECT),
        ("kms:Sig", NEITHER),
        ("kms:GetPublicKey", NEITHER),
        ("kms:Sign.", NEITHER),
        ("sts:*", NEITHER),
    ],
)
def test_a_statement_applies_to_the_actions_it_names(action: object, verdict: Verdict) -> None:
    assert evaluate(statement(Action=action)) == verdict


def test_not_action_applies_to_all_others() -> None:
    assert evaluate(without("Action", NotAction="kms:Put*")) == DIRECT
    assert evaluate(without("Action", NotAction="kms:S*")) == NEITHER


def test_a_statement_applies_to_the_resources_it_names() -> None:
    assert evaluate(statement(Resource=KEY)) == DIRECT
    assert evaluate(statement(Resource="arn:aws:kms:*:111122223333:key/*")) == DIRECT
    assert evaluate(statement(Resource=KEY[:-1] + "c")) == NEITHER


def test_an_explicit_deny_wins_whatever_the_order() -> None:
    deny = statement(Effect="Deny")
    for statements in ((statement(), deny), (deny, statement())):
        assert evaluate(*statements).denied


def test_a_deny_of_the_account_hits_everybody_in_it() -> None:
    assert evaluate(statement(), statement(Effect="Deny", Principal={"AWS": ROOT})).denied


@pytest.mark.parametrize(
    ("verdict", "same_account", "identity_allows", "allowed"),
    [
        (DIRECT, True, False, True),
        (DELEGATED, True, False, False),
        (DELEGATED, True, True, True),
        (NEITHER, True, True, False),
        (DIRECT, False, False, False),
        (DIRECT, False, True, True),
        (DELEGATED, False, True, True),
        (NEITHER, False, True, False),
        (DENIED, True, True, False),
        (Verdict(denied=True, direct=True, delegated=True), True, True, False),
    ],
)
def test_key_policy_and_identity_policy_are_weighed_as_iam_does(
    verdict: Verdict, *, same_account: bool, identity_allows: bool, allowed: bool
) -> None:
    assert allows(verdict, same_account=same_account, identity_allows=identity_allows) is allowed


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}, DIRECT),
        ({"StringEquals": {"KMS:signingalgorithm": "ECDSA_SHA_256"}}, DIRECT),
        ({"StringEquals": {"kms:SigningAlgorithm": ["ECDSA_SHA_384", "ECDSA_SHA_256"]}}, DIRECT),
        ({"StringEquals": {"kms:SigningAlgorithm": "ecdsa_sha_256"}}, NEITHER),
        ({"StringEqualsIgnoreCase": {"kms:SigningAlgorithm": "ecdsa_sha_256"}}, DIRECT),
        ({"StringNotEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}, NEITHER),
        ({"StringNotEquals": {"kms:SigningAlgorithm": ["ECDSA_SHA_384", "ECDSA_SHA_256"]}}, NEITHER),
        ({"StringNotEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_384"}}, DIRECT),
        ({"StringLike": {"kms:SigningAlgorithm": "ECDSA_SHA_*"}}, DIRECT),
        ({"StringLike": {"kms:SigningAlgorithm": "ECDSA"}}, NEITHER),
        ({"StringNotLike": {"kms:SigningAlgorithm": "RSA*"}}, DIRECT),
        ({"ForAnyValue:StringEquals": {"kms:SigningAlgorithm": ["ECDSA_SHA_256"]}}, DIRECT),
        ({"ForAllValues:StringEquals": {"kms:SigningAlgorithm": ["ECDSA_SHA_384"]}}, NEITHER),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}}, DIRECT),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::444455556666:role/*"}}, NEITHER),
        ({"StringEquals": {"aws:PrincipalTag/team": "media"}}, DIRECT),
        ({"StringEquals": {"aws:PrincipalTag/Team": "media"}}, DIRECT),
        ({"StringEquals": {"aws:PrincipalTag/team": "other"}}, NEITHER),
        ({"Null": {"aws:PrincipalTag/team": "false"}}, DIRECT),
        ({"Null": {"aws:PrincipalTag/team": True}}, NEITHER),
        ({"Bool": {"kms:MultiRegion": True}}, DIRECT),
        ({"Bool": {"kms:MultiRegion": "false"}}, NEITHER),
        # Two operators, and two keys of one operator, have to hold both.
        ({"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "RAW"}}, NEITHER),
        (
            {"StringEquals": {"kms:MessageType": "DIGEST"}, "StringLike": {"kms:SigningAlgorithm": "ECDSA*"}},
            DIRECT,
        ),
    ],
)
def test_conditions_compare_what_is_known_of_the_request(condition: object, verdict: Verdict) -> None:
    given = {
        "kms__signingalgorithm": "ECDSA_SHA_256",
        "kms__messagetype": "DIGEST",
        "kms__multiregion": "true",
        "aws__principalarn": ROLE,
        "aws__principaltag_team": "media",
    }
    assert evaluate(statement(Condition=condition), **given) == verdict


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}, NEITHER),
        ({"StringEqualsIfExists": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}, DIRECT),
        ({"StringNotEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}, DIRECT),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": "team"}}, NEITHER),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": "team"}}, DIRECT),
        ({"Null": {"kms:SigningAlgorithm": "true"}}, DIRECT),
        ({"Null": {"kms:SigningAlgorithm": "false"}}, NEITHER),
    ],
)
def test_conditions_on_what_a_request_does_not_have(condition: object, verdict: Verdict) -> None:
    assert evaluate(statement(Condition=condition), action="kms:Sign") == verdict


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEquals", "StringEqualsIfExists", "Null"])
def test_an_unknown_condition_key_counts_against_the_caller(operator: str) -> None:
    condition = {operator: {"aws:SourceVpce": "true"}}
    assert evaluate(statement(Condition=condition)) == NEITHER
    assert evaluate(statement(), statement(Effect="Deny", Condition=condition)).denied


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (statement(Effect="allow"), "Effect must be Allow or Deny"),
        (statement(NotPrincipal="*"), "does not evaluate NotPrincipal"),
        (without("Principal"), "Principal must be"),
        (statement(Principal=ROLE), "Principal must be"),
        (statement(Principal={"AWS": "arn:aws:iam::111122223333:role/*x?"}), "no valid principal"),
        (statement(Principal={"AWS": "arn:aws:s3:::bucket"}), "no valid principal"),
        (statement(Principal={"AWS": []}), "must be a string or a list"),
        (without("Action"), "exactly one of Action and NotAction"),
        (statement(NotAction="kms:Sign"), "exactly one of Action and NotAction"),
        (statement(Action=7), "must be a string or a list"),
        (statement(Condition=[]), "must be an object"),
        (statement(Condition={"StringEquals": "x"}), "must be an object of condition keys"),
        (statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), "does not evaluate the operator"),
        (statement(Condition={"StringEquals": {"kms:KeySpec": 1}}), "must be compared with strings"),
        (statement(Condition={"StringEquals": {"kms:KeySpec": "${aws:username}"}}), "policy variables"),
    ],
)
def test_a_statement_that_cannot_be_evaluated_is_refused_by_name(broken: dict[str, Any], finding: str) -> None:
    with pytest.raises(PolicyError, match=finding) as caught:
        evaluate(statement(), broken)
    assert "Statement[1]" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"Statement": []}',
        '{"Statement": ["x"]}',
        '{"Statement": [{}], "Version": "2020-01-01"}',
        '{"Statement": [{}], "Extra": 1}',
        "[" * 20_000,
        " " * (POLICY_LIMIT + 1),
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)
