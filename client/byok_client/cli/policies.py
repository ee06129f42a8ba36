"""The work of `byokctl key policy`: what a key's owner pastes into AWS, in three forms."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.errors import Reason, Refusal
from byok_api.key_rules import Registered, algorithm_of
from byok_api.keypolicy import Grantee, Statement, as_json, key_policy_statements, session_tags, trust_statements
from byok_api.references import ROLE_ARN_PATTERN, KeyArn, ObjectName
from byok_api.signatures import algorithms_for
from byok_client.cli.cluster_keys import key_named, read_key
from byok_client.cli.manifest_files import read_manifests
from byok_client.cli.output import Line, Report

_VERSION = "2012-10-17"


@dataclass(frozen=True)
class _Policies:
    """What must be granted for one ByokKey."""

    key: ByokKey
    arn: KeyArn
    grantee: Grantee
    algorithm: SigningAlgorithm
    external_id: str

    @property
    def statements(self) -> list[Statement]:
        return key_policy_statements(self.grantee, self.algorithm)

    @property
    def trust(self) -> list[Statement]:
        return trust_statements(self.grantee, self.external_id)

    @property
    def is_of_another_account(self) -> bool:
        return f":{self.arn.account}:" not in self.grantee.principal


@dataclass(frozen=True)
class Wanted:
    """Whose policies are wanted, and how."""

    key: str
    file: Path | None
    """Manifest to read it from; None for the cluster."""
    signer_role: str
    installation: str | None
    algorithm: SigningAlgorithm | None
    """For a key that does not say which yet."""
    form: str


def policy(wanted: Wanted) -> Report:
    """Write the policies for a key; Refusal if it cannot be read, BadParameter if it does not say enough."""
    if re.fullmatch(ROLE_ARN_PATTERN, wanted.signer_role) is None:
        raise typer.BadParameter("expected the ARN of an IAM role", param_hint="--signer-role")
    name = key_named(wanted.key)
    key, status = read_key(name) if wanted.file is None else (_key_in(wanted.file, name), {})
    algorithm = _algorithm_of(key, status, wanted.algorithm)
    policies = _policies(key, status, wanted, algorithm)
    document = {
        "key": str(key.name),
        "keyArn": str(policies.arn),
        "principal": policies.grantee.principal,
        "externalId": policies.external_id or None,
        "keyPolicyStatements": policies.statements,
        "trustPolicyStatements": policies.trust,
    }
    lines = _FORMS[wanted.form](policies)
    if policies.is_of_another_account:
        lines = [*lines, *_comment(_FOREIGN.format(principal=policies.grantee.principal, arn=policies.arn))]
    return Report(document, [Line(line) for line in lines])


_FOREIGN = (
    "The key is another account's than {principal}: an IAM policy of that role must allow kms:GetPublicKey and "
    "kms:Sign on {arn} too."
)


def _key_in(file: Path, name: ObjectName) -> ByokKey:
    found = read_manifests([file], namespace=name.namespace).keys.get(name)
    if found is None:
        raise Refusal(Reason.ObjectNotFound, f"{file} holds no readable ByokKey {name}; byokctl key lint {file}")
    return found


def _policies(key: ByokKey, status: Mapping[str, Any], wanted: Wanted, algorithm: SigningAlgorithm) -> _Policies:
    role, arn = key.spec.aws.assume_role, KeyArn(key.spec.aws.key_arn)
    if role is None:
        return _Policies(key, arn, Grantee(wanted.signer_role), algorithm, "")
    name = wanted.installation or _installation_in(status)
    if name is None:
        raise typer.BadParameter(
            "the key's role demands an external id, which begins with the installation's name; ask the platform team",
            param_hint="--installation",
        )
    grantee = Grantee(role.arn, session_tags(name, key.name), assumed_by=wanted.signer_role)
    return _Policies(key, arn, grantee, algorithm, f"byok:{name}:{key.name}")


def _installation_in(status: Mapping[str, Any]) -> str | None:
    parts = str(status.get("externalId", "")).split(":")
    return parts[1] if len(parts) == len(("byok", "installation", "namespace/name")) else None


def _algorithm_of(key: ByokKey, status: Mapping[str, Any], asked: SigningAlgorithm | None) -> SigningAlgorithm:
    """Find out what the signer will sign with, by the key's own rules; Refusal if nothing fits its certificate."""
    registered = Registered.read(key.spec.certificate.pem) if key.spec.certificate else None
    known = algorithm_of(key, registered)
    if registered is not None and registered.chain is not None and known is None:
        possible = ", ".join(algorithms_for(registered.chain.public_key)) or "none that C2PA allows"
        wanted = key.spec.signing_algorithm
        text = (
            f"ByokKey {key.name} cannot sign with its spec.signingAlgorithm {wanted}: its certificate's key is for"
            if wanted
            else f"ByokKey {key.name} cannot sign: the algorithm of its certificate's key is"
        )
        raise Refusal(Reason.KeyInvalid, f"{text} {possible}")
    # Of a key that says nothing, KMS may have told the operator.
    known = known or _algorithm_in(status)
    if known is not None and asked not in {None, known}:
        raise typer.BadParameter(f"ByokKey {key.name} signs with {known}", param_hint="--algorithm")
    known = known or asked
    if known is None:
        raise typer.BadParameter(
            f"ByokKey {key.name} names no signingAlgorithm and has no readable certificate: say which to allow, "
            f"{', '.join(SigningAlgorithm)}",
            param_hint="--algorithm",
        )
    return known


