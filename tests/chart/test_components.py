"""What each feature renders, feature by feature; whole renderings are read as golden files."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from yarl import URL

from byok_service.proxies import Proxies, Proxy
from tests.chart.rendering import CHART, NAMESPACE, RELEASE, Rendering, containers, helm, rendered, values_of

GOLDEN = Path(__file__).parent / "golden"
SIGNER = "byok-signer"


def golden(text: str, name: str) -> None:
    """Compare with a golden file, from which only what a release changes is taken out."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert text.replace(version, "VERSION") == (GOLDEN / name).read_text()


def listed(rendering: Rendering) -> str:
    """Every object of a rendering, a line each."""
    lines = sorted(
        f"{each['kind']} {each['metadata'].get('namespace', '-')}/{each['metadata']['name']}"
        for each in rendering.documents
    )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", ["defaults", "sandbox", "persistent", "monitoring", "bare"])
def test_these_are_the_objects(case: str) -> None:
    golden(listed(rendered(case)), f"{case}.txt")


def test_this_is_the_signer() -> None:
    pod = copy.deepcopy(rendered("defaults").one("Deployment", SIGNER))
    pod["spec"]["template"]["metadata"]["annotations"]["checksum/config"] = "CHECKSUM"
    golden(yaml.safe_dump(pod, sort_keys=False), "signer.yaml")


def test_this_is_what_both_services_are_told() -> None:
    both: dict[str, Any] = {service: rendered("defaults").config(service) for service in ("signer", "operator")}
    golden(yaml.safe_dump(both, sort_keys=False), "settings.yaml")


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(Exception, match=r"requires kubeVersion: >=1\.31\.0-0"):
        helm("template", str(CHART), "--kube-version", "1.30.4")


def test_what_others_fill_in_is_empty_for_helm_to_leave_it_alone() -> None:
    lease = rendered("defaults").one("Lease", "byok-operator")
    assert lease.keys() == {"apiVersion", "kind", "metadata"}
    for name in ("byok-signer-ca", "byok-signer-tls", "byok-sandbox"):
        assert rendered("sandbox").one("Secret", name).keys() == {"apiVersion", "kind", "metadata", "type"}
    assert rendered("sandbox").one("ConfigMap", "byok-sandbox").keys() == {"apiVersion", "kind", "metadata"}


