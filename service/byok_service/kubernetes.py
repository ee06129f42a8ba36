"""The Kubernetes API as both services use it: raw JSON objects over the official client's HTTP layer.

Every request ends within a time limit, every answer has a size limit, and all that can go wrong is an ApiError (the
API server's own no) or ApiUnavailable (waiting may help).
"""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp

from byok_service.kubernetes_errors import (
    CONFLICT,
    EXPIRED,
    NOT_FOUND,
    ApiError,
    ApiUnavailable,
    KubernetesError,
    SourceError,
    error_of,
)
from byok_service.kubernetes_resources import (
    BYOK_KEYS,
    EVENTS,
    LEASES,
    NAMESPACES,
    OPENED,
    SIGNING_RECIPES,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    Answer,
    JsonObject,
    Listing,
    Request,
    Resource,
    WatchEvent,
)

if TYPE_CHECKING:
    from byok_service.kubernetes_connection import Connection

__all__ = [
    "BYOK_KEYS",
    "CONFLICT",
    "EVENTS",
    "EXPIRED",
    "LEASES",
    "NAMESPACES",
    "NOT_FOUND",
    "OPENED",
    "SIGNING_RECIPES",
    "SUBJECT_ACCESS_REVIEWS",
    "TOKEN_REVIEWS",
    "Answer",
    "ApiError",
    "ApiUnavailable",
    "JsonObject",
    "KubernetesApi",
    "KubernetesError",
    "Listing",
    "Resource",
    "SourceError",
    "WatchEvent",
]

PAGE_SIZE = 250
"""Objects asked for at a time, so few that reading a page keeps the event loop for 30 ms at most (500 keys: 55 ms).

Fewer still where they are so large that a page would be over its limit.
"""
SILENCE_SECONDS = 70.0
"""A watch that says nothing for so long is taken for dead: bookmarks come every minute (Kubernetes, API concepts)."""

