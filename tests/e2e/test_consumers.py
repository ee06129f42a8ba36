"""Who may sign: the accounts of the namespaces that values name, whenever those appear, and nobody else."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.chart.rendering import NAMESPACE
from tests.support import verdicts
from tests.support.client_pods import PICTURES, EndedPod, client_pod, ended_pod, pictures, run_to_its_end
from tests.support.release import ACCOUNT, LATER, MEDIA, METADATA, RECIPE, SIGNS, STRANGERS, Release
from tests.testenv.kubectl import Kubectl
from tests.testenv.node.images import Image

JPEG = verdicts.MEDIA / "landscape.jpg"
PHOTOS = "photos"


def signing(image: Image, recipe: str) -> dict[str, Any]:
    """Write a container that signs a picture."""
    files = [f"{PICTURES}/{JPEG.name}", f"--output=/tmp/{JPEG.name}"]
    arguments = ["sign", *files, f"--recipe={recipe}", f"--metadata={METADATA}", "--format=json"]
    return {"image": image.reference, "args": arguments}


def recipe_of_media(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    """Write MEDIA's recipe, under the same key, as an object of another namespace."""
    found = kubectl.get("signingrecipe", RECIPE, "--namespace", MEDIA)
    metadata = {"name": RECIPE, "namespace": namespace}
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": metadata, "spec": found["spec"]}


@pytest.fixture
def later(release: Release) -> Iterator[Kubectl]:
    """Make the namespace that values name from the beginning, with a recipe; it stays, with what the operator keeps."""
    kubectl = release.kubectl
    assert kubectl.attempt("get", "namespace", LATER).status != 0
    release.make_namespace(LATER, SIGNS)
    release.make_account(LATER)
    kubectl.apply(recipe_of_media(kubectl, LATER), pictures(PHOTOS, LATER, JPEG))
    yield kubectl
    kubectl("delete", "pod/job", f"configmap/{PHOTOS}", "--namespace", LATER, "--ignore-not-found")


def test_a_consumers_namespace_that_appears_later_is_served(later: Kubectl, images: Mapping[str, Image]) -> None:
    # Made at once, as a team's pipeline does: the kubelet holds it back until address and CA are there.
    ended = run_to_its_end(later, client_pod("job", LATER, signing(images["cli"], RECIPE), pictures=PHOTOS))
    assert ended.status == 0, ended.said
    assert configured(later, LATER) == configured(later, MEDIA)
    assert configured(later, LATER)["address"] == f"byok-signer.{NAMESPACE}.svc:8443"
    assert bound(later, LATER) == [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": LATER}]


def configured(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    data: dict[str, str] = kubectl.get("configmap", "byok-signer", "--namespace", namespace)["data"]
    return data


def bound(kubectl: Kubectl, namespace: str) -> list[dict[str, str]]:
    subjects: list[dict[str, str]] = kubectl.get("rolebinding", "byok-signer", "--namespace", namespace)["subjects"]
    return subjects


class Refused(NamedTuple):
    """A request that is refused, and how."""

    namespace: str
    account: str
    recipe: str
    reason: str


REFUSED = {
    "another-namespaces-pod": Refused(STRANGERS, ACCOUNT, f"{MEDIA}/{RECIPE}", "RecipeNotAllowed"),
    "no-such-recipe": Refused(STRANGERS, ACCOUNT, f"{MEDIA}/nobody-v1", "RecipeNotAllowed"),
    "another-account": Refused(MEDIA, "default", RECIPE, "RecipeNotAllowed"),
    "a-key-that-does-not-admit-it": Refused(STRANGERS, ACCOUNT, RECIPE, "KeyNotAllowed"),
}


@pytest.fixture(scope="module")
def refused(release: Release, images: Mapping[str, Image]) -> Iterator[Mapping[str, EndedPod]]:
    """How each of REFUSED ended; strangers know address and CA, and may use their own recipe for the brand's key."""
    kubectl = release.kubectl
    release.make_namespace(STRANGERS)
    release.make_account(STRANGERS)
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "byok-signer", "namespace": STRANGERS},
            "data": configured(kubectl, MEDIA),
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "by-themselves", "namespace": STRANGERS},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "byok-signer-user"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": STRANGERS}],
        },
        recipe_of_media(kubectl, STRANGERS),
        pictures(PHOTOS, STRANGERS, JPEG),
        pictures(PHOTOS, MEDIA, JPEG),
    )
    pods = {
        name: client_pod(
            name, case.namespace, signing(images["cli"], case.recipe), account=case.account, pictures=PHOTOS
        )
        for name, case in REFUSED.items()
    }
    try:
        kubectl.apply(*pods.values())
        yield {name: ended_pod(kubectl, pod) for name, pod in pods.items()}
    finally:
        kubectl("delete", "namespace", STRANGERS, "--wait=false")
        kubectl("delete", "pod/another-account", f"configmap/{PHOTOS}", "--namespace", MEDIA, "--ignore-not-found")


def error(ended: EndedPod) -> dict[str, Any]:
    assert ended.status == 1, ended.said
    found: dict[str, Any] = json.loads(ended.said)["error"]
    return found


@pytest.mark.parametrize("case", REFUSED)
def test_nobody_else_signs_and_is_told_why(refused: Mapping[str, EndedPod], case: str) -> None:
    assert error(refused[case])["reason"] == REFUSED[case].reason


def test_those_refusals_are_permission_denied(refused: Mapping[str, EndedPod], release: Release) -> None:
    denied = release.total("signer", "byok_signer_requests_total", code="PERMISSION_DENIED")
    assert denied >= len(refused)


def test_strangers_do_not_learn_what_recipes_there_are(refused: Mapping[str, EndedPod]) -> None:
    there, not_there = (refused[name] for name in ("another-namespaces-pod", "no-such-recipe"))
    same = not_there.said.replace("nobody-v1", RECIPE)
    assert error(there) == error(EndedPod(not_there.status, same))