def _algorithm_in(status: Mapping[str, Any]) -> SigningAlgorithm | None:
    said = status.get("algorithm")
    return SigningAlgorithm(said) if said in set(SigningAlgorithm) else None


def _as_json(policies: _Policies) -> list[str]:
    lines = _comment(f"Into the Statement of the key policy of {policies.arn}:")
    lines += as_json(policies.statements).splitlines()
    if policies.trust:
        lines += ["", *_comment(f"The trust policy of {policies.grantee.principal}:")]
        lines += json.dumps({"Version": _VERSION, "Statement": policies.trust}, indent=2).splitlines()
    return lines


def _as_commands(policies: _Policies) -> list[str]:
    arn, region = policies.arn, policies.arn.region
    # GetKeyPolicy and PutKeyPolicy take no alias (AWS KMS API reference).
    key = (
        f'"$(aws kms describe-key --region {region} --key-id {arn} --query KeyMetadata.Arn --output text)"'
        if arn.is_alias
        else str(arn)
    )
    lines = [
        f"key={key}",
        f'aws kms get-key-policy --region {region} --key-id "$key" --policy-name default \\',
        "  --query Policy --output text \\",
        f"  | jq --argjson byok '{json.dumps(policies.statements)}' '.Statement += $byok' > key-policy.json",
        f'aws kms put-key-policy --region {region} --key-id "$key" --policy-name default \\',
        "  --policy file://key-policy.json",
    ]
    if policies.trust:
        role = policies.grantee.principal.rpartition("/")[2]
        document = json.dumps({"Version": _VERSION, "Statement": policies.trust})
        lines += ["", *_comment("This replaces the role's whole trust policy.")]
        lines += [f"aws iam update-assume-role-policy --role-name {role} --policy-document '{document}'"]
    return lines


def _as_terraform(policies: _Policies) -> list[str]:
    name = f"byok_{policies.key.name.name.replace('-', '_').replace('.', '_')}"
    lines = _comment("Add it to the key's policy by source_policy_documents.")
    lines += _terraform_document(name, policies.statements)
    if policies.trust:
        lines += ["", *_comment(f"assume_role_policy of {policies.grantee.principal}.")]
        lines += _terraform_document(f"{name}_trust", policies.trust)
    return lines


def _terraform_document(name: str, statements: Sequence[Statement]) -> list[str]:
    lines = [f'data "aws_iam_policy_document" "{name}" {{']
    for statement in statements:
        lines += [f"  {line}" for line in _terraform_statement(statement)]
    return [*lines, "}"]


def _terraform_statement(statement: Mapping[str, Any]) -> list[str]:
    lines = ["statement {", f"  actions = [{json.dumps(statement['Action'])}]"]
    if "Resource" in statement:
        lines.append(f"  resources = [{json.dumps(statement['Resource'])}]")
    lines += ["  principals {", '    type = "AWS"', f"    identifiers = [{json.dumps(statement['Principal']['AWS'])}]"]
    lines.append("  }")
    for variable, value in statement.get("Condition", {}).get("StringEquals", {}).items():
        lines += ["  condition {", '    test = "StringEquals"', f"    variable = {json.dumps(variable)}"]
        lines += [f"    values = [{json.dumps(value)}]", "  }"]
    return [*lines, "}"]


def _comment(text: str) -> list[str]:
    return [f"# {text}"]


_FORMS = {"json": _as_json, "cli": _as_commands, "terraform": _as_terraform}
