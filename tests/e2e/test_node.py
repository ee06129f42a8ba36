"""The cluster of this tier runs pods as production's do; what the tests of the installation stand on."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testenv.binaries import node_binaries
from tests.testenv.kubectl import Kubectl
from tests.testenv.node import one_program
from tests.testenv.node.chosen import Chosen, own_namespace
from tests.testenv.node.configuration import NODE_NAME
from tests.testenv.node.forwarding import forward
from tests.testenv.node.running import Node
from tests.testenv.ports import answers_ok
from tests.testenv.processes import Processes

PORT = 8080
AUDIENCE = "byok-signer"
USER = 65532
DEADLINE = 60.0
TOKEN = {"serviceAccountToken": {"path": "token", "audience": AUDIENCE, "expirationSeconds": 600}}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.2)


def pod_spec() -> dict[str, Any]:
    """A pod under restricted pod security that serves its name, and has a token for AUDIENCE."""
    container = {
        "name": "visitor",
        "image": one_program.VISITOR,
        "imagePullPolicy": "Never",
        "args": ["serve", f":{PORT}"],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "resources": {"limits": {"memory": "32Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/signer"}],
    }
    return {
        "containers": [container],
        "securityContext": {
            "fsGroup": USER,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 5,
        "volumes": [{"name": "token", "projected": {"sources": [TOKEN]}}],
    }


def workload(kind: str, name: str, **spec: object) -> dict[str, Any]:
    """A Deployment or StatefulSet of such pods, to which a Service of that name leads."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def service(name: str, **spec: object) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def within(namespace: str, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**found, "metadata": {**found["metadata"], "namespace": namespace}} for found in documents]


