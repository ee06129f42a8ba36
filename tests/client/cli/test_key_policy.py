"""`byokctl key policy`: what an owner pastes, in each form."""

import json
from pathlib import Path

import pytest
import yaml

from byok_api.algorithms import SigningAlgorithm
from tests.support.api_server_thread import api_server_in_thread
from tests.support.command_line import Cli
from tests.support.manifests import KEY_ARN, key_document

SIGNER = "arn:aws:iam::111122223333:role/byok-signer"
ROLE = "arn:aws:iam::444455556666:role/team/sign"
ALIAS = "arn:aws:kms:eu-central-1:111122223333:alias/brand"


def _written(folder: Path, **spec: object) -> Path:
    path = folder / "brand.yaml"
    path.write_text(yaml.safe_dump(key_document("media/brand", **spec)))
    return path


def test_both_statements_are_written_for_the_signers_role(cli: Cli, tmp_path: Path) -> None:
    ended = cli("key", "policy", "media/brand", "-f", _written(tmp_path), "--signer-role", SIGNER)
    assert ended.status == 0, ended.err
    heading, *statements = ended.out.splitlines()
    assert heading == f"# Into the Statement of the key policy of {KEY_ARN}:"
    public_key, sign = json.loads("[" + "\n".join(statements) + "]")
    assert public_key == {
        "Effect": "Allow",
        "Principal": {"AWS": SIGNER},
        "Action": "kms:GetPublicKey",
        "Resource": "*",
    }
    assert sign["Condition"]["StringEquals"] == {
        "kms:SigningAlgorithm": "ECDSA_SHA_256",
        "kms:MessageType": "DIGEST",
    }


def test_a_key_with_a_role_gets_its_trust_policy_and_tags(cli: Cli, tmp_path: Path) -> None:
    aws = {"keyArn": KEY_ARN, "assumeRole": {"arn": ROLE}}
    file = _written(tmp_path, aws=aws)
    arguments = ("key", "policy", "media/brand", "-f", file, "--signer-role", SIGNER, "--installation", "prod")
    document = cli(*arguments, "-o", "json").document
    assert document["externalId"] == "byok:prod:media/brand"
    assume, tag = document["trustPolicyStatements"]
    assert assume["Condition"]["StringEquals"]["sts:ExternalId"] == "byok:prod:media/brand"
    assert (assume["Principal"]["AWS"], tag["Action"]) == (SIGNER, "sts:TagSession")
    tags = document["keyPolicyStatements"][0]["Condition"]["StringEquals"]
    assert tags["aws:PrincipalTag/byok-key"] == "brand"
    assert "of that role must allow kms:GetPublicKey" in cli(*arguments).out


def test_commands_resolve_an_alias_first(cli: Cli, tmp_path: Path) -> None:
    file = _written(tmp_path, aws={"keyArn": ALIAS})
    ended = cli("key", "policy", "media/brand", "-f", file, "--signer-role", SIGNER, "--as", "cli")
    assert f"aws kms describe-key --region eu-central-1 --key-id {ALIAS}" in ended.out
    assert 'aws kms put-key-policy --region eu-central-1 --key-id "$key"' in ended.out


def test_terraform_has_a_document_with_both_statements(cli: Cli, tmp_path: Path) -> None:
    ended = cli("key", "policy", "media/brand", "-f", _written(tmp_path), "--signer-role", SIGNER, "--as", "terraform")
    assert 'data "aws_iam_policy_document" "byok_brand" {' in ended.out
    assert ended.out.count("  statement {") == 2
    assert ended.out.count("{") == ended.out.count("}")


WRONG = [
    (("--signer-role", "byok-signer"), 2, "expected the ARN of an IAM role"),
    (("--signer-role", SIGNER), 2, "--installation"),
]


@pytest.mark.parametrize(("options", "status", "expected"), WRONG)
def test_what_cannot_be_written_is_told(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], status: int, expected: str
) -> None:
    file = _written(tmp_path, aws={"keyArn": KEY_ARN, "assumeRole": {"arn": ROLE}})
    ended = cli("key", "policy", "media/brand", "-f", file, *options)
    assert (ended.status, expected in ended.err) == (status, True)


@pytest.mark.parametrize("given", [("--algorithm", "PS256"), ()])
def test_an_algorithm_that_the_certificate_is_not_for_is_refused(
    cli: Cli, tmp_path: Path, given: tuple[str, ...]
) -> None:
    file = _written(tmp_path, signingAlgorithm="PS256")
    ended = cli("key", "policy", "media/brand", "-f", file, "--signer-role", SIGNER, *given)
    assert (ended.status, ended.out) == (1, "")
    assert "KeyInvalid: ByokKey media/brand cannot sign with its spec.signingAlgorithm PS256" in ended.err
    assert "its certificate's key is for ES256" in ended.err


@pytest.mark.parametrize("algorithm", list(SigningAlgorithm))
def test_a_key_without_algorithm_and_certificate_takes_the_one_given(
    cli: Cli, tmp_path: Path, algorithm: SigningAlgorithm
) -> None:
    file = _written(tmp_path, certificate=None)
    asked = ("key", "policy", "media/brand", "-f", file, "--signer-role", SIGNER)
    _, sign = cli(*asked, "--algorithm", algorithm, "-o", "json").document["keyPolicyStatements"]
    assert sign["Condition"]["StringEquals"]["kms:SigningAlgorithm"] == algorithm.facts.kms
    refused = cli(*asked)
    assert (refused.status, "--algorithm" in refused.err, algorithm in refused.err) == (2, True, True)


def test_another_algorithm_than_the_keys_is_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    file = _written(tmp_path)
    ended = cli("key", "policy", "media/brand", "-f", file, "--signer-role", SIGNER, "--algorithm", "ES384")
    assert (ended.status, "ByokKey media/brand signs with ES256" in ended.err) == (2, True)


def test_a_key_of_the_cluster_takes_the_algorithm_that_kms_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_server_in_thread() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path))
        server.put("byok.dev/byokkeys", key_document(certificate=None) | {"status": {"algorithm": "PS384"}})
        document = cli("key", "policy", "media/brand", "--signer-role", SIGNER, "-o", "json").document
    sign = document["keyPolicyStatements"][1]
    assert sign["Condition"]["StringEquals"]["kms:SigningAlgorithm"] == "RSASSA_PSS_SHA_384"


def test_a_key_that_the_file_does_not_hold_is_named(cli: Cli, tmp_path: Path) -> None:
    ended = cli("key", "policy", "media/other", "-f", _written(tmp_path), "--signer-role", SIGNER)
    assert (ended.status, "holds no readable ByokKey media/other" in ended.err) == (1, True)
