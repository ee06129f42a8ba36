"""What is asked of the API server, and what comes back, as plain values: resources, their paths, raw JSON objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

JsonObject = dict[str, Any]
"""An object as the API server sends it."""


@dataclass(frozen=True)
class Resource:
    """A resource of the API, at one version; the core group is empty."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", *, subresource: str = "") -> str:
        """Give the path of a collection (of all namespaces, if none is named), or of an object.

        Kubernetes API concepts, "Resource URIs".
        """
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(quote(part, safe="") for part in parts)


BYOK_KEYS = Resource("byok.dev", "v1alpha1", "byokkeys")
SIGNING_RECIPES = Resource("byok.dev", "v1alpha1", "signingrecipes")
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases")
EVENTS = Resource("events.k8s.io", "v1", "events")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
SECRETS = Resource("", "v1", "secrets")
CONFIG_MAPS = Resource("", "v1", "configmaps")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)


@dataclass(frozen=True)
class Listing:
    """Objects of a collection, as they were at one resourceVersion."""

    items: list[JsonObject] = field(repr=False)
    resource_version: str


OPENED = "OPENED"
"""Of our own, not the API server's: it has taken the watch, and will say what happens."""


@dataclass(frozen=True)
class WatchEvent:
    """ADDED, MODIFIED or DELETED with the object; BOOKMARK with a resourceVersion only; OPENED with nothing."""

    type: str
    object: JsonObject = field(repr=False)

    @property
    def resource_version(self) -> str:
        """The collection's version that the event stands for."""
        version = self.object.get("metadata", {}).get("resourceVersion", "")
        return version if isinstance(version, str) else ""


@dataclass(frozen=True)
class Answer:
    """What a create gave, and the id by which the API server's audit log knows the request."""

    body: JsonObject = field(repr=False)
    audit_id: str


@dataclass(frozen=True)
class Request:
    """An HTTP request to the API server; `path` begins with a slash and may carry a query."""

    method: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    content_type: str = "application/json"
