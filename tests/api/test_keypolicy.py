"""Policy statements are ready to paste: golden texts."""

import json

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.keypolicy import Grantee, as_json, key_policy_statements, session_tags, trust_statements
from byok_api.references import ObjectName

ROLE = "arn:aws:iam::111122223333:role/byok-signer"
OWNERS = "arn:aws:iam::444455556666:role/media"
TAGS = session_tags("prod", ObjectName("team", "photo"))

KEY_POLICY = """\
{
  "Effect": "Allow",
  "Principal": {
    "AWS": "arn:aws:iam::111122223333:role/byok-signer"
  },
  "Action": "kms:GetPublicKey",
  "Resource": "*"
},
{
  "Effect": "Allow",
  "Principal": {
    "AWS": "arn:aws:iam::111122223333:role/byok-signer"
  },
  "Action": "kms:Sign",
  "Resource": "*",
  "Condition": {
    "StringEquals": {
      "kms:SigningAlgorithm": "ECDSA_SHA_256",
      "kms:MessageType": "DIGEST"
    }
  }
}"""


def test_a_key_policy_allows_two_actions_and_no_more() -> None:
    assert as_json(key_policy_statements(Grantee(ROLE), SigningAlgorithm.ES256)) == KEY_POLICY


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_the_message_type_follows_the_algorithm(algorithm: SigningAlgorithm) -> None:
    sign = key_policy_statements(Grantee(ROLE), algorithm)[1]
    message_type = "RAW" if algorithm is SigningAlgorithm.ED25519 else "DIGEST"
    assert sign["Condition"] == {
        "StringEquals": {"kms:SigningAlgorithm": algorithm.facts.kms, "kms:MessageType": message_type}
    }


def test_conditions_of_sign_stand_in_no_other_statement() -> None:
    read = key_policy_statements(Grantee(ROLE), SigningAlgorithm.ES256)[0]
    assert "Condition" not in read


def test_an_assumed_role_is_held_to_the_keys_own_session() -> None:
    statements = key_policy_statements(Grantee(OWNERS, TAGS, assumed_by=ROLE), SigningAlgorithm.ES256)
    for statement in statements:
        text = json.dumps(statement["Condition"])
        assert '"aws:PrincipalTag/byok-namespace": "team"' in text
        assert '"aws:PrincipalTag/byok-key": "photo"' in text
        assert statement["Principal"] == {"AWS": OWNERS}


def test_a_trust_policy_demands_the_external_id_and_the_tags() -> None:
    assume, tag = trust_statements(Grantee(OWNERS, TAGS, assumed_by=ROLE), "byok:prod:team/photo")
    tags = {"aws:RequestTag/byok-cluster": "prod", "aws:RequestTag/byok-namespace": "team"}
    tags |= {"aws:RequestTag/byok-key": "photo"}
    assert assume == {
        "Effect": "Allow",
        "Principal": {"AWS": ROLE},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "byok:prod:team/photo"} | tags},
    }
    assert tag == {
        "Effect": "Allow",
        "Principal": {"AWS": ROLE},
        "Action": "sts:TagSession",
        "Condition": {"StringEquals": tags},
    }


def test_without_a_role_no_trust_is_missing() -> None:
    assert trust_statements(Grantee(ROLE), "byok:prod:team/photo") == []
