"""Each configuration that the chart writes is one that the services' own parsers take, with the files of the pod."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from byok_api.manifests import load_documents
from byok_api.objects import parse_object
from byok_operator.consumers import Consumer, parse_consumers
from byok_operator.settings import PROGRAM as OPERATOR
from byok_operator.settings import SignerTls
from byok_service.installation import InstallationSettings
from byok_service.settings import Program
from byok_signer.settings import PROGRAM as SIGNER
from tests.chart.definitions import definitions
from tests.chart.rendering import CASES, CHART, RELEASE, Document, Rendering, rendered, values_of

SHARED = tuple(name.replace("_", "-") for name in InstallationSettings.model_fields)


def files_in(volume: Document, rendering: Rendering) -> dict[str, str]:
    """The files of a volume; of what the cluster fills in, their names."""
    match volume:
        case {"configMap": {"name": str(name), "items": items}}:
            return {item["path"]: name for item in items}
        case {"configMap": {"name": str(name)}} if name.startswith("byok-"):
            return dict(rendering.one("ConfigMap", name)["data"])
        case {"secret": {"items": items}}:
            return {item["path"]: "" for item in items}
        case {"projected": {"sources": sources}}:
            return {source["serviceAccountToken"]["path"]: "" for source in sources if "serviceAccountToken" in source}
    return {}


def lay_out(rendering: Rendering, name: str, root: Path) -> None:
    """Write below `root` what a pod's containers find mounted."""
    pod = rendering.pod(name)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        folder = root / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files_in(volumes.get(mount["name"], {}), rendering).items():
            (folder / path).write_text(content)


