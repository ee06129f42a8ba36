"""What RBAC lets somebody do: a SelfSubjectRulesReview, walked over every resource that the API server has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.cluster_requests import Requests

VERBS = (
    *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
    *("use", "sign", "probe", "certify"),
    *("approve", "attest", "bind", "escalate", "impersonate"),
)
"""Those of requests, ours, and those that RBAC, certificates and impersonation ask for (Kubernetes, Authorization)."""
# What RBAC is asked about and no discovery lists (Kubernetes, "User impersonation", "Certificate signing requests").
_UNLISTED = {
    ("", "users"): False,
    ("", "groups"): False,
    ("authentication.k8s.io", "uids"): False,
    ("authentication.k8s.io", "userextras/scopes"): False,
    ("certificates.k8s.io", "signers"): False,
}


@dataclass(frozen=True)
class Walk:
    """All resources and subresources of an API server, by group and name: whether they are in namespaces."""

    resources: Mapping[tuple[str, str], bool]

    @classmethod
    def over(cls, admin: Requests) -> "Walk":
        """Ask the API server what it has (Kubernetes, Discovery)."""
        versions = [group["preferredVersion"]["groupVersion"] for group in admin.ask("GET", "apis").body["groups"]]
        found = dict(_UNLISTED)
        for version in ("", *versions):
            path = f"apis/{version}" if version else "api/v1"
            for resource in admin.ask("GET", path).body["resources"]:
                found[version.partition("/")[0] if version else "", resource["name"]] = resource["namespaced"]
        return cls(found)

    def allowed(self, rules: Sequence[Mapping[str, Any]], *, cluster_wide: bool) -> dict[str, set[str]]:
        """List the verbs that rules allow: by `group/resource`, or `group/resource[name]` where a rule names objects.

        Resources that are in no namespace are left out unless the rules hold `cluster_wide`.
        """
        found: dict[str, set[str]] = {}
        for (group, resource), namespaced in self.resources.items():
            if not (namespaced or cluster_wide):
                continue
            for rule in rules:
                if _covers(rule["apiGroups"], group) and _covers_resource(rule["resources"], resource):
                    for target in _targets(f"{group or 'core'}/{resource}", rule):
                        found.setdefault(target, set()).update(verb for verb in VERBS if _covers(rule["verbs"], verb))
        return {target: verbs for target, verbs in found.items() if verbs}


def rules_of(somebody: Requests, namespace: str) -> dict[str, list[dict[str, Any]]]:
    """Ask as somebody what RBAC allows in a namespace: `resourceRules` and `nonResourceRules`."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    status = somebody.ask("POST", "apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body).body["status"]
    assert not status["incomplete"], status
    return {name: status[name] for name in ("resourceRules", "nonResourceRules")}


def _targets(target: str, rule: Mapping[str, Any]) -> Iterator[str]:
    names = rule.get("resourceNames")
    yield from (f"{target}[{name}]" for name in names) if names else (target,)


def _covers(given: Sequence[str], wanted: str) -> bool:
    return wanted in given or "*" in given


def _covers_resource(given: Sequence[str], resource: str) -> bool:
    _, slash, subresource = resource.partition("/")
    return _covers(given, resource) or bool(slash and f"*/{subresource}" in given)
