"""What holds whatever the values: valid, repeatable, restricted, nothing that must not be there."""

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from byok_api.references import ObjectName
from tests.chart.rendering import CASES, CHART, NAMESPACE, Document, Rendering, containers, helm, render_text, values_of
from tests.testenv.installed import Installation, shipped_presets

CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
# Whose ServiceAccounts talk to the API server at all.
TALKERS = {"byok-operator", "byok-sandbox", "byok-signer"}


@pytest.mark.parametrize("case", CASES)
def test_helm_lint_finds_nothing(case: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--values", "-", stdin=yaml.safe_dump(values_of(case)))
    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert "[WARNING]" not in said


@pytest.mark.parametrize("case", CASES)
def test_rendering_twice_gives_the_same(case: str) -> None:
    assert render_text(values_of(case)) == render_text(values_of(case))


def test_without_hooks_it_is_what_kubectl_can_apply() -> None:
    found = Rendering.of(render_text({}, "--no-hooks"))
    assert not [each for each in found.documents if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert "byok-test" not in found.pods()
    assert found.names("Deployment") == {"byok-operator", "byok-signer"}


def test_every_object_is_named_once_labelled_and_in_its_place(rendering: Rendering) -> None:
    seen = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in rendering.documents]
    assert len(seen) == len(set(seen))
    for each in rendering.documents:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/instance"] == "byok"
        assert ("namespace" in each["metadata"]) is (each["kind"] not in CLUSTER_WIDE)


def test_there_are_no_custom_resources_of_ours(rendering: Rendering) -> None:
    assert not [each for each in rendering.documents if each["apiVersion"].startswith("byok.dev/")]


def test_no_secret_has_data_and_no_config_map_a_secret(rendering: Rendering) -> None:
    assert not [each for each in rendering.kind("Secret") if "data" in each or "stringData" in each]
    text = yaml.safe_dump_all(rendering.kind("ConfigMap"))
    assert not re.search(r"PRIVATE KEY|AKIA[0-9A-Z]{12}|password|secret_access_key", text, re.IGNORECASE)


# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUME_KINDS = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def test_every_pod_meets_restricted_pod_security(rendering: Rendering) -> None:
    for pod in rendering.pods().values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= VOLUME_KINDS
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert not [port for port in container.get("ports", ()) if "hostPort" in port]


def test_every_image_has_a_version_or_a_digest(rendering: Rendering) -> None:
    for pod in rendering.pods().values():
        for container in containers(pod):
            assert re.search(r"(:[0-9]+\.[0-9]+\.[0-9]+|@sha256:[0-9a-f]{64})$", container["image"])


def tokens(pod: Document) -> list[tuple[str, str | None]]:
    """Where tokens are mounted, and for which audience."""
    found = {
        volume["name"]: source["serviceAccountToken"].get("audience")
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "serviceAccountToken" in source
    }
    mounts = [mount for container in containers(pod) for mount in container["volumeMounts"]]
    return sorted({(mount["mountPath"], found[mount["name"]]) for mount in mounts if mount["name"] in found})


def test_a_pod_has_no_token_but_those_it_needs(rendering: Rendering) -> None:
    api, signer = (
        ("/var/run/secrets/kubernetes.io/serviceaccount", None),
        ("/var/run/secrets/byok-signer", "byok-signer"),
    )
    wanted = {"byok-operator": [signer, api], "byok-signer": [api], "byok-sandbox": [api], "byok-test": [signer]}
    for name, pod in rendering.pods().items():
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == name
        assert tokens(pod) == wanted[name]
    assert all(each["automountServiceAccountToken"] is False for each in rendering.kind("ServiceAccount"))


def bound(rendering: Rendering) -> set[str]:
    bindings = rendering.kind("RoleBinding", "ClusterRoleBinding")
    return {subject["name"] for each in bindings for subject in each["subjects"]}


def test_only_what_talks_to_the_api_server_has_rights(rendering: Rendering) -> None:
    assert bound(rendering) <= TALKERS | {"byok-test"}


def test_the_private_key_of_the_ca_is_mounted_nowhere_and_the_signers_only_by_the_signer(rendering: Rendering) -> None:
    for name, pod in rendering.pods().items():
        secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert "byok-signer-ca" not in [secret["secretName"] for secret in secrets]
        keys = {item["key"] for secret in secrets for item in secret["items"]}
        assert ("tls.key" in keys) is (name == "byok-signer")


def test_every_mounted_volume_exists_and_every_volume_is_mounted(rendering: Rendering) -> None:
    claims = {each["metadata"]["name"] for set_ in rendering.kind("StatefulSet") for each in claimed(set_)}
    for name, pod in rendering.pods().items():
        mounted = {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | (claims if name == "byok-signer" else set())


def claimed(stateful_set: Document) -> list[Document]:
    return list(stateful_set["spec"]["volumeClaimTemplates"])


def test_probes_ask_the_process_only_and_restart_it_late(rendering: Rendering) -> None:
    for name in ("byok-operator", "byok-signer"):
        (container,) = rendering.pod(name)["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
        assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        assert container["livenessProbe"]["failureThreshold"] * container["livenessProbe"]["periodSeconds"] >= 60


def test_selectors_meet_the_pods_labels_and_nothing_elses(rendering: Rendering) -> None:
    workloads = {each["metadata"]["name"]: each for each in rendering.kind("Deployment", "StatefulSet")}
    for name, workload in workloads.items():
        assert (
            workload["spec"]["selector"]["matchLabels"].items()
            <= workload["spec"]["template"]["metadata"]["labels"].items()
        )
        assert workload["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == name
    for service in rendering.kind("Service"):
        labels = workloads[service["metadata"]["name"]]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()


def objects_of(documents: Any) -> dict[tuple[str, str], Any]:  # noqa: ANN401 - documents of YAML
    """Without what the chart adds."""
    found = {}
    for each in documents:
        metadata = {key: value for key, value in each["metadata"].items() if key not in {"labels", "annotations"}}
        rest = {key: value for key, value in each.items() if key != "automountServiceAccountToken"}
        found[each["kind"], each["metadata"]["name"]] = {**rest, "metadata": metadata}
    return found


@pytest.mark.parametrize(
    ("case", "installation"),
    [
        ("defaults", Installation(preset_names=shipped_presets())),
        ("existing-secret", Installation(preset_names=shipped_presets(), self_managed=False)),
        (
            "foreign-managed-key",
            Installation(preset_names=shipped_presets(), managed_key=ObjectName("brand-keys", "brand")),
        ),
        (
            "managed-key",
            Installation(preset_names=("house-photo-v1",), managed_key=ObjectName(NAMESPACE, "house-key")),
        ),
        (
            "sandbox",
            Installation(
                preset_names=shipped_presets(),
                consumers=(("media", ("media-job", "batch.job")), ("podcasts", ("default",))),
            ),
        ),
    ],
)
def test_roles_and_policies_are_those_that_the_cluster_tests_apply(case: str, installation: Installation) -> None:
    kinds = ("Role", "RoleBinding", "ServiceAccount", *CLUSTER_WIDE - {"CustomResourceDefinition"})
    ours = Rendering.of(render_text(values_of(case), "--no-hooks")).kind(*kinds)
    wanted = [
        document for part in ("rbac", "admission") for document in installation.documents(CHART / "manifests" / part)
    ]
    found = objects_of(ours)
    assert objects_of(wanted) == {key: each for key, each in found.items() if key[1] != "byok-sandbox"}


def scalars(part: Any, path: str = "") -> Iterator[tuple[str, object]]:  # noqa: ANN401 - any part of an object
    if isinstance(part, dict | list):
        for name, inner in part.items() if isinstance(part, dict) else enumerate(part):
            yield from scalars(inner, f"{path}/{name}")
    else:
        yield path, part


def test_names_that_yaml_would_take_for_numbers_or_null_stay_names() -> None:
    key = {"managedKey": {"name": "null", "spec": {"state": "Active"}}}
    secret = {"tls": {"mode": "existingSecret", "existingSecret": "789"}}
    values = [values_of("sandbox") | key, values_of("persistent") | secret, values_of("monitoring")]
    flags = ("template", "123", str(CHART), "--namespace", "456", "--values", "-")
    texts = [helm(*flags, stdin=yaml.safe_dump(each)) for each in values]
    found = [pair for text in texts for each in Rendering.of(text).documents for pair in scalars(each)]
    assert not [path for path, value in found if value in {123, 456, 789} or value is None]
    assert ("/rules/0/resourceNames/0", "null") in found
    assert ("/metadata/namespace", "456") in found


def test_crds_are_those_of_the_repository_and_stay_when_the_release_goes() -> None:
    rendering = Rendering.of(render_text({}))
    for path in (CHART.parents[1] / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        found = rendering.one("CustomResourceDefinition", crd["metadata"]["name"])
        assert found["spec"] == crd["spec"]
        assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_crds_go_with_the_release_or_are_left_out_if_that_is_wanted() -> None:
    going = Rendering.of(render_text(values_of("crds-go")))
    assert not [each for each in going.kind("CustomResourceDefinition") if "annotations" in each["metadata"]]
    assert not Rendering.of(render_text(values_of("bare"))).kind("CustomResourceDefinition")


def test_the_picture_that_helm_test_signs_is_one() -> None:
    picture = Rendering.of(render_text(values_of("sandbox"))).one("ConfigMap", "byok-test")["binaryData"]["grey.png"]
    assert base64.b64decode(picture) == (CHART / "files" / "grey.png").read_bytes()
    assert base64.b64decode(picture).startswith(b"\x89PNG\r\n\x1a\n")
