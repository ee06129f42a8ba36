"""Every verb on every resource, for every role: allowed is what stands in the reviewed list, no more and no less."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster_requests import Requests, administrator, grant, may, until
from tests.support.rights import VERBS, Walk, rules_of
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation

Rights = dict[str, dict[str, str]]
"""Verbs by target, by where they hold."""
REVIEWED: dict[str, Rights] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "cluster" / "rights.yaml").read_text()
)
HOME, ELSEWHERE = "rights-home", "rights-elsewhere"
SERVICES = ("operator", "signer")
ROLES = ("byok-key-owner", "byok-key-user", "byok-recipe-user", "byok-signer-user", "byok-view", "byok-edit")
AGGREGATED = ("view", "edit", "admin")
"""Kubernetes' own roles; of these only what they allow with our kinds is listed."""
OURS = "byok.dev/"
# What would let a service that is broken into, or a person with a narrow role, take more than it was given.
DANGEROUS = (
    ("", "configmaps"),
    ("", "nodes/proxy"),
    ("", "pods"),
    ("", "pods/exec"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
)


@pytest.fixture(scope="module")
def admin(control_plane: ControlPlane) -> Iterator[Requests]:
    with administrator(control_plane) as requests:
        yield requests


@pytest.fixture(scope="module")
def walk(admin: Requests) -> Iterator[Walk]:
    """All there is to be allowed, once every role is bound in HOME to a user of its name."""
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (HOME, ELSEWHERE)]
    for namespace in namespaces:
        assert admin.create(namespace).taken
    for role in (*ROLES, *AGGREGATED):
        grant(admin, role, role, HOME)
    # The last of them to gain our kinds.
    wanted = {"namespace": HOME, "group": "byok.dev", "resource": "signingrecipes", "verb": "create"}
    until(lambda: may(admin, "admin", wanted), "Kubernetes' own roles have taken ours in")
    yield Walk.over(admin)
    for namespace in namespaces:
        admin.delete(namespace)


def place(role: str, installation: Installation) -> str:
    return installation.namespace if role in SERVICES else HOME


def user(role: str, installation: Installation) -> str:
    if role not in SERVICES:
        return role
    account = installation.operator_account if role == "operator" else installation.signer_account
    return f"system:serviceaccount:{account.namespace}:{account.name}"


def rights(walk: Walk, somebody: Requests, namespace: str) -> Rights:
    everywhere = rules_of(somebody, ELSEWHERE)
    here = walk.allowed(rules_of(somebody, namespace)["resourceRules"], cluster_wide=False)
    wide = walk.allowed(everywhere["resourceRules"], cluster_wide=True)
    paths = {path: set(rule["verbs"]) for rule in everywhere["nonResourceRules"] for path in rule["nonResourceURLs"]}
    return {"everywhere": written(wide | paths), "where it is bound": written(beyond(here, wide))}


def beyond(rights: dict[str, set[str]], others: dict[str, set[str]]) -> dict[str, set[str]]:
    left = {target: verbs - others.get(target, set()) for target, verbs in rights.items()}
    return {target: verbs for target, verbs in left.items() if verbs}


def written(rights: dict[str, set[str]]) -> dict[str, str]:
    return {target: " ".join(sorted(verbs)) for target, verbs in sorted(rights.items())}


def without(rights: Rights, baseline: Rights) -> Rights:
    kept = {
        where: {target: verbs for target, verbs in found.items() if baseline.get(where, {}).get(target) != verbs}
        for where, found in rights.items()
    }
    return {where: found for where, found in kept.items() if found}


def test_what_anybody_may_do_has_nothing_to_do_with_us(walk: Walk, admin: Requests) -> None:
    found = without(rights(walk, admin.named("anybody"), HOME), {})
    assert found == REVIEWED["anybody"]


@pytest.mark.parametrize("role", [*SERVICES, *ROLES])
def test_a_role_may_do_what_is_listed_and_nothing_else(
    walk: Walk, admin: Requests, installation: Installation, role: str
) -> None:
    baseline = rights(walk, admin.named("anybody"), HOME)
    found = rights(walk, admin.named(user(role, installation)), place(role, installation))
    assert without(found, baseline) == REVIEWED[role]


@pytest.mark.parametrize("role", AGGREGATED)
def test_kubernetes_own_roles_gain_what_is_listed(walk: Walk, admin: Requests, role: str) -> None:
    found = rights(walk, admin.named(role), HOME)
    ours = {where: {name: verbs for name, verbs in each.items() if OURS in name} for where, each in found.items()}
    assert without(ours, {}) == REVIEWED[role]


@pytest.mark.parametrize("role", [*SERVICES, *ROLES, *AGGREGATED, "anybody"])
def test_access_reviews_agree_on_our_kinds(walk: Walk, admin: Requests, installation: Installation, role: str) -> None:
    listed = REVIEWED[role]
    for _, resource in (each for each in walk.resources if each[0] == "byok.dev"):
        for namespace, places in ((ELSEWHERE, ["everywhere"]), (place(role, installation), list(listed))):
            expected = {verb for where in places for verb in listed.get(where, {}).get(OURS + resource, "").split()}
            assert reviewed(admin, role, (namespace, "byok.dev", resource), installation) == expected


@pytest.mark.usefixtures("walk")
@pytest.mark.parametrize("role", [*SERVICES, *ROLES])
def test_no_role_reaches_what_would_make_more_of_it(admin: Requests, installation: Installation, role: str) -> None:
    namespace = place(role, installation)
    assert not {
        (group, resource): verbs
        for group, resource in DANGEROUS
        if (verbs := reviewed(admin, role, (namespace, group, resource), installation))
    }


def reviewed(admin: Requests, role: str, target: tuple[str, str, str], installation: Installation) -> set[str]:
    """Ask SubjectAccessReviews for the verbs that a role has on a resource: (namespace, group, resource)."""
    namespace, group, name = target
    resource, _, subresource = name.partition("/")
    attributes = {"namespace": namespace, "group": group, "resource": resource, "subresource": subresource}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{installation.namespace}"] * (role in SERVICES)
    subject = user(role, installation)
    return {verb for verb in VERBS if may(admin, subject, attributes | {"verb": verb}, groups)}
