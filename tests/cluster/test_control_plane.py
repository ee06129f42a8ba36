"""The control plane is real, takes what users apply, and comes back after it was away."""

import json
from pathlib import Path

import pytest
import yaml

from byok_api.references import ObjectName
from tests.testenv.control_plane import ISSUER, ControlPlane
from tests.testenv.installed import Installation
from tests.testenv.kubectl import Kubectl

EXAMPLES = Path(__file__).parents[2] / "examples"
PRESETS = Path(__file__).parents[2] / "charts" / "byok-operator" / "presets"


@pytest.fixture(scope="module")
def examples(kubectl: Kubectl, installation: Installation) -> str:
    kubectl("apply", "--namespace", installation.namespace, "-f", str(PRESETS))
    return kubectl("apply", "-f", str(EXAMPLES))


def test_the_examples_and_presets_apply(examples: str) -> None:
    assert "byokkey.byok.dev/brand created" in examples
    assert "signingrecipe.byok.dev/photo-v1 created" in examples


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("byokkeys", ["NAME", "PHASE", "READY"]),
        ("bk", ["NAME", "PHASE", "READY"]),
        ("signingrecipes", ["NAME", "VERSION", "READY"]),
        ("recipe", ["NAME", "VERSION", "READY"]),
        ("byok", ["NAME"]),
    ],
)
def test_kubectl_get_prints_the_columns(kubectl: Kubectl, kind: str, columns: list[str]) -> None:
    header = kubectl("get", kind, "--all-namespaces", "-o", "wide").splitlines()[0].split()
    assert set(columns) <= set(header)


@pytest.mark.usefixtures("examples")
def test_what_is_applied_again_changes_nothing(kubectl: Kubectl) -> None:
    assert "configured" not in kubectl("apply", "-f", str(EXAMPLES))


def test_kubectl_explains_a_field(kubectl: Kubectl) -> None:
    assert "ARN of the KMS key" in kubectl("explain", "byokkey.spec.aws.keyArn")


def test_a_deleted_namespace_takes_its_keys_with_it(kubectl: Kubectl, namespace: str) -> None:
    key = yaml.safe_load((EXAMPLES / "2-byokkey.yaml").read_text())
    key["metadata"] = {"name": "brand", "namespace": namespace}
    kubectl.apply(key)
    other = f"{namespace}-gone"
    key["metadata"]["namespace"] = other
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}, key)
    kubectl("delete", "namespace", other, "--timeout=30s")
    assert kubectl.attempt("get", "namespace", other).status == 1


def test_a_service_account_speaks_by_the_token_in_its_file(
    control_plane: ControlPlane, installation: Installation
) -> None:
    account = installation.operator_account
    attributes = json.loads(control_plane.kubectl_for(account)("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert attributes["username"] == f"system:serviceaccount:{account}".replace("/", ":")


def test_a_token_for_the_signer_is_none_for_the_api_server(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "job", "--namespace", namespace)
    token = control_plane.token(ObjectName(namespace, "job"), audience="byok-signer")
    refused = control_plane.kubectl.attempt(
        "--kubeconfig=/dev/null", *anonymous(control_plane), "--token", token, "auth", "whoami"
    )
    assert "Unauthorized" in refused.err or "must be logged in" in refused.err


def anonymous(plane: ControlPlane) -> list[str]:
    return ["--server", plane.url, "--certificate-authority", str(plane.pki.ca_file)]


def test_the_issuer_publishes_its_keys_to_service_accounts(
    control_plane: ControlPlane, installation: Installation
) -> None:
    signer = control_plane.kubectl_for(installation.signer_account)
    assert json.loads(signer("get", "--raw", "/.well-known/openid-configuration"))["issuer"] == ISSUER
    assert json.loads(signer("get", "--raw", "/openid/v1/jwks"))["keys"]


def test_what_was_stored_is_there_after_the_api_server_was_away(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.stop_api_server()
    assert not control_plane.api.is_ready()
    control_plane.start_api_server()
    assert control_plane.kubectl.get("namespace", namespace)["status"]["phase"] == "Active"
