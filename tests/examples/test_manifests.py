"""The pods of examples/kubernetes: admitted by restricted pod security, and mounting what the operator provides."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from byok_client.cli.exits import Exit
from byok_operator import consumers
from byok_operator.consumers import Consumer
from byok_sandbox.system import CALLER
from tests.examples.workloads import FOLDER, KUSTOMIZATION, OBJECTS, PODS, container_of, variables

AUDIENCE = "byok-signer"


@pytest.fixture(params=PODS)
def pod(request: pytest.FixtureRequest) -> dict[str, Any]:
    return PODS[request.param]


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    return container_of(pod)


def provided() -> dict[str, Any]:
    """Make the ConfigMap as the operator makes it."""
    owner = consumers.owner_reference("uid")
    return consumers.config_map(CALLER.namespace, owner, address="byok-signer.byok-system.svc:8443", bundle=b"PEM")


def test_each_kind_of_workload_is_shown() -> None:
    assert set(PODS) == {"Job", "CronJob", "Deployment"}


def test_pods_pass_restricted_pod_security(pod: dict[str, Any], container: dict[str, Any]) -> None:
    # Kubernetes, "Pod Security Standards", Restricted.
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"].get("privileged")
    assert "ports" not in container
    kinds = {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected"}


def test_pods_write_only_media_and_temporary_files(container: dict[str, Any]) -> None:
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/media", "/tmp"}  # noqa: S108 - a mount point


def test_pods_have_no_token_but_the_signers(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    (volume,) = [each["projected"] for each in pod["volumes"] if "projected" in each]
    (token,) = [each["serviceAccountToken"] for each in volume["sources"] if "serviceAccountToken" in each]
    assert token["audience"] == AUDIENCE
    assert variables(container)["BYOK_SIGNER_TOKEN_FILE"] == f"{mounted(pod, container)}/{token['path']}"


def test_address_and_ca_are_those_of_the_config_map_that_the_operator_keeps(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    config_map = provided()
    (volume,) = [each["projected"] for each in pod["volumes"] if "projected" in each]
    (source,) = [each["configMap"] for each in volume["sources"] if "configMap" in each]
    (item,) = source["items"]
    reference = variables(container)["BYOK_SIGNER_ADDRESS"]["configMapKeyRef"]
    assert {source["name"], reference["name"]} == {config_map["metadata"]["name"]}
    assert {item["key"], reference["key"]} == config_map["data"].keys()
    assert variables(container)["BYOK_SIGNER_CA_FILE"] == f"{mounted(pod, container)}/{item['path']}"


def mounted(pod: dict[str, Any], container: dict[str, Any]) -> str:
    (name,) = [each["name"] for each in pod["volumes"] if "projected" in each]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == name]
    # The kubelet does not replace what is mounted with subPath.
    assert "subPath" not in mount
    path: str = mount["mountPath"]
    return path


def test_the_account_is_the_one_that_the_sandbox_lets_sign(pod: dict[str, Any]) -> None:
    (account,) = [each for each in OBJECTS if each["kind"] == "ServiceAccount"]
    assert pod["serviceAccountName"] == account["metadata"]["name"] == CALLER.name
    assert {each["metadata"]["namespace"] for each in OBJECTS} == {KUSTOMIZATION["namespace"], CALLER.namespace}


def test_the_readme_shows_the_value_that_lets_the_account_sign() -> None:
    (shown,) = [block for block in blocks((FOLDER / "README.md").read_text()) if "consumerNamespaces" in block]
    (entry,) = shown["consumerNamespaces"]
    assert Consumer(entry["namespace"], tuple(entry["serviceAccounts"])) == Consumer(CALLER.namespace, (CALLER.name,))


def blocks(text: str) -> Iterator[dict[str, Any]]:
    for block in text.split("```yaml\n")[1:]:
        yield yaml.safe_load(block.partition("```")[0])


def test_every_volume_and_script_that_is_mounted_is_there(pod: dict[str, Any]) -> None:
    claims = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "PersistentVolumeClaim"}
    maps = {each["name"]: each["files"] for each in KUSTOMIZATION["configMapGenerator"]}
    for volume in pod["volumes"]:
        assert volume.get("persistentVolumeClaim", {}).get("claimName", "archive") in claims
        assert volume.get("configMap", {}).get("name", "sign-inbox") in maps
    assert all((FOLDER / name).is_file() for files in maps.values() for name in files)


def test_images_are_those_of_this_version_and_set_by_kustomize(container: dict[str, Any]) -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    (image,) = KUSTOMIZATION["images"]
    assert container["image"] == f"{image['name']}:{project['version']}"
    assert image["newTag"] == project["version"]


@pytest.mark.parametrize("kind", ["Job", "CronJob"])
def test_jobs_are_tried_again_only_where_that_may_help(kind: str) -> None:
    (spec,) = [each["spec"] for each in OBJECTS if each["kind"] == kind]
    job = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
    (final,) = [each["onExitCodes"] for each in job["podFailurePolicy"]["rules"] if each["action"] == "FailJob"]
    assert final["values"] == [Exit.FAILED, Exit.USAGE]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