def moved(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Settings whose absolute paths are below `root`."""
    return {
        name: f"{root}{value}" if isinstance(value, str) and value.startswith("/") else value
        for name, value in settings.items()
    }


def read(program: Program[Any], service: str, rendering: Rendering, root: Path) -> BaseModel:
    lay_out(rendering, f"byok-{service}", root)
    container = rendering.pod(f"byok-{service}")["containers"][0]
    assert container["args"] == ["--config", "/etc/byok/config.yaml"]
    (root / "config.yaml").write_text(yaml.safe_dump(moved(rendering.config(service), root)))
    environ = {
        # As the kubelet fills it in.
        each["name"]: each.get("value", "byok-signer-0").replace("$(KUBERNETES_SERVICE_HOST)", "10.96.0.1")
        for each in container.get("env", ())
    }
    settings: BaseModel = program.read(["--config", str(root / "config.yaml")], environ)
    return settings


@pytest.mark.parametrize(("program", "service"), [(SIGNER, "signer"), (OPERATOR, "operator")])
def test_the_service_takes_its_settings_and_can_read_its_rules(
    program: Program[Any], service: str, rendering: Rendering, tmp_path: Path
) -> None:
    settings = read(program, service, rendering, tmp_path)
    assert isinstance(settings, InstallationSettings)
    assert settings.rules().presets_namespace == "byok-system"


def test_both_services_are_given_the_same_rules(rendering: Rendering) -> None:
    signer, operator = rendering.config("signer"), rendering.config("operator")
    assert {name: signer.get(name) for name in SHARED} == {name: operator.get(name) for name in SHARED}


@pytest.mark.parametrize("service", ["signer", "operator"])
def test_owners_terms_and_external_ids_are_what_values_say(service: str) -> None:
    values, found = values_of("owners"), rendered("owners").config(service)
    data = rendered("owners").one("ConfigMap", f"byok-{service}-config")["data"]
    assert yaml.safe_load(data["key-ownership.yaml"]) == values["keyOwnership"]["namespaces"]
    assert found["key-ownership"] == "/etc/byok/key-ownership.yaml"
    assert found["required-terms"] == values["acknowledgement"]["terms"]
    assert found["required-terms-sha256"] == values["acknowledgement"]["termsSHA256"]
    assert (found["aws-role"], found["require-external-id"]) == (values["aws"]["role"], True)
    assert "key-ownership.yaml" not in rendered("defaults").one("ConfigMap", f"byok-{service}-config")["data"]


@pytest.mark.parametrize("service", ["signer", "operator"])
def test_the_installation_is_named_by_values_or_else_by_the_release(service: str) -> None:
    assert rendered("managed-key").config(service)["installation"] == "prod-eu"
    assert rendered("defaults").config(service)["installation"] == RELEASE


def test_checkpoints_are_signed_by_the_key_that_values_name() -> None:
    found, values = rendered("persistent").config("signer"), values_of("persistent")["audit"]["checkpoint"]
    assert (found["checkpoint-key"], found["checkpoint-minutes"]) == (values["keyArn"], values["minutes"])
    assert not {"checkpoint-key", "checkpoint-minutes"} & rendered("defaults").config("signer").keys()


@pytest.mark.parametrize(
    ("case", "key"), [("managed-key", "byok-system/house-key"), ("foreign-managed-key", "brand-keys/brand")]
)
def test_the_managed_key_is_applied_by_the_operator_only_where_values_have_its_spec(case: str, key: str) -> None:
    signer, operator = (rendered(case).config(service) for service in ("signer", "operator"))
    assert signer["managed-key"] == operator["managed-key"] == key
    assert ("managed-key-file" in operator) is ("spec" in values_of(case)["managedKey"])
    assert "managed-key-file" not in signer


@pytest.mark.parametrize("service", ["signer", "operator"])
def test_a_changed_setting_starts_the_pods_anew(service: str) -> None:
    sums = {
        case: each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for case in ("defaults", "owners", "network")
        for each in rendered(case).kind("Deployment")
        if each["metadata"]["name"] == f"byok-{service}"
    }
    assert sums["defaults"] == sums["network"] != sums["owners"]


@pytest.mark.parametrize("case", CASES)
def test_the_operator_keeps_the_certificate_only_where_it_is_self_managed(case: str) -> None:
    kept = rendered(case).config("operator")["signer-tls"] == SignerTls.SELF_MANAGED
    secrets = {"byok-signer-ca", "byok-signer-tls"} & rendered(case).names("Secret")
    assert kept is (case not in {"cert-manager", "existing-secret"}) is (len(secrets) == 2)


def test_the_certificate_names_the_service_in_every_form() -> None:
    names = ["byok-signer", "byok-signer.byok-system", "byok-signer.byok-system.svc"]
    asked = rendered("cert-manager").one("Certificate", "byok-signer")["spec"]
    assert rendered("defaults").config("operator")["signer-tls-names"] == [*names, f"{names[-1]}.cluster.local"]
    assert asked["dnsNames"] == [*names, f"{names[-1]}.media.example"]
    assert rendered("defaults").config("operator")["signers"] == "byok-signer.byok-system.svc:8443"


def test_consumers_are_those_of_values() -> None:
    data = rendered("sandbox").one("ConfigMap", "byok-operator-config")["data"]["consumers.yaml"]
    assert parse_consumers(data.encode(), "consumers.yaml") == (
        Consumer("media", ("media-job", "batch.job")),
        Consumer("podcasts", ("default",)),
    )


def test_presets_and_the_managed_key_are_objects_that_the_operator_can_apply() -> None:
    found = rendered("managed-key")
    presets = found.one("ConfigMap", "byok-presets")["data"]
    key = found.one("ConfigMap", "byok-operator-config")["data"]["managed-key.yaml"]
    for name, text in {**presets, "managed-key.yaml": key}.items():
        (document,) = load_documents(text.encode(), name)
        assert parse_object(document, name, namespace="byok-system").metadata.name in {"house-photo-v1", "house-key"}
    assert presets.keys() == {"house-photo-v1.yaml"}


def test_shipped_presets_are_given_to_the_operator_as_they_are() -> None:
    files = {path.name: path.read_text() for path in (CHART / "presets").glob("*.yaml")}
    found = rendered("defaults").one("ConfigMap", "byok-presets")["data"]
    assert {name: text.strip() for name, text in found.items()} == {name: text.strip() for name, text in files.items()}


def test_settings_of_values_reach_the_services_and_none_is_one_that_the_chart_sets() -> None:
    found = rendered("pods").config("signer")
    assert (found["max-connections"], found["idle-seconds"]) == (2048, 60.5)
    for service in ("signer", "operator"):
        written = {name for case in CASES if case != "pods" for name in rendered(case).config(service)}
        assert not written & definitions()[f"{service}Settings"]["properties"].keys()
