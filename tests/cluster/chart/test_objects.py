"""What the chart renders is taken by the API server: by the kinds' own schemas, and by restricted pod security."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.rendering import CASES, NAMESPACE, Document, Rendering, containers, render_text, values_of
from tests.support.chart_release import install, plane_for_releases, uninstall
from tests.support.eventually import until
from tests.testenv.binaries import Binaries
from tests.testenv.kubectl import Ended, Kubectl, yaml_of


@pytest.fixture(scope="module")
def kubectl(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """With others' CRDs, in a namespace that admits restricted pods only."""
    with plane_for_releases(tmp_path_factory.mktemp("objects"), binaries) as plane:
        yield plane.kubectl


def as_pod(name: str, spec: Document) -> dict[str, Any]:
    """Make of a workload's pod one that needs no ServiceAccount and no claim, which a dry run does not make."""
    mounted = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
    claims = mounted - {volume["name"] for volume in spec["volumes"]}
    volumes = [*spec["volumes"], *({"name": claim, "emptyDir": {}} for claim in sorted(claims))]
    kept = {key: value for key, value in spec.items() if key != "serviceAccountName"}
    metadata = {"name": f"as-{name}", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**kept, "volumes": volumes}}


def tried(kubectl: Kubectl, *documents: Document) -> Ended:
    """Have the API server say what it would do; a field that a schema does not know is an error."""
    flags = ("--server-side", "--dry-run=server", "--validate=strict")
    return kubectl.attempt("apply", *flags, "-f", "-", stdin=yaml_of(documents))


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_case_and_has_nothing_to_warn_of(kubectl: Kubectl, case: str) -> None:
    rendering = Rendering.of(render_text(values_of(case)))
    others = [each for each in rendering.documents if each["kind"] != "Pod"]
    answer = tried(kubectl, *others, *(as_pod(name, pod) for name, pod in rendering.pods().items()))
    assert answer.status == 0, answer.err
    assert "warning" not in answer.err.lower(), answer.err


@pytest.mark.parametrize(
    ("case", "kind"),
    [("cert-manager", "Certificate"), ("monitoring", "PrometheusRule"), ("monitoring", "ServiceMonitor")],
)
def test_a_field_that_anothers_kind_does_not_know_would_be_refused(kubectl: Kubectl, case: str, kind: str) -> None:
    document = Rendering.of(render_text(values_of(case))).kind(kind)[0]
    answer = tried(kubectl, {**document, "spec": {**document["spec"], "tpyo": 1}})
    assert ".spec.tpyo: field not declared in schema" in answer.err


def test_a_pod_that_is_not_restricted_would_be_refused(kubectl: Kubectl) -> None:
    pod = as_pod("byok-signer", Rendering.of(render_text({})).pod("byok-signer"))
    pod["spec"] = {**pod["spec"], "hostNetwork": True}
    assert 'violates PodSecurity "restricted' in tried(kubectl, pod).err


@pytest.fixture
def notes(kubectl: Kubectl) -> Iterator[str]:
    """What helm says once the chart is installed with its sandbox."""
    yield install(kubectl, {"sandbox": {"enabled": True}})
    uninstall(kubectl)


@pytest.mark.usefixtures("notes")
async def test_the_controllers_make_the_pods_there(kubectl: Kubectl) -> None:
    def pods() -> list[str]:
        found = kubectl.get("pod", "-n", NAMESPACE)["items"]
        return sorted(each["metadata"]["labels"]["app.kubernetes.io/component"] for each in found)

    await until(lambda: pods() == ["operator", "operator", "sandbox", "signer", "signer"], 30)


def test_the_notes_apply_what_the_sandbox_wrote(kubectl: Kubectl, notes: str) -> None:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tried", "namespace": "media"}}
    # As byok_sandbox.cluster fills it: some objects in each file, and one file of another kind.
    text = yaml_of([document, {**document, "metadata": {"name": "tried-too", "namespace": "media"}}])
    data = {"1-some.yaml": text, "2-more.yaml": text, "trust-anchors.pem": "-----BEGIN CERTIFICATE-----\n"}
    kubectl("patch", "configmap", "byok-sandbox", "-n", NAMESPACE, "-p", json.dumps({"data": data}))
    (command,) = (line.strip() for line in notes.splitlines() if "get configmap byok-sandbox" in line)
    path = {"PATH": f"{kubectl.binary.parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **path, **kubectl.environ},
    )
    assert ended.returncode == 0, ended.stderr
    kubectl("delete", "configmap", "tried", "tried-too", "-n", "media")
