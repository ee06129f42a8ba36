"""What the operator may give to consumers' namespaces, had it every right: what the installation's list says.

The installation names `consumer-media` (job, other-job) and `consumer-news` (job).
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.cluster_requests import RBAC, Answer, Requests, administrator
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation

# RBAC allows this group everything.
EVERYTHING = "system:masters"
NEWS, ELSEWHERE = "consumer-news", "consumer-of-nothing"
OURS = {"app.kubernetes.io/managed-by": "byok-operator"}
NAMED = "writes no {} but those named byok-signer"
NOT_LISTED = f"writes no {{}} in namespace {ELSEWHERE}, which is not among the installation's consumerNamespaces"
ROLE = "binds no role but ClusterRole byok-signer-user"
ACCOUNTS = f"lets nobody sign in namespace {NEWS} but the ServiceAccounts that consumerNamespaces lists"


@pytest.fixture(scope="module")
def admin(control_plane: ControlPlane) -> Iterator[Requests]:
    with administrator(control_plane) as requests:
        documents = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (NEWS, ELSEWHERE)
        ]
        for document in documents:
            assert requests.create(document).taken
        yield requests
        for document in documents:
            requests.delete(document)


@pytest.fixture
def almighty(admin: Requests, installation: Installation) -> Requests:
    """The operator, had somebody given it every right."""
    account = installation.operator_account
    return admin.named(f"system:serviceaccount:{account.namespace}:{account.name}", EVERYTHING)


def config_map(namespace: str = NEWS, name: str = "byok-signer", **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - any
    about = {"name": name, "namespace": namespace, "labels": OURS, **metadata}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": about,
        "data": {"address": "byok-signer.byok.svc:8443"},
    }


def binding(*subjects: dict[str, Any], role: str = "byok-signer-user", **place: str) -> dict[str, Any]:
    head = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": config_map(**place)["metadata"]}
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    return {**head, "roleRef": reference, "subjects": list(subjects) or [account("job")]}


def account(name: str, namespace: str = NEWS) -> dict[str, Any]:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def somebody(kind: str, name: str) -> dict[str, Any]:
    return {"apiGroup": RBAC, "kind": kind, "name": name}


def own_role(name: str) -> dict[str, Any]:
    document = binding()
    return {**document, "roleRef": {**document["roleRef"], "kind": "Role", "name": name}}


def told(answer: Answer) -> str:
    return "" if answer.taken else answer.message


@pytest.mark.parametrize("document", [config_map(), binding(), binding(account("job"), account("job"))])
def test_what_the_installation_lists_may_be_given(almighty: Requests, document: dict[str, Any]) -> None:
    assert told(almighty.create(document, dry_run=True)) == ""
    assert told(almighty.apply(document, manager="byok-operator", dry_run=True)) == ""


@pytest.mark.parametrize(
    ("document", "refusal"),
    [
        (config_map(name="other"), NAMED.format("ConfigMap")),
        (config_map(namespace=ELSEWHERE), NOT_LISTED.format("ConfigMap")),
        (binding(name="other"), NAMED.format("RoleBinding")),
        (binding(account("job", ELSEWHERE), namespace=ELSEWHERE), NOT_LISTED.format("RoleBinding")),
        (binding(role="cluster-admin"), ROLE),
        (binding(role="byok-key-owner"), ROLE),
        (own_role("byok-signer-user"), ROLE),
        (binding(account("other-job")), ACCOUNTS),
        (binding(account("job"), account("default")), ACCOUNTS),
        (binding(account("job", "consumer-media")), ACCOUNTS),
        (binding(somebody("User", "job")), ACCOUNTS),
        (binding(somebody("Group", "system:authenticated")), ACCOUNTS),
    ],
)
def test_anything_else_is_refused(almighty: Requests, document: dict[str, Any], refusal: str) -> None:
    assert refusal in told(almighty.create(document, dry_run=True))
    assert refusal in told(almighty.apply(document, manager="byok-operator", dry_run=True))


def test_what_was_allowed_cannot_be_changed_into_something_else(almighty: Requests) -> None:
    assert almighty.create(binding()).taken
    assert ACCOUNTS in told(almighty.patch(binding(), {"subjects": [account("other-job")]}))
    assert told(almighty.patch(binding(), {"subjects": []})) == ""


@pytest.mark.parametrize("document", [config_map, binding])
def test_only_its_own_may_be_deleted_and_only_where_no_consumer_is(
    admin: Requests, almighty: Requests, document: Callable[..., dict[str, Any]]
) -> None:
    mine, foreign = document(namespace=ELSEWHERE), document(namespace=ELSEWHERE)
    del foreign["metadata"]["labels"]
    assert admin.create(foreign).taken
    assert "that does not have the label app.kubernetes.io/managed-by" in told(almighty.delete(foreign))
    assert admin.patch(foreign, {"metadata": {"labels": OURS}}).taken
    assert told(almighty.delete(mine)) == ""
    admin.create(document())
    assert f"in namespace {NEWS}, which is among the installation's consumerNamespaces" in told(
        almighty.delete(document())
    )
    assert admin.delete(document()).taken


def test_where_no_consumer_is_only_its_own_role_binding_may_be_emptied(admin: Requests, almighty: Requests) -> None:
    refused = NOT_LISTED.format("RoleBinding")
    mine = binding(account("job", ELSEWHERE), namespace=ELSEWHERE)
    assert admin.create(mine).taken
    assert refused in told(almighty.patch(mine, {"metadata": {"annotations": {"a": "b"}}}))
    assert refused in told(almighty.patch(mine, {"subjects": [account("other-job", ELSEWHERE)]}))
    assert told(almighty.patch(mine, {"subjects": []})) == ""
    assert admin.patch(mine, {"metadata": {"labels": None}, "subjects": mine["subjects"]}).taken
    assert refused in told(almighty.patch(mine, {"subjects": []}))
    assert admin.delete(mine).taken
    foreign = binding(account("job", ELSEWHERE), namespace=ELSEWHERE, role="view")
    assert admin.create(foreign).taken
    assert ROLE in told(almighty.patch(foreign, {"subjects": []}))
    assert admin.delete(foreign).taken


def test_nobody_else_is_held_to_that(admin: Requests) -> None:
    assert told(admin.create(config_map(name="other"), dry_run=True)) == ""
    assert told(admin.create(binding(role="view"), dry_run=True)) == ""


def test_rbac_lets_the_operator_create_no_other_name(admin: Requests, installation: Installation) -> None:
    place = installation.operator_account
    operator = admin.named(f"system:serviceaccount:{place.namespace}:{place.name}")
    for document in (config_map(), binding()):
        assert told(operator.apply(document, manager="byok-operator", dry_run=True)) == ""
    for document in (config_map(name="other"), binding(name="other")):
        assert "forbidden" in told(operator.apply(document, manager="byok-operator", dry_run=True))