def test_the_signers_service_is_headless_and_names_only_what_is_ready() -> None:
    service = rendered("defaults").one("Service", SIGNER)["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is False
    assert {port["name"]: port["port"] for port in service["ports"]} == {"grpc": 8443, "http": 9090}


def test_audit_trails_on_volumes_make_a_stateful_set_with_a_chain_for_each_replica() -> None:
    found = rendered("persistent")
    spec = found.one("StatefulSet", SIGNER)["spec"]
    assert SIGNER not in found.names("Deployment")
    assert (spec["serviceName"], spec["podManagementPolicy"]) == (SIGNER, "Parallel")
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    mounts = {mount["name"]: mount["mountPath"] for mount in found.pod(SIGNER)["containers"][0]["volumeMounts"]}
    assert found.config("signer")["audit"] == f"{mounts['audit']}/audit.jsonl"


def test_an_autoscaled_signer_has_no_number_of_replicas_of_its_own() -> None:
    found = rendered("pods")
    scaler = found.one("HorizontalPodAutoscaler", SIGNER)["spec"]
    assert "replicas" not in found.one("Deployment", SIGNER)["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 30)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": SIGNER}
    assert not rendered("defaults").kind("HorizontalPodAutoscaler")


@pytest.mark.parametrize("name", ["byok-operator", SIGNER])
def test_no_more_than_one_replica_is_evicted_at_a_time(name: str) -> None:
    assert rendered("defaults").one("PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
    assert rendered("defaults").one("Deployment", name)["spec"]["replicas"] >= 2
    assert not rendered("pods").kind("PodDisruptionBudget")


def test_each_roll_out_is_spread_by_itself() -> None:
    for case, revision in (("defaults", "pod-template-hash"), ("persistent", "controller-revision-hash")):
        constraints = rendered(case).pod(SIGNER)["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in constraints] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        assert all(each["matchLabelKeys"] == [revision] for each in constraints)


def images(case: str) -> dict[str, str]:
    return {name: container["image"] for name, pod in rendered(case).pods().items() for container in containers(pod)}


def test_images_come_from_the_registry_by_digest_before_tag() -> None:
    found = images("images")
    registry = "registry.example:5000/mirror"
    assert found["byok-signer"] == f"{registry}/byok/signer@sha256:{'3' * 64}"
    assert found["byok-operator"] == f"{registry}/byok/operator@sha256:{'4' * 64}"
    assert found["byok-test"] == f"{registry}/byok-operator/cli:9.9.9"
    assert all(pod["imagePullSecrets"] == [{"name": "mirror"}] for pod in rendered("images").pods().values())


def test_without_a_word_images_have_the_charts_version() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert images("defaults") == {
        "byok-operator": f"byok-operator/operator:{version}",
        "byok-signer": f"byok-operator/signer:{version}",
        "byok-test": f"byok-operator/cli:{version}",
    }


def secret_of(case: str, pod: str, volume: str) -> str:
    (found,) = (each["secret"]["secretName"] for each in rendered(case).pod(pod)["volumes"] if each["name"] == volume)
    return str(found)


@pytest.mark.parametrize(
    ("case", "secret"),
    [
        ("defaults", "byok-signer-tls"),
        ("cert-manager", "byok-signer-cert-manager"),
        ("existing-secret", "our-own-tls"),
    ],
)
def test_all_that_need_the_certificate_or_its_ca_take_it_from_the_modes_secret(case: str, secret: str) -> None:
    assert secret_of(case, SIGNER, "tls") == secret
    assert secret_of(case, "byok-operator", "signer-ca") == secret
    assert secret_of(case, "byok-test", "signer-ca") == secret


def test_cert_manager_is_asked_for_a_server_certificate_as_values_say() -> None:
    values = values_of("cert-manager")["tls"]["certManager"]
    spec = rendered("cert-manager").one("Certificate", SIGNER)["spec"]
    assert spec["secretName"] == "byok-signer-cert-manager"
    assert spec["issuerRef"] == values["issuerRef"]
    assert (spec["duration"], spec["renewBefore"]) == (values["duration"], values["renewBefore"])
    assert spec["usages"] == ["server auth"]
    assert spec["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}


def test_the_signers_account_carries_the_role_of_irsa() -> None:
    annotations = rendered("aws").one("ServiceAccount", SIGNER)["metadata"]["annotations"]
    assert annotations == {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/byok-signer"}


def test_private_endpoints_fips_and_a_ca_reach_the_signer() -> None:
    found = rendered("aws").config("signer")
    assert found["aws-endpoint"] == "https://vpce-1234.kms.eu-central-1.vpce.amazonaws.com"
    assert found["aws-key-endpoints"].count("https://") == 2
    assert (found["aws-use-fips"], found["aws-use-dualstack"], found["quota-per-second"]) == (True, True, 250.5)
    volumes = {volume["name"]: volume for volume in rendered("aws").pod(SIGNER)["volumes"]}
    assert volumes["aws-ca"]["configMap"] == {"name": "company-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}


def env(name: str) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in rendered("aws").pod(name)["containers"][0].get("env", [])}


def test_the_signer_alone_has_a_proxy_and_not_for_the_cluster_itself() -> None:
    assert env(SIGNER)["HTTPS_PROXY"] == "http://proxy.example:3128"
    own = {"$(KUBERNETES_SERVICE_HOST)", ".svc", "169.254.170.23", ".example"}
    assert own <= set(env(SIGNER)["NO_PROXY"].split(","))
    assert env("byok-operator") == {}
    no_proxy = env(SIGNER)["NO_PROXY"].replace("$(KUBERNETES_SERVICE_HOST)", "fd00:10::1")
    proxies = Proxies.parse(Proxy.parse(env(SIGNER)["HTTPS_PROXY"]), no_proxy)
    reached = {
        host: str(proxies.of(URL(f"https://{host}/"))) for host in ("kms.amazonaws.com", "a.svc", "[fd00:10::1]")
    }
    assert reached == {"kms.amazonaws.com": "http://proxy.example:3128", "a.svc": "None", "[fd00:10::1]": "None"}


def test_labels_for_all_are_on_all() -> None:
    assert all(each["metadata"]["labels"]["example.com/team"] == "platform" for each in rendered("images").documents)


def test_the_test_is_refused_first_and_then_signs_under_the_one_recipe_that_it_may_use() -> None:
    found = rendered("sandbox")
    (role,) = (each for each in found.kind("Role") if each["metadata"]["name"] == "byok-test")
    assert role["metadata"]["namespace"] == "media"
    assert role["rules"] == [
        {"apiGroups": ["byok.dev"], "resources": ["signingrecipes"], "resourceNames": ["photo-v1"], "verbs": ["sign"]}
    ]
    refused, sign, verify = (container["args"] for container in containers(found.pod("byok-test")))
    assert refused[0] == "doctor"
    assert refused[-2:] == ["--expect-refusal", "RecipeNotAllowed"]
    assert sign[1:4] == ["/etc/byok-test/grey.png", "--recipe", "media/photo-v1"]
    assert sign[6:] == [
        "--metadata",
        "ai_generated=false",
        "--metadata",
        'creator=["Ada","Grace"]',
        "--metadata",
        "digital_source_type=digitalCapture",
    ]
    assert verify == ["verify", "/tmp/grey.png"]  # noqa: S108 - in the pod


def test_nothing_of_a_test_stays_once_it_was_green() -> None:
    hooks = [
        each["metadata"]["annotations"]
        for each in rendered("sandbox").documents
        if "byok-test" in each["metadata"]["name"]
    ]
    assert len(hooks) == 5
    assert all("hook-succeeded" in each["helm.sh/hook-delete-policy"] for each in hooks)


def notes(case: str) -> str:
    values = yaml.safe_dump(values_of(case))
    said = helm("install", RELEASE, str(CHART), "-n", NAMESPACE, "--dry-run=client", "--values", "-", stdin=values)
    return said.partition("\nNOTES:\n")[2]


@pytest.mark.parametrize(
    ("case", "said", "unsaid"),
    [
        (
            "defaults",
            [
                *("Give the signer an AWS identity", "Name the installation", "no pod may call", "standard output"),
                "warnings FailedMount until then are harmless",
                "or pin images by digest: operator.image.digest, signer.image.digest, tests.image.digest.",
            ],
            ["NOT FOR"],
        ),
        ("sandbox", ["NOT FOR PRODUCTION", "media: media-job, batch.job"], ["AWS identity", "no pod may call"]),
        ("persistent", ["statefulset/byok-signer", "DELETED with the release"], ["deployment/byok-signer"]),
        (
            "owners",
            ["deployment/byok-signer", "owner accepts signing-terms-3", "--installation byok --algorithm"],
            ["do not trust each other", "cert-manager", "managed key"],
        ),
        ("cert-manager", ["kubectl get certificate byok-signer -n byok-system"], ["tls.crt"]),
        (
            "existing-secret",
            ["once Secret our-own-tls has", "byok-signer, byok-signer.byok-system, byok-signer.byok-system.svc,"],
            ["cert-manager", "FailedMount"],
        ),
        ("managed-key", ["into managedKey.spec.certificate.pem"], ["Name the installation", "for its owner to apply"]),
        ("foreign-managed-key", ["for its owner to apply: ByokKey brand-keys/brand"], ["managedKey.spec"]),
        ("aws", ["key-owner"], ["AWS identity"]),
        ("images", ["key-owner"], ["WARNING"]),
        ("bare", ["every pod of the cluster may call the signer"], ["helm test"]),
    ],
)
def test_the_notes_say_what_is_left_to_do(case: str, said: list[str], unsaid: list[str]) -> None:
    text = notes(case)
    assert not [each for each in said if each not in text]
    assert not [each for each in unsaid if each in text]
    assert "<no value>" not in text
    assert not re.search(r"\n{4,}", text)
