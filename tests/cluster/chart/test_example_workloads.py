"""examples/kubernetes on the real API server: kustomize builds it, and a namespace of restricted pods admits it."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.examples.workloads import FOLDER, OBJECTS, PODS
from tests.testenv.kubectl import Kubectl, yaml_of

NAMESPACE = "restricted-media"


@pytest.fixture(scope="module")
def administrator(kubectl: Kubectl) -> Kubectl:
    """Make a namespace that restricts its pods, with the account of the examples, which is all that is stored."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    (account,) = [each for each in OBJECTS if each["kind"] == "ServiceAccount"]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    kubectl.apply(namespace, moved(account))
    return kubectl


def moved(document: Mapping[str, Any]) -> dict[str, Any]:
    """Put an object into the namespace of these tests."""
    return {**document, "metadata": {**document["metadata"], "namespace": NAMESPACE}}


def test_what_kustomize_builds_is_taken_without_a_warning(administrator: Kubectl) -> None:
    built = [moved(each) for each in yaml.safe_load_all(administrator("kustomize", str(FOLDER)))]
    command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    ended = administrator.attempt(*command, stdin=yaml_of(built))

    assert (ended.status, ended.err) == (0, "")
    assert len(built) == len(OBJECTS) + 1  # with the script's ConfigMap


@pytest.mark.parametrize("kind", PODS)
def test_the_pods_are_admitted_where_only_restricted_ones_are(administrator: Kubectl, kind: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "example", "namespace": NAMESPACE}}
    ended = administrator.attempt("create", "--dry-run=server", "-f", "-", stdin=yaml_of([{**pod, "spec": PODS[kind]}]))

    assert (ended.status, ended.err) == (0, "")
