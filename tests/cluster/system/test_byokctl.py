"""`byokctl` in a running cluster, by its console scripts and with no more rights than its users have."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from byok_api.errors import Refusal
from byok_api.fields import API_VERSION
from byok_api.references import KeyArn, ObjectName
from byok_client.cli.cluster import in_cluster
from byok_sandbox.ca import pem_of
from byok_sandbox.filling import FIRST
from byok_sandbox.parts import SIGNER_ROLE
from byok_service.kubernetes import BYOK_KEYS, Resource
from tests.support.cluster_requests import until
from tests.support.command_line import Ended
from tests.support.live import Live, Team, allow, job, living, metadata, namespace_document
from tests.testenv.system import Cluster

BYOKCTL = Path(sys.executable).with_name("byokctl")
NAMESPACE = "byokctl-owner"
OWNER = ObjectName(NAMESPACE, "byok-key-owner")
GRANTED_WITHIN = 30.0
"""Seconds until the signer asks again for a key that KMS denied it."""
AS_OWNER = ("--service-account", OWNER.name)


def run(cluster: Cluster, *command: object, **environ: str) -> Ended:
    path = os.pathsep.join([*map(str, cluster.programs), os.environ["PATH"]])
    env = {**os.environ, **cluster.exports, "PATH": path, **environ}
    texts = [str(part) for part in command]
    ended = subprocess.run(texts, check=False, capture_output=True, text=True, timeout=60, env=env)
    assert "Traceback" not in ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def as_job(team: Team, *command: object) -> Ended:
    return run(team.live.cluster, *command, BYOK_SIGNER_TOKEN_FILE=str(team.client.token_file))


@dataclass(frozen=True)
class Owner:
    """Who has the role byok-key-owner in a namespace and nothing else, a key there that is not certified, and AWS."""

    live: Live
    kubeconfig: Path
    key: ObjectName
    arn: KeyArn

    def byokctl(self, *arguments: object) -> Ended:
        return run(self.live.cluster, BYOKCTL, *arguments, KUBECONFIG=str(self.kubeconfig))

    def document(self, *arguments: object) -> dict[str, Any]:
        ended = self.byokctl(*arguments, "-o", "json")
        assert ended.status == 0, ended.out
        return ended.document

    def paste(self, statements: list[Mapping[str, Any]]) -> None:
        """Add statements to the key's policy."""
        kms, key = self.live.cluster.around.owner.kms, str(self.arn)
        policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
        policy["Statement"] += statements
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))


@pytest.fixture(scope="module")
def owner(cluster: Cluster) -> Iterator[Owner]:
    with living(cluster) as live:
        arn = cluster.around.owner.create_key(FIRST)
        key = ObjectName(NAMESPACE, "fresh")
        live.take(namespace_document(NAMESPACE))
        job(live, OWNER, may_sign=False)
        allow(live, OWNER, NAMESPACE, OWNER.name)
        spec = {"aws": {"keyArn": str(arn)}}
        live.take({"apiVersion": API_VERSION, "kind": "ByokKey", "metadata": metadata(key), "spec": spec})
        yield Owner(live, cluster.plane.kubeconfig_for(OWNER), key, arn)


def test_get_tells_that_a_teams_objects_are_ready(team: Team) -> None:
    ended = run(team.live.cluster, BYOKCTL, "get", "-n", team.namespace)
    assert (ended.status, ended.err) == (0, "")
    _, key, recipe = ended.out.splitlines()
    assert key.split()[:4] == ["ByokKey", str(team.key), "True", "Verified"]
    assert recipe.split()[:4] == ["SigningRecipe", str(team.recipe), "True", "Verified"]


def test_it_is_a_plugin_of_kubectl(team: Team) -> None:
    ended = run(team.live.cluster, "kubectl", "byok", "get", "keys", team.key, "-o", "json")
    assert ended.status == 0, ended.err
    (key,) = ended.document["ByokKey"]
    assert (key["name"], key["ready"]) == (str(team.key), "True")


