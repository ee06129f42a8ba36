"""The part of an API server that is asked about callers: TokenReview, SubjectAccessReview, its keys; it can fail."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import yaml
from aiohttp import web

from byok_sandbox.issuer import Issuer, ServiceAccount
from tests.testenv.ports import free_ports

TOKEN_REVIEW, ACCESS_REVIEW = "TokenReview", "SubjectAccessReview"
_SIGNERS_TOKEN = "signers-own-token"
_GROUP = "byok.dev"


@dataclass
class ReviewingCluster:
    """Knows accounts and what they may do. Start it with `reviewing_cluster`."""

    issuer: Issuer = field(default_factory=Issuer)
    uids: dict[str, str] = field(default_factory=dict)
    """Of the ServiceAccounts that are there, by user name."""
    granted: set[tuple[str, str, str, str]] = field(default_factory=set)
    """User, verb, resource, and `namespace/name`, or empty for all."""
    asked: Counter[str] = field(default_factory=Counter)
    specs: list[dict[str, Any]] = field(default_factory=list)
    """Of the access reviews."""
    open: int = 0
    most_open: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, reviews are not answered."""
    audiences: list[str] | None = None
    """What token reviews say that a token is for, if that is not what they were asked."""
    status: int = 200
    """Of every answer."""
    ready: int = 200
    """Status of /readyz."""
    ready_gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, /readyz is not answered."""
    user: dict[str, Any] = field(default_factory=dict)
    """What token reviews say of a user in place of the truth."""
    discovery: str | None = None
    """What is said of the issuer in place of the truth."""
    without_status: bool = False
    """Reviews come back as they were sent."""
    port: int = 0
    _runner: web.AppRunner | None = None

    def grant(self, account: ServiceAccount, name: str = "", *, verb: str = "sign") -> None:
        """Let an account do something: with all recipes or keys, or with one."""
        plural = "signingrecipes" if verb == "sign" else "byokkeys"
        self.granted.add((account.username, verb, plural, name))

    def add(self, account: ServiceAccount) -> ServiceAccount:
        """Create a ServiceAccount."""
        self.uids[account.username] = account.uid
        return account

    def kubeconfig(self, folder: Path) -> str:
        """Write a kubeconfig for this server and give its path."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "c", "user": {"token": _SIGNERS_TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }
        path = folder / "reviewing.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self.port = self.port or free_ports(1)[0]
        application = web.Application()
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/openid/v1/jwks", self._jwks)
        application.router.add_get("/.well-known/openid-configuration", self._discovery)
        application.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review_token)
        application.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._review_access)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _readyz(self, _: web.Request) -> web.Response:
        self.asked["readyz"] += 1
        await self.ready_gate.wait()
        return web.Response(status=self.ready, text="ok")

    async def _jwks(self, _: web.Request) -> web.Response:
        self.asked["jwks"] += 1
        return web.Response(body=self.issuer.jwks(), status=self.status)

    async def _discovery(self, _: web.Request) -> web.Response:
        text = json.dumps({"issuer": self.issuer.name}) if self.discovery is None else self.discovery
        return web.Response(text=text, status=self.status)

    async def _review_token(self, request: web.Request) -> web.Response:
        spec = await self._spec_of(request, TOKEN_REVIEW)
        claims = jwt.decode(spec["token"], options={"verify_signature": False})
        bound, username = claims["kubernetes.io"], claims["sub"]
        uid, pod = bound["serviceaccount"]["uid"], bound.get("pod", {})
        if self.uids.get(username) != uid:
            return self._answer({"authenticated": False, "error": "[invalid bearer token]"})
        namespace = bound["namespace"]
        user = {
            "username": username,
            "uid": uid,
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/pod-name": [pod.get("name", "")]},
        }
        audiences = spec["audiences"] if self.audiences is None else self.audiences
        return self._answer({"authenticated": True, "user": {**user, **self.user}, "audiences": audiences})

    async def _review_access(self, request: web.Request) -> web.Response:
        spec = await self._spec_of(request, ACCESS_REVIEW)
        if "nonResourceAttributes" in spec:
            return self._answer({"allowed": True})
        self.specs.append(spec)
        asked = spec["resourceAttributes"]
        assert asked["group"] == _GROUP
        name = f"{asked['namespace']}/{asked['name']}" if asked["name"] else ""
        rights = ((spec["user"], asked["verb"], asked["resource"], which) for which in (name, ""))
        return self._answer({"allowed": any(right in self.granted for right in rights)})

    async def _spec_of(self, request: web.Request, kind: str) -> dict[str, Any]:
        assert request.headers["Authorization"] == f"Bearer {_SIGNERS_TOKEN}"
        self.asked[kind] += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.gate.wait()
        finally:
            self.open -= 1
        body = await request.json()
        assert body["kind"] == kind
        spec: dict[str, Any] = body["spec"]
        return spec

    def _answer(self, status: dict[str, Any]) -> web.Response:
        audit_id = f"audit-{self.asked.total()}"
        text = json.dumps({} if self.without_status else {"status": status, "code": self.status})
        return web.Response(
            text=text, status=self.status, content_type="application/json", headers={"Audit-Id": audit_id}
        )


@asynccontextmanager
async def reviewing_cluster() -> AsyncIterator[ReviewingCluster]:
    """Run one."""
    cluster = ReviewingCluster()
    cluster.gate.set()
    cluster.ready_gate.set()
    await cluster.start()
    try:
        yield cluster
    finally:
        cluster.gate.set()
        cluster.ready_gate.set()
        await cluster.stop()
