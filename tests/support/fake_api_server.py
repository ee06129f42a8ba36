"""An API server in this process: lists in pages, watches, resourceVersions, 410, conflicts; and it can fail on demand.

No schema, no admission, no RBAC: those need the real one (tests/cluster). Server-side apply is a deep merge.
"""

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import yaml
from aiohttp import web

from tests.testenv.ports import free_ports

Body = dict[str, Any]
TOKEN = "fake-service-account-token"
_KINDS = {
    "byokkeys": "ByokKey",
    "signingrecipes": "SigningRecipe",
    "namespaces": "Namespace",
    "leases": "Lease",
    "events": "Event",
    "customresourcedefinitions": "CustomResourceDefinition",
}


@dataclass(frozen=True)
class Target:
    """What a path names: `collection` is group and plural."""

    collection: str
    namespace: str
    name: str
    subresource: str

    @property
    def identity(self) -> tuple[str, str]:
        return self.namespace, self.name


def target_of(path: str) -> Target:
    parts = [unquote(part) for part in path.strip("/").split("/")]
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return Target(f"{group}/{plural}", namespace, name, subresource)


class FakeApiServer:
    """Start it with `async with`; `put` and `remove` change objects as some other client would."""

    def __init__(self) -> None:
        self.revision = 100
        self.compacted = 0
        self.objects: dict[str, dict[tuple[str, str], Body]] = defaultdict(dict)
        self.history: list[tuple[int, str, str, Body]] = []
        self.tokens = {TOKEN}
        self.requests: list[tuple[str, str]] = []
        """Method, and path with query, of every request."""
        self.answers: list[web.Response] = []
        """Given to the next requests instead of what they ask for."""
        self.reviews: Callable[[str, Body], Body] = lambda _collection, body: body
        self.bookmark_seconds = 60.0
        self.silent = False
        """Watches say nothing more, and do not end."""
        self.hangs = False
        """Requests are not answered."""
        self.watching = 0
        self._changed = asyncio.Event()
        self._connections: set[asyncio.Transport] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self.port = self.port or free_ports(1)[0]
        application = web.Application(client_max_size=4 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()

    async def stop(self) -> None:
        """Refuse connections, and break those that are there."""
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def kubeconfig(self, folder: Path, **user: Any) -> str:  # noqa: ANN401 - any part of a kubeconfig's user
        """Write a kubeconfig for this server and give its path."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "fake", "user": user or {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def put(self, collection: str, body: Body) -> Body:
        """Create or replace an object; its generation grows with its spec."""
        metadata = body["metadata"]
        identity = metadata.get("namespace", ""), metadata["name"]
        before = self.objects[collection].get(identity)
        stored = deepcopy(body)
        self.revision += 1
        own = stored["metadata"]
        own["resourceVersion"] = str(self.revision)
        own["uid"] = before["metadata"]["uid"] if before else f"uid-{self.revision}"
        own["creationTimestamp"] = before["metadata"]["creationTimestamp"] if before else "2026-01-01T00:00:00Z"
        if before is None:
            own["generation"] = 1
        else:
            own["generation"] = before["metadata"]["generation"] + (before.get("spec") != stored.get("spec"))
        self.objects[collection][identity] = stored
        self._record(collection, "ADDED" if before is None else "MODIFIED", stored)
        return stored

    def remove(self, collection: str, namespace: str, name: str) -> None:
        """Delete an object."""
        gone = deepcopy(self.objects[collection].pop((namespace, name)))
        self.revision += 1
        gone["metadata"]["resourceVersion"] = str(self.revision)
        self._record(collection, "DELETED", gone)

    def compact(self) -> None:
        """Forget everything but what is: watches of older resourceVersions get 410."""
        self.revision += 1
        self.compacted = self.revision

    def cut(self) -> None:
        """Break all connections that wait for something."""
        for transport in self._connections:
            transport.abort()
        self._wake()

    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] != "GET"]

    def _record(self, collection: str, kind: str, body: Body) -> None:
        self.history.append((self.revision, collection, kind, deepcopy(body)))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        transport = request.transport
        assert transport is not None
        self._connections.add(transport)
        try:
            if self.hangs:
                await asyncio.sleep(3600)
            if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
                return _status(401, "Unauthorized", "Unauthorized")
            if self.answers:
                return self.answers.pop(0)
            if request.path.startswith("/openid"):
                return web.json_response({"keys": []}, content_type="application/jwk-set+json")
            target = target_of(request.path)
            if request.query.get("watch"):
                return await self._watch(request, target)
            return await self._answer(request, target)
        finally:
            self._connections.discard(transport)

    async def _answer(self, request: web.Request, target: Target) -> web.Response:
        stored = self.objects[target.collection].get(target.identity)
        if request.method == "POST":
            return self._create(target, await request.json())
        if not target.name:
            return self._list(request, target)
        if stored is None and request.method != "PATCH":
            return _status(404, "NotFound", f'{target.collection} "{target.name}" not found')
        if request.method == "DELETE":
            self.remove(target.collection, *target.identity)
            return web.json_response({"kind": "Status", "status": "Success"})
        if request.method == "GET":
            return web.json_response(stored)
        return self._write(request.method, target, stored, await request.json())

    def _create(self, target: Target, body: Body) -> web.Response:
        audit = {"Audit-Id": f"audit-{len(self.requests)}"}
        if target.collection.endswith("reviews"):
            return web.json_response(self.reviews(target.collection, body), status=201, headers=audit)
        if target.namespace:
            body["metadata"].setdefault("namespace", target.namespace)
        if (target.namespace, body["metadata"]["name"]) in self.objects[target.collection]:
            return _status(409, "AlreadyExists", f"{target.collection} already exists")
        return web.json_response(self.put(target.collection, body), status=201, headers=audit)

    def _write(self, method: str, target: Target, stored: Body | None, body: Body) -> web.Response:
        wanted = body["metadata"].get("resourceVersion")
        if wanted is not None and (stored is None or wanted != stored["metadata"]["resourceVersion"]):
            return _status(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        new = body if method == "PUT" else _merged(stored or {}, body)
        if target.subresource and stored is not None:
            new = {**stored, target.subresource: new.get(target.subresource)}
        before = {**(stored or {}), "metadata": {**(stored or {}).get("metadata", {})}}
        comparable = {**new, "metadata": {**before["metadata"], **new["metadata"]}}
        if stored is not None and comparable == before:
            return web.json_response(stored)
        return web.json_response(self.put(target.collection, new))

    def _list(self, request: web.Request, target: Target) -> web.Response:
        start, revision = 0, self.revision
        if token := request.query.get("continue"):
            revision, start = json.loads(base64.b64decode(token))
            if revision < self.compacted:
                return _status(410, "Expired", "The provided continue parameter is too old")
        items = [body for _, body in sorted(self._at(target.collection, revision).items())]
        limit = int(request.query.get("limit", len(items) + 1))
        metadata: Body = {"resourceVersion": str(revision)}
        if start + limit < len(items):
            metadata["continue"] = base64.b64encode(json.dumps([revision, start + limit]).encode()).decode()
        kind = _KINDS.get(target.collection.partition("/")[2], "Object") + "List"
        return web.json_response({"kind": kind, "metadata": metadata, "items": items[start : start + limit]})

    def _at(self, collection: str, revision: int) -> dict[tuple[str, str], Body]:
        """The collection as it was at a revision: what is, with later events undone."""
        found: dict[tuple[str, str], Body] = {}
        if revision >= self.revision:
            return dict(self.objects[collection])
        for at, where, kind, body in self.history:
            if where == collection and at <= revision:
                identity = body["metadata"].get("namespace", ""), body["metadata"]["name"]
                if kind == "DELETED":
                    found.pop(identity, None)
                else:
                    found[identity] = body
        return found

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        seen = int(request.query["resourceVersion"])
        if seen < self.compacted:
            expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(_line("ERROR", expired))
            return response
        self.watching += 1
        try:
            assert request.transport is not None
            await self._send_events(response, target.collection, seen, request.transport)
        except ConnectionResetError:
            pass
        finally:
            self.watching -= 1
        return response

    async def _send_events(
        self, response: web.StreamResponse, collection: str, seen: int, transport: asyncio.Transport
    ) -> None:
        while not transport.is_closing():
            changed = self._changed
            for revision, where, kind, body in self.history if not self.silent else ():
                if where == collection and revision > seen:
                    seen = revision
                    await response.write(_line(kind, body))
            try:
                async with asyncio.timeout(self.bookmark_seconds):
                    await changed.wait()
            except TimeoutError:
                if not self.silent:
                    seen = max(seen, self.revision)
                    bookmark = {
                        "kind": _KINDS.get(collection.partition("/")[2]),
                        "metadata": {"resourceVersion": str(seen)},
                    }
                    await response.write(_line("BOOKMARK", bookmark))


def _line(kind: str, body: Body) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)


def _merged(stored: Body, applied: Body) -> Body:
    result = deepcopy(stored)
    for key, value in applied.items():
        before = result.get(key)
        result[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result