def test_doctor_finds_nothing_in_the_way_of_a_job(team: Team) -> None:
    ended = as_job(team, BYOKCTL, "doctor", "--recipe", team.recipe, "-o", "json")
    assert ended.status == 0, ended.out
    verdicts = {check["check"]: check["verdict"] for check in ended.document["checks"]}
    # Every team of these tests is granted to the signer's one identity, which doctor has to say.
    assert verdicts.pop("owners") in {"good", "warning"}
    assert set(verdicts.values()) == {"good"}, ended.out
    assert {"right to sign", "recipe's status", "key's status", "operator", "TLS"} <= set(verdicts)


def test_doctor_tells_an_owner_of_one_namespace_of_that(owner: Owner) -> None:
    ended = owner.byokctl("doctor", "--recipe", f"{NAMESPACE}/none", "-o", "json")
    found = {check["check"]: check for check in ended.document["checks"]}
    assert (found["cluster"]["verdict"], found["recipe's status"]["verdict"]) == ("skipped", "bad")
    assert "there is no" in found["recipe's status"]["found"]


def test_an_owner_comes_from_a_fresh_key_to_a_ready_one(owner: Owner, tmp_path: Path) -> None:
    signs_with = ("--signer-role", SIGNER_ROLE, "--algorithm", str(FIRST))
    owner.paste(owner.document("key", "policy", owner.key, *signs_with)["keyPolicyStatements"])
    csr = request(owner, tmp_path / "fresh.csr")
    (tmp_path / "chain.pem").write_text(certified(owner, csr))
    ended = owner.byokctl("key", "certificate", "set", owner.key, tmp_path / "chain.pem")
    assert ended.status == 0, ended.err
    # Whatever the signer was last denied, this has it asked at once.
    owner.live.until_ready(("ByokKey", owner.key), within=GRANTED_WITHIN)
    probed = owner.document("key", "probe", owner.key, *AS_OWNER)["checks"]
    assert {check: result["outcome"] for check, result in probed.items()} == dict.fromkeys(
        ("getPublicKey", "sign", "certificate", "standing"), "passed"
    )
    assert owner.byokctl("get", "-n", NAMESPACE).status == 0


def request(owner: Owner, output: Path) -> x509.CertificateSigningRequest:
    asked = ("key", "csr", owner.key, "--subject", "CN=Brand Studio,O=Example GmbH,C=DE", "--out", output, *AS_OWNER)
    ended: list[Ended] = []

    def made() -> bool:
        ended[:] = [owner.byokctl(*asked)]
        return ended[0].status == 0

    try:
        until(made, "a certificate request", within=GRANTED_WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{error}; {ended[0].err}") from None
    return x509.load_pem_x509_csr(output.read_bytes())


def certified(owner: Owner, csr: x509.CertificateSigningRequest) -> str:
    """Check a request as a CA does, and have it certified."""
    around = owner.live.cluster.around
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=Brand Studio,O=Example GmbH,C=DE"
    public_key = around.owner.kms.get_public_key(KeyId=str(owner.arn))["PublicKey"]
    assert csr.public_key() == load_der_public_key(public_key)
    pem = csr.public_bytes(Encoding.PEM).decode()
    return pem_of(around.authority.certify_csr(pem, now=datetime.now(UTC)).certificates)


def test_a_job_that_requests_a_certificate_is_told_of_the_owners_account(team: Team) -> None:
    ended = as_job(team, BYOKCTL, "key", "csr", team.key, "--subject", "CN=A,O=B")
    assert (ended.status, "CertifyNotAllowed" in ended.err) == (1, True)
    assert f"--service-account NAME, of namespace {team.namespace}" in ended.err


def test_an_owner_without_the_namespace_is_told_the_api_servers_no(owner: Owner) -> None:
    ended = owner.byokctl("get")
    assert (ended.status, "cannot list resource" in ended.err) == (1, True)


@pytest.mark.parametrize("resource", [Resource("byok.dev", "v1alpha1", "gone"), Resource("gone.dev", "v1", "byokkeys")])
def test_a_kind_without_its_crd_is_told_apart_from_a_missing_object(
    owner: Owner, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", owner.live.cluster.exports["KUBECONFIG"])
    for ask in (lambda cluster: cluster.list(resource, None), lambda cluster: cluster.get(resource, owner.key)):
        with pytest.raises(Refusal, match=f"the API server knows no {resource}"):
            in_cluster(ask)
    with pytest.raises(Refusal, match="there is no such object"):
        in_cluster(lambda cluster: cluster.get(BYOK_KEYS, ObjectName(NAMESPACE, "none")))
