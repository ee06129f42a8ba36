"""Requests to a real API server in any user's name: what kubectl would send, without its start-up time."""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from byok_api.crds import KINDS
from tests.testenv.control_plane import ControlPlane

_TIMEOUT = 30.0
_PATIENCE = 30.0
_INTERVAL = 0.02
RBAC = "rbac.authorization.k8s.io"
_RESOURCES = {kind.name: f"apis/byok.dev/v1alpha1/{{}}{kind.plural}" for kind in KINDS} | {
    "Namespace": "api/v1/namespaces",
    "ConfigMap": "api/v1/{}configmaps",
    "ClusterRole": f"apis/{RBAC}/v1/clusterroles",
    "Role": f"apis/{RBAC}/v1/{{}}roles",
    "RoleBinding": f"apis/{RBAC}/v1/{{}}rolebindings",
}
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def taken(self) -> bool:
        """Whether it did what was asked."""
        return self.status < http.client.BAD_REQUEST

    @property
    def message(self) -> str:
        """Why not, as kubectl prints it behind `Error from server`."""
        return "" if self.taken else str(self.body["message"])


@dataclass(frozen=True)
class Requests:
    """One user's requests, over a connection that is kept open; without a user those of the administrator."""

    connection: http.client.HTTPSConnection
    user: str | None = None
    group: str | None = None

    def named(self, user: str, group: str | None = None) -> "Requests":
        """Speak for another user, as `kubectl --as` does; without `group`, a ServiceAccount has its own."""
        return Requests(self.connection, user, group)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        media_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """Make a request, whatever it is answered."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": media_type, "Accept": accept}
        impersonated = {"Impersonate-User": self.user, "Impersonate-Group": self.group}
        headers |= {name: value for name, value in impersonated.items() if value}
        used = self.connection.sock is not None
        try:
            return self._asked(method, path, content, headers)
        except ConnectionError:
            if not used:
                raise
            # The API server closes a connection on which nothing came for 90 s, perhaps just now.
            self.connection.close()
            return self._asked(method, path, content, headers)

    def _asked(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        self.connection.request(method, f"/{path}", content, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        return Answer(answer.status, json.loads(text) if text.startswith(b"{") else {"message": text.decode()})

    def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Answer:
        """Create an object as `kubectl create` does, unknown fields being refused."""
        return self.ask("POST", _path(document, named=False) + _query(dry_run=dry_run), document)

    def replace(self, document: Mapping[str, Any], *, subresource: str = "", dry_run: bool = False) -> Answer:
        """Replace an object, or a subresource of it."""
        return self.ask("PUT", _path(document, subresource) + _query(dry_run=dry_run), document)

    def patch(self, document: Mapping[str, Any], change: Mapping[str, Any], *, subresource: str = "") -> Answer:
        """Change an object by a merge patch, as `kubectl patch --type merge` does."""
        return self.ask("PATCH", _path(document, subresource) + _query(), change, media_type=MERGE)

    def apply(
        self, document: Mapping[str, Any], *, manager: str = "kubectl", subresource: str = "", dry_run: bool = False
    ) -> Answer:
        """Apply an object server-side, over others' fields too."""
        path = _path(document, subresource) + _query(dry_run=dry_run, fieldManager=manager, force="true")
        return self.ask("PATCH", path, document, media_type=APPLY)

    def read(self, document: Mapping[str, Any]) -> Answer:
        """Read an object as it is stored."""
        return self.ask("GET", _path(document))

    def delete(self, document: Mapping[str, Any]) -> Answer:
        """Delete an object."""
        return self.ask("DELETE", _path(document))

    def delete_all(self, document: Mapping[str, Any]) -> Answer:
        """Delete all objects of this one's kind and namespace by one request."""
        return self.ask("DELETE", _path(document, named=False))

    def list(self, document: Mapping[str, Any], *, selector: str = "", accept: str = "application/json") -> Answer:
        """List the objects of this one's kind and namespace."""
        query = "?" + urlencode({"fieldSelector": selector})
        return self.ask("GET", _path(document, named=False) + query, accept=accept)


@contextmanager
def administrator(plane: ControlPlane) -> Iterator[Requests]:
    """Connect as the cluster's administrator, who may speak for anybody."""
    tls = ssl.create_default_context(cafile=plane.pki.ca_file)
    tls.load_cert_chain(plane.admin.certificate, plane.admin.key)
    with closing(http.client.HTTPSConnection("127.0.0.1", plane.port, context=tls, timeout=_TIMEOUT)) as connection:
        yield Requests(connection)


def _path(document: Mapping[str, Any], subresource: str = "", *, named: bool = True) -> str:
    metadata = document["metadata"]
    namespace = f"namespaces/{metadata['namespace']}/" if "namespace" in metadata else ""
    path = _RESOURCES[document["kind"]].format(namespace)
    return path + (f"/{metadata['name']}" if named else "") + (f"/{subresource}" if subresource else "")


def _query(*, dry_run: bool = False, **parameters: str) -> str:
    dry = {"dryRun": "All"} if dry_run else {}
    return "?" + urlencode({"fieldValidation": "Strict", **parameters, **dry})


def until(condition: Callable[[], bool], what: str, *, within: float = _PATIENCE) -> None:
    """Wait for what the API server will come to see; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(_INTERVAL)


def may(admin: Requests, user: str, rights: Mapping[str, str], groups: Sequence[str] = ()) -> bool:
    """Ask a SubjectAccessReview; `rights` are its resourceAttributes."""
    spec = {"user": user, "groups": ["system:authenticated", *groups], "resourceAttributes": dict(rights)}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = admin.ask("POST", "apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    assert answer.taken, answer.message
    return bool(answer.body["status"]["allowed"])


def grant(admin: Requests, role: str, user: str, namespace: str) -> None:
    """Bind a ClusterRole to a user in a namespace, and wait until that is in force."""
    _bind(admin, role, namespace, [{"apiGroup": RBAC, "kind": "User", "name": user}])
    until(lambda: may(admin, user, _first_right(admin, role, namespace)), f"{user} is {role} in {namespace}")


def revoke(admin: Requests, role: str, user: str, namespace: str) -> None:
    """Take a ClusterRole from a user in a namespace, and wait until that is in force."""
    _bind(admin, role, namespace, [])
    until(lambda: not may(admin, user, _first_right(admin, role, namespace)), f"{user} is no {role} in {namespace}")


def _bind(admin: Requests, role: str, namespace: str, subjects: Sequence[Mapping[str, str]]) -> None:
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"test-{role}", "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": list(subjects),
    }
    answer = admin.apply(binding)
    assert answer.taken, answer.message


def _first_right(admin: Requests, role: str, namespace: str) -> dict[str, str]:
    rule = admin.read({"kind": "ClusterRole", "metadata": {"name": role}}).body["rules"][0]
    named = {"name": rule["resourceNames"][0]} if "resourceNames" in rule else {}
    return {
        "namespace": namespace,
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "verb": rule["verbs"][0],
        **named,
    }