_WATCH_SECONDS = 300
"""After so long the API server ends a watch in good order, as it is asked to."""
_CONNECT_SECONDS = 5.0
_BRIEF = aiohttp.ClientTimeout(total=10.0, sock_connect=_CONNECT_SECONDS)
_PAGE = aiohttp.ClientTimeout(total=30.0, sock_connect=_CONNECT_SECONDS)
_ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an object: the API server takes 3 MiB, etcd 1.5 MiB."""
_PAGE_LIMIT = 4 * 1024 * 1024
"""Parsing holds up whoever else wants to run, in a thread too: 10 ms for each MiB."""
_CHUNK = 64 * 1024
_APPLY = "application/apply-patch+yaml"


class _TooLargeError(ApiUnavailable):
    pass


class KubernetesApi:
    """One API server; make it with `connect`, close it with `close`. Must be used from one event loop."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, source: str, environ: Mapping[str, str] = os.environ) -> "KubernetesApi":
        """Take a pod's own credentials (`in-cluster`) or a kubeconfig's (a path); SourceError if there are none.

        Nothing is asked of the API server yet. Tokens are read again from their files or plugins as they change.
        `environ` may say by HTTPS_PROXY and NO_PROXY how the API server of a kubeconfig is reached.
        """
        from byok_service.kubernetes_connection import Connection  # noqa: PLC0415 - loads the official client: see there

        return cls(await Connection.open(source, environ))

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def get_raw(self, path: str) -> bytes:
        """Read a path such as `/openid/v1/jwks`: at most 4 MiB."""
        body, _ = await self._read("GET", path)
        return body

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        """Read an object; ApiError 404 if there is none."""
        return await self._object("GET", resource.path(namespace, name))

    async def list(self, resource: Resource) -> Listing:
        """Read all objects of all namespaces, as they are at one resourceVersion; ApiError 410: begin again."""
        items: list[JsonObject] = []
        version = ""
        async for page in self.pages(resource):
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def pages(self, resource: Resource) -> AsyncGenerator[Listing, None]:
        """Read all objects of all namespaces, page by page, all at the resourceVersion that each page names.

        Objects carry no `kind` and no `apiVersion` in the API server's lists; here they do. `managedFields`, which
        nobody here reads, are left out. ApiError 410: it took so long that one has to begin again.
        """
        size, continuation = PAGE_SIZE, ""
        while True:
            query = urlencode({"limit": size} | ({"continue": continuation} if continuation else {}))
            try:
                body, _ = await self._read("GET", f"{resource.path()}?{query}", limit=_PAGE_LIMIT, within=_PAGE)
            except _TooLargeError as error:
                if size == 1:
                    raise ApiUnavailable(str(error)) from None
                size = max(1, size // 8)
                continue
            page = _object_in(body)
            metadata, kind = page.get("metadata", {}), str(page.get("kind", "")).removesuffix("List")
            items = [_with_kind(item, kind, resource) for item in page.get("items") or ()]
            yield Listing(items, str(metadata.get("resourceVersion", "")))
            continuation = metadata.get("continue", "")
            if not continuation:
                return

    async def watch(self, resource: Resource, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        """Follow what changes after a resourceVersion, bookmarks included, until the API server ends it.

        The first event is OPENED: the API server took the request. Close the iterator (`contextlib.aclosing`).
        ApiError 410: that version is no longer known, list again. ApiUnavailable: broken off, or 70 s of silence.
        """
        query = urlencode(
            {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": resource_version,
                "timeoutSeconds": _WATCH_SECONDS,
            }
        )
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        async with self._connection.send(Request("GET", f"{resource.path()}?{query}"), limits) as response:
            yield WatchEvent(OPENED, {})
            async for line in _lines(response.content):
                yield _event_in(line)

    async def create(
        self, resource: Resource, body: Mapping[str, Any], *, namespace: str = "", name: str = "", subresource: str = ""
    ) -> Answer:
        """Create an object, or have a review decided; ApiError 409 if one of that name is there.

        `name` and `subresource` say for which object something is created, such as a ServiceAccount's token.
        """
        path = resource.path(namespace, name, subresource=subresource)
        found, audit_id = await self._read("POST", path, body=body)
        return Answer(_object_in(found), audit_id)

    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        """Replace an object as a whole; ApiError 409 if it is no longer the resourceVersion that `body` names."""
        return await self._object("PUT", _path_of(resource, body), body=body)

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object; ApiError 404 if there is none."""
        await self._read("DELETE", resource.path(namespace, name))

    async def apply(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = True,
        subresource: str = "",
    ) -> JsonObject:
        """Apply an object server-side; with `metadata.resourceVersion`, ApiError 409 if the object has another one.

        `body` must name apiVersion and kind. Kubernetes, Server-Side Apply.
        """
        query = urlencode({"fieldManager": field_manager, "force": "true" if force else "false"})
        path = f"{_path_of(resource, body, subresource=subresource)}?{query}"
        return await self._object("PATCH", path, body=body, content_type=_APPLY)

    async def _object(self, method: str, path: str, **request: Any) -> JsonObject:  # noqa: ANN401 - as _read takes them
        body, _ = await self._read(method, path, **request)
        return _object_in(body)

    async def _read(
        self,
        method: str,
        path: str,
        *,
        limit: int = _ANSWER_LIMIT,
        within: aiohttp.ClientTimeout = _BRIEF,
        **request: Any,  # noqa: ANN401 - body and content_type of a Request
    ) -> tuple[bytes, str]:
        async with self._connection.send(Request(method, path, **request), within) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > limit:
                    raise _TooLargeError(f"the API server's answer to {method} {path} has over {limit} bytes")
            return bytes(body), response.headers.get("Audit-Id", "")


def _path_of(resource: Resource, body: Mapping[str, Any], *, subresource: str = "") -> str:
    metadata = body["metadata"]
    return resource.path(metadata.get("namespace", ""), metadata["name"], subresource=subresource)


def _object_in(data: bytes) -> JsonObject:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiUnavailable("the API server's answer is no JSON object")
    return found


def _with_kind(item: JsonObject, kind: str, resource: Resource) -> JsonObject:
    _slim(item)
    return {"apiVersion": resource.api_version, "kind": kind, **item}


def _slim(item: JsonObject) -> None:
    metadata = item.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)


def _event_in(line: bytes) -> WatchEvent:
    event = _object_in(line)
    kind, found = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(found, dict):
        raise ApiUnavailable("the API server's watch sent something that is no event")
    if kind == "ERROR":
        code = found.get("code")
        raise error_of(code if isinstance(code, int) else 0, found)
    _slim(found)
    return WatchEvent(kind, found)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    buffer = bytearray()
    searched = 0
    async for chunk in content.iter_any():
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            if line:
                yield line
        searched = len(buffer)
        if searched > _ANSWER_LIMIT:
            raise ApiUnavailable(f"the API server's watch sent an event of over {_ANSWER_LIMIT} bytes")
