"""Consumers: namespaces whose jobs sign, and the two objects by which they can. Pure.

The ConfigMap says where the signer is and whom to trust for it; the RoleBinding lets the ServiceAccounts that the
installation names sign under the namespace's recipes. Both belong to a ClusterRole of the release, which no namespace
holds, so that Kubernetes' garbage collector takes them away when the release goes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from byok_api.manifests import Fault, load_mapping
from byok_api.references import NAME_LIMIT, NAME_PATTERN, NAMESPACE_PATTERN
from byok_operator.applied import FIELD_MANAGER
from byok_service.kubernetes_resources import (
    CLUSTER_ROLES,
    CONFIG_MAPS,
    ROLE_BINDINGS,
    JsonObject,
    Resource,
)

NAME: Final = "byok-signer"
"""Of both objects."""
ROLE: Final = "byok-signer-user"
OWNER: Final = "byok-operator"
"""ClusterRole that owns both."""
LABELS: Final[Mapping[str, str]] = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
NAMESPACES_LIMIT = 1000
ACCOUNTS_LIMIT = 100
"""ServiceAccounts of one namespace."""
_ROLE_REF: Final = {"apiGroup": ROLE_BINDINGS.group, "kind": "ClusterRole", "name": ROLE}
_NAMESPACE = re.compile(NAMESPACE_PATTERN)
_ACCOUNT = re.compile(NAME_PATTERN)
_QUOTE_LIMIT = 80


@dataclass(frozen=True)
class Consumer:
    """A namespace, and its ServiceAccounts that may sign."""

    namespace: str
    accounts: tuple[str, ...]


def parse_consumers(data: bytes, source: str) -> tuple[Consumer, ...]:
    """Read YAML: one mapping from namespaces to lists of ServiceAccounts; ManifestError lists all that is wrong.

    An empty file names no consumers. At most 1 MiB, 1,000 namespaces and 100 ServiceAccounts for each.
    """
    document = load_mapping(data, source, _faults)
    return tuple(
        Consumer(namespace, tuple(dict.fromkeys(accounts))) for namespace, accounts in sorted(document.items())
    )


def owner_reference(uid: str) -> JsonObject:
    """Name the owner of both objects, as metadata.ownerReferences does."""
    api_version = CLUSTER_ROLES.api_version
    return {"apiVersion": api_version, "kind": "ClusterRole", "name": OWNER, "uid": uid}


def config_map(namespace: str, owner: JsonObject, *, address: str, bundle: bytes) -> JsonObject:
    """Make the ConfigMap: `address` is HOST:PORT, `bundle` CA certificates in PEM."""
    head = {"apiVersion": CONFIG_MAPS.api_version, "kind": "ConfigMap"}
    return {**head, "metadata": _metadata(namespace, owner), "data": {"address": address, "ca.crt": bundle.decode()}}


def role_binding(consumer: Consumer, owner: JsonObject) -> JsonObject:
    """Make the RoleBinding."""
    return {
        "apiVersion": ROLE_BINDINGS.api_version,
        "kind": "RoleBinding",
        "metadata": _metadata(consumer.namespace, owner),
        "roleRef": dict(_ROLE_REF),
        "subjects": [
            {"kind": "ServiceAccount", "name": account, "namespace": consumer.namespace}
            for account in consumer.accounts
        ],
    }


def emptied(binding: JsonObject) -> JsonObject:
    """Make a RoleBinding of one that is stored, and as long as nobody changes it, by which nobody may sign."""
    metadata = {name: binding["metadata"][name] for name in ("name", "namespace", "labels", "uid", "resourceVersion")}
    return {**binding, "metadata": metadata, "subjects": []}


def is_ours(stored: JsonObject) -> bool:
    """Say whether the operator applied an object: by its label, and by what its namespace's owners cannot forge.

    Whoever may update a RoleBinding may change its owners, finalizers and managedFields, but neither its labels nor its
    roleRef without the right to bind the role (Kubernetes, pkg/registry/rbac, IsOnlyMutatingGCFields). Of a ConfigMap
    they may change anything, which lets nobody in.
    """
    metadata = stored.get("metadata", {})
    labels = metadata.get("labels") or {}
    if not LABELS.items() <= labels.items():
        return False
    if "roleRef" in stored:
        return bool(stored["roleRef"] == _ROLE_REF)
    managers = [each.get("manager") for each in metadata.get("managedFields", ()) if each.get("operation") == "Apply"]
    return FIELD_MANAGER in managers


KINDS: Final[tuple[Resource, ...]] = (ROLE_BINDINGS, CONFIG_MAPS)
"""What a consumer is given, and loses."""


def _metadata(namespace: str, owner: JsonObject) -> JsonObject:
    return {"name": NAME, "namespace": namespace, "labels": dict(LABELS), "ownerReferences": [owner]}


def _faults(document: Mapping[str, object]) -> Iterable[Fault]:
    if len(document) > NAMESPACES_LIMIT:
        yield (), "SizeLimit", f"lists {len(document)} namespaces", f"list at most {NAMESPACES_LIMIT}"
        return
    for namespace, accounts in document.items():
        if _NAMESPACE.fullmatch(namespace) is None:
            yield (namespace,), "Namespace", "is no namespace's name", "write one, such as media"
        if not isinstance(accounts, list) or not accounts:
            yield (namespace,), "ServiceAccounts", "is no list, or an empty one", "write a list of ServiceAccounts"
            continue
        if len(accounts) > ACCOUNTS_LIMIT:
            yield (namespace,), "SizeLimit", f"lists {len(accounts)} names", f"list at most {ACCOUNTS_LIMIT}"
            continue
        for index, account in enumerate(accounts):
            if not isinstance(account, str) or len(account) > NAME_LIMIT or _ACCOUNT.fullmatch(account) is None:
                quoted = repr(account)[:_QUOTE_LIMIT]
                yield (namespace, index), "ServiceAccount", f"is {quoted}, no ServiceAccount's name", "write its name"
