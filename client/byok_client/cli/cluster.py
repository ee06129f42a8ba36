"""The cluster, as `byokctl` reads and edits it: with the rights of the user's kubeconfig, or of the pod it runs in."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_client.cli.refusals import RemediedRefusal
from byok_service.kubernetes import (
    NOT_FOUND,
    ApiError,
    ApiUnavailable,
    JsonObject,
    KubernetesApi,
    Resource,
    SourceError,
)

_T = TypeVar("_T")
_FIELD_MANAGER = "byokctl"
_SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
_PAGE = 100
_NO_SUCH_OBJECT = "NotFound"
"""Reason of a 404 about an object; one about a kind that the API server does not have carries no Status at all."""


class Cluster:
    """One API server."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def get(self, resource: Resource, name: ObjectName) -> JsonObject:
        """Read an object; Refusal ObjectNotFound, ClusterRefused if the API server does not have its kind."""
        try:
            return await self._api.get(resource, name.namespace, name.name)
        except ApiError as error:
            if error.status == NOT_FOUND and error.reason != _NO_SUCH_OBJECT:
                raise _unknown(resource) from None
            if error.status == NOT_FOUND:
                raise Refusal(Reason.ObjectNotFound, f"{resource} {name}: there is no such object") from None
            raise

    async def list(self, resource: Resource, namespace: str | None) -> list[JsonObject]:
        """Read the objects of a namespace, or of all; Refusal ClusterRefused if the API server has no such kind."""
        found: list[JsonObject] = []
        query: dict[str, str] = {"limit": str(_PAGE)}
        while True:
            try:
                page = json.loads(await self._api.get_raw(f"{resource.path(namespace or '')}?{urlencode(query)}"))
            except ApiError as error:
                if error.status == NOT_FOUND:
                    raise _unknown(resource) from None
                raise
            found += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return found
            query["continue"] = following

    async def change(self, resource: Resource, name: ObjectName, kind: str, spec: Mapping[str, Any]) -> JsonObject:
        """Set fields of an object that is there, and take them over from whoever wrote them; Refusal ObjectNotFound."""
        await self.get(resource, name)
        body = {
            "apiVersion": resource.api_version,
            "kind": kind,
            "metadata": {"namespace": name.namespace, "name": name.name},
            "spec": spec,
        }
        return await self._api.apply(resource, body, field_manager=_FIELD_MANAGER)

    async def token(self, account: ObjectName, *, audience: str, seconds: int) -> str:
        """Have a token made for a ServiceAccount; Refusal ObjectNotFound."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds},
        }
        try:
            answer = await self._api.create(
                _SERVICE_ACCOUNTS, body, namespace=account.namespace, name=account.name, subresource="token"
            )
        except ApiError as error:
            if error.status == NOT_FOUND:
                raise Refusal(Reason.ObjectNotFound, f"ServiceAccount {account}: there is no such account") from None
            raise
        return str(answer.body.get("status", {}).get("token", ""))

    async def review(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> JsonObject:
        """Have a review of a namespace decided."""
        return (await self._api.create(resource, body, namespace=namespace)).body


def in_cluster(work: Callable[[Cluster], Awaitable[_T]]) -> _T:
    """Do something with the cluster; Refusal ConfigurationInvalid, ClusterUnavailable, ClusterRefused."""
    return asyncio.run(_with_cluster(work))


async def _with_cluster(work: Callable[[Cluster], Awaitable[_T]]) -> _T:
    source = _source()
    try:
        api = await KubernetesApi.connect(source)
    except SourceError as error:
        raise Refusal(Reason.ConfigurationInvalid, f"{error}; set KUBECONFIG") from None
    try:
        return await work(Cluster(api))
    except ApiError as error:
        raise Refusal(Reason.ClusterRefused, error.message) from None
    except ApiUnavailable as error:
        raise Refusal(Reason.ClusterUnavailable, f"{error} (by {source})") from None
    finally:
        await api.close()


def _unknown(resource: Resource) -> Refusal:
    return RemediedRefusal(
        Reason.ClusterRefused,
        f"the API server knows no {resource}",
        "Have the platform team apply crds/ (kubectl apply --server-side -f crds/), or name another cluster by "
        "KUBECONFIG.",
    )


def _source() -> str:
    """Find the cluster as kubectl does: KUBECONFIG, then ~/.kube/config, then the pod's own."""
    named, usual = os.environ.get("KUBECONFIG"), Path.home() / ".kube" / "config"
    if named:
        # A list is for kubectl to merge; the first file that is there is what its user mostly means.
        paths = [path for path in named.split(os.pathsep) if path]
        return next((path for path in paths if Path(path).is_file()), named)
    if usual.is_file() or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return str(usual)
    return "in-cluster"
