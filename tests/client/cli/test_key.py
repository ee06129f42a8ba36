"""`byokctl key`: probes told with what to paste, certificates linted by name."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import CertificateChain
from byok_api.errors import Reason, Refusal
from byok_api.signer.v1.signer_pb2 import CreateCertificateRequestResponse, ProbeKeyResponse, ProbeResult
from tests.support.api_server_thread import api_server_in_thread
from tests.support.command_line import Cli, names_below
from tests.support.fake_probe import FakeProbe, probing
from tests.support.pki import NOW, Leaf, identity

PASSED = ProbeResult(outcome=ProbeResult.PASSED, kms_request_id="req-1")
STATEMENT = json.dumps({"Sid": "ByokSignerSigns", "Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}, indent=2)
DENIED = ProbeResult(
    outcome=ProbeResult.FAILED, reason="KeyAccessDenied", message="KMS denies kms:Sign", missing_statement=STATEMENT
)
THROTTLED = ProbeResult(outcome=ProbeResult.UNKNOWN, reason="KmsThrottled", message="quota used up")


@pytest.fixture
def probe(tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProbe]:
    with probing(tmp_path) as fake:
        monkeypatch.setenv("BYOK_SIGNER_ADDRESS", fake.address)
        monkeypatch.setenv("BYOK_SIGNER_TOKEN_FILE", str(token_file))
        yield fake


def _pem(chain: CertificateChain) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain.certificates)


def _manifest(folder: Path, **spec: object) -> Path:
    aws = {"keyArn": "arn:aws:kms:eu-central-1:111122223333:alias/studio"}
    document = {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": "ByokKey",
        "metadata": {"namespace": "media", "name": "studio"},
        "spec": {"aws": aws, **spec},
    }
    path = folder / "studio.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_key_that_passes_is_told_with_its_facts(cli: Cli, probe: FakeProbe) -> None:
    probe.answer = ProbeKeyResponse(
        get_public_key=PASSED, sign=PASSED, certificate=PASSED, standing=PASSED, key_arn="arn:key", algorithm="ES256"
    )
    ended = cli("key", "probe", "media/studio")
    assert ended.status == 0
    assert ended.out.splitlines() == [
        "media/studio",
        "  KMS key: arn:key",
        "  algorithm: ES256",
        "  getPublicKey: passed",
        "  sign: passed",
        "  certificate: passed",
        "  standing: passed",
    ]
    (request,) = probe.requests
    assert (request.namespace, request.name, request.least_privilege) == ("media", "studio", False)


def test_a_denied_key_prints_the_statement_to_paste(cli: Cli, probe: FakeProbe) -> None:
    probe.answer = ProbeKeyResponse(get_public_key=PASSED, sign=DENIED)
    ended = cli("key", "probe", "media/studio")
    assert ended.status == 1
    assert (
        f"  sign: failed: KeyAccessDenied: KMS denies kms:Sign\n    {Reason.KeyAccessDenied.facts.remedy}" in ended.out
    )
    assert ended.out.endswith(f"Add to the key policy's Statement:\n{STATEMENT}\n")
    assert json.loads(ended.out.partition("Statement:\n")[2])["Action"] == "kms:Sign"


@pytest.mark.parametrize("reason", [Reason.KeyClaimedElsewhere, Reason.KeyInvalid, Reason.KeyDeactivated])
def test_a_key_that_the_rules_refuse_fails_whatever_kms_says(cli: Cli, probe: FakeProbe, reason: Reason) -> None:
    refused = ProbeResult(outcome=ProbeResult.FAILED, reason=reason.name, message="key media/studio cannot be used")
    probe.answer = ProbeKeyResponse(get_public_key=PASSED, sign=PASSED, certificate=PASSED, standing=refused)
    ended = cli("key", "probe", "media/studio")
    assert ended.status == 1
    said = f"  standing: failed: {reason.name}: key media/studio cannot be used\n    {reason.facts.remedy}\n"
    assert ended.out.endswith(said)
    standing = cli("key", "probe", "media/studio", "-o", "json").document["checks"]["standing"]
    assert (standing["outcome"], standing["reason"]) == ("failed", reason.name)


def test_json_tells_every_check(cli: Cli, probe: FakeProbe) -> None:
    probe.answer = ProbeKeyResponse(get_public_key=PASSED, sign=DENIED, least_privilege=PASSED)
    checks = cli("key", "probe", "media/studio", "--least-privilege", "-o", "json").document["checks"]
    assert {name: check["outcome"] for name, check in checks.items()} == {
        "getPublicKey": "passed",
        "sign": "failed",
        "certificate": "not made",
        "standing": "not made",
        "leastPrivilege": "passed",
    }
    assert json.loads(checks["sign"]["missingStatement"]) == json.loads(STATEMENT)
    assert probe.requests[0].least_privilege


def test_a_check_that_could_not_be_made_is_unavailable(cli: Cli, probe: FakeProbe) -> None:
    probe.answer = ProbeKeyResponse(get_public_key=PASSED, sign=THROTTLED)
    assert cli("key", "probe", "media/studio").status == 3


def test_a_key_must_be_named_with_its_namespace(cli: Cli) -> None:
    ended = cli("key", "probe", "studio")
    assert (ended.status, "is not of the form namespace/name" in ended.err) == (2, True)


def test_a_good_manifest_passes(cli: Cli, tmp_path: Path) -> None:
    path = _manifest(tmp_path, certificate={"pem": _pem(Leaf().chain())}, signingAlgorithm="ES256")
    ended = cli("key", "lint", path, "-o", "json")
    assert (ended.status, ended.document["findings"]) == (0, [])
    assert ended.document["certificates"][0]["algorithms"] == ["ES256"]


def test_a_good_chain_in_pem_passes(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    path.write_text(_pem(Leaf().chain()))
    ended = cli("key", "lint", path)
    assert (ended.status, ended.out) == (0, f"{path}: 0 errors, 0 warnings\n")


def test_an_expired_chain_fails_by_the_name_of_the_rule(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    path.write_text(_pem(Leaf(not_before=NOW - timedelta(days=91)).chain()))
    ended = cli("key", "lint", path, "-o", "json")
    assert ended.status == 1
    assert "Expired" in {finding["rule"] for finding in ended.document["findings"]}


def test_an_algorithm_that_the_certificate_is_not_for_fails(cli: Cli, tmp_path: Path) -> None:
    pem = _pem(identity(SigningAlgorithm.ES256).chain)
    ended = cli("key", "lint", _manifest(tmp_path, certificate={"pem": pem}, signingAlgorithm="PS256"), "-o", "json")
    assert ended.status == 1
    assert "AlgorithmMismatch" in {finding["rule"] for finding in ended.document["findings"]}


def test_a_manifest_without_certificate_is_only_warned_of(cli: Cli, tmp_path: Path) -> None:
    ended = cli("key", "lint", _manifest(tmp_path))
    assert (ended.status, "[CertificateMissing]" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "CertificateInvalid"),
        ("apiVersion: byok.dev/v1alpha1\nkind: ByokKey\nmetadata: {name: x, namespace: y}\nspec: {}\n", "missing"),
        ("apiVersion: v1\nkind: ConfigMap\n", "NoByokKey"),
        ("a: [\n", "Yaml"),
        ("", "NoByokKey"),
    ],
)
def test_what_is_no_key_fails_by_name(cli: Cli, tmp_path: Path, content: str, rule: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    ended = cli("key", "lint", path, "-o", "json")
    assert ended.status == 1
    assert rule in {finding["rule"] for finding in ended.document["findings"]}


REQUEST = CreateCertificateRequestResponse(
    request=b"pkcs10", algorithm="ES256", key_arn="arn:key", spki_sha256="0" * 64, audit_id="writer/7"
)


def test_a_statement_for_the_roles_trust_policy_is_not_for_the_keys(cli: Cli, probe: FakeProbe) -> None:
    trust = json.dumps({"Effect": "Allow", "Action": "sts:AssumeRole"}, indent=2)
    refused = ProbeResult(outcome=ProbeResult.FAILED, reason="KeyAccessDenied", message="no", missing_statement=trust)
    probe.answer = ProbeKeyResponse(get_public_key=refused, sign=DENIED, certificate=PASSED)
    printed = cli("key", "probe", "media/studio").out
    keys, _, roles = printed.partition("Add to the Statement of the role's trust policy:")
    assert ("kms:Sign" in keys, "sts:AssumeRole" in roles, "kms:Sign" in roles) == (True, True, False)


def test_a_certificate_request_is_printed_as_pem(cli: Cli, probe: FakeProbe) -> None:
    probe.request = REQUEST
    subject = "CN=Studio\\, Berlin,O=Example GmbH,C=DE"
    ended = cli("key", "csr", "media/studio", "--subject", subject, "--dns", "studio.example", "--email", "a@b.example")
    assert ended.status == 0, ended.err
    assert ended.out == ("-----BEGIN CERTIFICATE REQUEST-----\ncGtjczEw\n-----END CERTIFICATE REQUEST-----\n")
    (asked,) = probe.certificate_requests
    assert (asked.namespace, asked.name) == ("media", "studio")
    assert (asked.subject.common_name, asked.subject.organization) == ("Studio, Berlin", "Example GmbH")
    assert (list(asked.dns_names), list(asked.email_addresses)) == (["studio.example"], ["a@b.example"])


def test_a_certificate_request_is_written_to_a_file(cli: Cli, probe: FakeProbe, tmp_path: Path) -> None:
    probe.request = REQUEST
    ended = cli("key", "csr", "media/studio", "--subject", "CN=A,O=B", "--out", tmp_path / "a.csr")
    assert ended.out == f"{tmp_path}/a.csr: request for arn:key, signed with ES256; recorded as writer/7\n"
    assert (tmp_path / "a.csr").read_text().startswith("-----BEGIN CERTIFICATE REQUEST-----\n")


CSR = ("key", "csr", "media/studio", "--subject", "CN=A,O=B", "--out")


def test_nothing_is_asked_where_the_file_cannot_be_written(cli: Cli, probe: FakeProbe, tmp_path: Path) -> None:
    (tmp_path / "there.csr").write_text("kept")
    for output in (tmp_path / "none" / "a.csr", tmp_path / "there.csr", tmp_path):
        ended = cli(*CSR, output)
        assert (ended.status, f"OutputUnwritable: {output}" in ended.err) == (1, True), ended.err
    assert probe.certificate_requests == []
    assert names_below(tmp_path) == ["there.csr", "token"]
    assert (tmp_path / "there.csr").read_text() == "kept"


def test_a_file_is_replaced_where_that_is_asked_for(cli: Cli, probe: FakeProbe, tmp_path: Path) -> None:
    probe.request = REQUEST
    (tmp_path / "there.csr").write_text("old")
    assert cli(*CSR, tmp_path / "there.csr", "--overwrite").status == 0
    assert (tmp_path / "there.csr").read_text().startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert names_below(tmp_path) == ["there.csr", "token"]


def test_a_request_that_kms_has_signed_is_printed_where_the_file_fails(
    cli: Cli, probe: FakeProbe, tmp_path: Path
) -> None:
    output = tmp_path / "a.csr"
    probe.request, probe.meanwhile = REQUEST, lambda: output.write_text("another's")
    ended = cli(*CSR, output)
    assert (ended.status, f"OutputUnwritable: {output} is there already" in ended.err) == (1, True)
    assert ended.out == "-----BEGIN CERTIFICATE REQUEST-----\ncGtjczEw\n-----END CERTIFICATE REQUEST-----\n"
    assert output.read_text() == "another's"
    assert names_below(tmp_path) == ["a.csr", "token"]
    output.unlink()
    document = cli(*CSR, output, "-o", "json").document
    assert (document["error"]["reason"], document["request"]) == ("OutputUnwritable", ended.out)


def test_a_request_whose_folder_has_gone_meanwhile_is_printed(cli: Cli, probe: FakeProbe, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    probe.request, probe.meanwhile = REQUEST, folder.rmdir
    ended = cli(*CSR, folder / "a.csr")
    assert (ended.status, "OutputUnwritable" in ended.err, "cGtjczEw" in ended.out) == (1, True, True)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("csr", "media/studio", "--subject", "CN=A,O=B"), Reason.CertifyNotAllowed),
        (("probe", "media/studio"), Reason.ProbeNotAllowed),
    ],
)
def test_who_calls_as_the_job_is_told_of_another_account(
    cli: Cli, probe: FakeProbe, command: tuple[str, ...], reason: Reason
) -> None:
    probe.failures.append(Refusal(reason, "key media/studio: there is no such key, or job may not"))
    ended = cli("key", *command)
    assert (ended.status, f"{reason.name}: key media/studio: there is no such key" in ended.err) == (1, True)
    assert "--service-account NAME, of namespace media (byok-key-owner, as a rule)" in ended.err


@pytest.mark.parametrize("subject", ["Studio", "CN=", "XX=a", "CN=a,CN=b", ""])
def test_a_subject_that_cannot_be_read_is_wrong_usage(cli: Cli, subject: str) -> None:
    ended = cli("key", "csr", "media/studio", "--subject", subject)
    assert (ended.status, "--subject" in ended.err) == (2, True)


def test_an_owner_outside_of_the_cluster_calls_as_an_account_of_the_keys_namespace(
    cli: Cli, probe: FakeProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.answer = ProbeKeyResponse(get_public_key=PASSED, sign=PASSED, certificate=PASSED)
    with api_server_in_thread() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path))
        made = {"metadata": {}, "status": {"token": "made-for-owner"}}
        server.answers.append(web.json_response(made, status=201))
        ended = cli("key", "probe", "media/studio", "--service-account", "owner")
    assert ended.status == 0, ended.err
    assert server.requests == [("POST", "/api/v1/namespaces/media/serviceaccounts/owner/token")]
    assert probe.tokens == ["Bearer made-for-owner"]