@pytest.fixture(scope="session", autouse=True)
def visitor(node: Chosen, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load the image that these pods run."""
    archive = tmp_path_factory.mktemp("visitor") / "visitor.tar"
    one_program.write(one_program.VISITOR, node_binaries(os.environ, pytest.fail).visitor, archive)
    node.load_image(archive)


@pytest.fixture(scope="module")
def web(kubectl: Kubectl) -> Iterator[str]:
    """Two replicas of a Deployment, with a Service and a headless one, in a namespace of their own."""
    with own_namespace(kubectl) as namespace:
        start_web(kubectl, namespace)
        yield namespace


def start_web(kubectl: Kubectl, namespace: str) -> None:
    headless = service("web-pods", clusterIP="None", selector={"app": "web"})
    kubectl.apply(*within(namespace, workload("Deployment", "web", replicas=2), service("web"), headless))
    kubectl("rollout", "status", "deployment/web", "--namespace", namespace, "--timeout=50s")
    get = ("exec", "deployment/web", "--namespace", namespace, "--", "/visitor", "get", "http://web/")
    # kube-proxy hears of the replicas a moment later.
    until(lambda: kubectl.attempt(*get).status == 0, "the Service leads to them")


def visit(kubectl: Kubectl, namespace: str, pod: str, *command: str) -> str:
    """Run the program in a pod."""
    return kubectl("exec", pod, "--namespace", namespace, "--", "/visitor", *command)


def test_restricted_pods_become_ready_log_and_take_commands(kubectl: Kubectl, web: str) -> None:
    assert f"serves on :{PORT}" in kubectl("logs", "deployment/web", "--namespace", web)
    assert visit(kubectl, web, "deployment/web", "cat", "/etc/hostname").startswith("web-")


def test_a_projected_token_names_its_pod_and_is_for_its_audience_only(kubectl: Kubectl, web: str) -> None:
    token = visit(kubectl, web, "deployment/web", "cat", "/var/run/signer/token")
    ours, others = (review(kubectl, token, audience) for audience in (AUDIENCE, "somebody-else"))
    assert ours["user"]["username"] == f"system:serviceaccount:{web}:default"
    assert ours["user"]["extra"]["authentication.kubernetes.io/pod-name"][0].startswith("web-")
    assert not others.get("authenticated")


def review(kubectl: Kubectl, token: str, audience: str) -> dict[str, Any]:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}}
    asked = json.dumps({**body, "spec": {"token": token, "audiences": [audience]}})
    answer = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=asked))
    status: dict[str, Any] = answer["status"]
    return status


@pytest.mark.parametrize("name", ["web", "web.{}", "web.{}.svc", "web.{}.svc.cluster.local"])
def test_a_service_is_reached_by_each_of_its_names(kubectl: Kubectl, web: str, name: str) -> None:
    answers = {visit(kubectl, web, "deployment/web", "get", f"http://{name.format(web)}/") for _ in range(3)}
    assert all(answer.startswith("web-") for answer in answers)


def test_a_service_leads_to_every_replica_its_caller_included(kubectl: Kubectl, web: str) -> None:
    found: set[str] = set()

    def all_met() -> bool:
        found.add(visit(kubectl, web, "deployment/web", "get", "http://web/"))
        return len(found) == 2

    until(all_met, "both replicas answer")


def test_a_headless_service_is_the_addresses_of_its_pods(kubectl: Kubectl, web: str) -> None:
    url = f"http://web-pods.{web}.svc.cluster.local:{PORT}/"
    assert visit(kubectl, web, "deployment/web", "get", url).startswith("web-")


def test_a_name_that_is_not_there_is_refused_at_once(kubectl: Kubectl, web: str) -> None:
    command = ("exec", "deployment/web", "--namespace", web, "--", "/visitor", "get")
    assert "no such host" in kubectl.attempt(*command, "http://nobody/").err


def test_a_volume_is_its_groups_and_outlives_the_pod_but_not_the_claim(kubectl: Kubectl, namespace: str) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    store = workload("StatefulSet", "store", replicas=1, serviceName="store", volumeClaimTemplates=[claim])
    mounts = store["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    mounts.append({"name": "data", "mountPath": "/data"})
    kubectl.apply(*within(namespace, store))
    kubectl("rollout", "status", "statefulset/store", "--namespace", namespace, "--timeout=50s")
    visit(kubectl, namespace, "store-0", "write", "/data/kept", "still here")
    kubectl("delete", "pod", "store-0", "--namespace", namespace)
    # What the StatefulSet says may still be of the pod that is gone, and there may be no other one yet.
    ready = ("wait", "--for=condition=Ready", "pod/store-0", "--namespace", namespace, "--timeout=10s")
    until(lambda: kubectl.attempt(*ready).status == 0, "the pod is there again")
    assert visit(kubectl, namespace, "store-0", "cat", "/data/kept") == "still here"
    volume = kubectl.get("pvc", "data-store-0", "--namespace", namespace)["spec"]["volumeName"]
    kubectl("delete", "statefulset/store", "--namespace", namespace)
    kubectl("delete", "pvc", "data-store-0", "--namespace", namespace)
    until(lambda: kubectl.attempt("get", "pv", volume).status != 0, f"{volume} is removed")


@pytest.mark.timeout(180)
def test_pods_go_on_while_the_api_server_is_away(node: Chosen, kubectl: Kubectl, web: str, tmp_path: Path) -> None:
    if not isinstance(node, Node):
        pytest.skip("this cluster's API server is not ours to stop")
    before = pods(kubectl, web)
    address = before[0]["status"]["podIP"]
    with Processes() as processes:
        outside = forward(node.namespaces, address, PORT, tmp_path / "relay.log", processes=processes).port
        node.stop_api_server()
        try:
            assert kubectl.attempt("get", "nodes", "--request-timeout=2s").status != 0
            until(lambda: answers_ok(outside, "/"), "the pod answers")
        finally:
            node.start_api_server()
    # What the API server has stored of the node is from before.
    before_report = reported(kubectl)
    until(lambda: reported(kubectl) != before_report and node.is_ready(), "the kubelet reports again")
    assert visit(kubectl, web, "deployment/web", "get", "http://web/").startswith("web-")
    assert [started(pod) for pod in pods(kubectl, web)] == [started(pod) for pod in before]


def reported(kubectl: Kubectl) -> str:
    """When the kubelet last said that it is there."""
    return str(kubectl.get("lease", NODE_NAME, "--namespace", "kube-node-lease")["spec"]["renewTime"])


def pods(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.get("pods", "--namespace", namespace)["items"]
    return found


def started(pod: dict[str, Any]) -> tuple[str, str]:
    return pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
