"""A keeper of consumers at a fake API server, and the namespaces that there are."""

from typing import Any

from aiohttp import web

from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.consumers import Consumer, owner_reference, role_binding
from byok_operator.metrics import Metrics
from byok_service.kubernetes import KubernetesApi
from tests.support.fake_api_server import Body, FakeApiServer, Target
from tests.support.observed import NOW

CONFIG_MAPS, BINDINGS = "/configmaps", "rbac.authorization.k8s.io/rolebindings"
OWNERS = "rbac.authorization.k8s.io/clusterroles"
LISTED = (Consumer("media", ("job",)), Consumer("news", ("job", "other")))
OURS = {"app.kubernetes.io/managed-by": "byok-operator"}
APPLIED = [{"manager": "byok-operator", "operation": "Apply"}]
HOUR = 3600.0


class Server(FakeApiServer):
    """With webhooks that nobody answers, in some namespaces, and with finalizers."""

    def __init__(self) -> None:
        super().__init__()
        self.spoiled: set[str] = set()
        self.refuses_changes = False

    async def _answer(self, request: web.Request, target: Target) -> web.Response:
        if request.method != "GET" and target.namespace in self.spoiled:
            message = 'failed calling webhook "quota.example.com": connect: connection refused'
            return web.json_response({"reason": "InternalError", "message": message}, status=500)
        if request.method == "PATCH" and target.namespace == "default" and self.refuses_changes:
            return web.json_response({"reason": "Forbidden", "message": "no consumer"}, status=403)
        stored = self.objects[target.collection].get(target.identity, {})
        if request.method == "DELETE" and stored.get("metadata", {}).get("finalizers"):
            stored["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return web.json_response(stored)
        return await super()._answer(request, target)


class Keeping:
    """A keeper, and the namespaces that there are."""

    def __init__(self, api: KubernetesApi, server: Server) -> None:
        self.api = api
        self.seconds = 0.0
        self.server = server
        self.present = {"media", "default"}
        self.metrics = Metrics(lambda: NOW)
        self.restart(*LISTED)

    def restart(self, *listed: Consumer) -> None:
        self.keeper = ConsumerKeeper(
            self.api, listed, address="signer.svc:8443", namespaces=lambda: self.present, metrics=self.metrics
        )

    async def look(self, bundle: bytes | None = b"CA\n") -> tuple[str, ...]:
        await self.keeper.refresh(bundle, seconds=self.seconds)
        return self.keeper.problems

    def served(self) -> dict[str, list[str]]:
        """Namespaces in which somebody may sign, and who."""
        return {
            namespace: [subject["name"] for subject in body["subjects"]]
            for (namespace, _), body in self.server.objects[BINDINGS].items()
        }

    def was_served(self, namespace: str, **metadata: Any) -> None:  # noqa: ANN401 - of a RoleBinding
        """Leave what an earlier leader gave, and somebody has changed since."""
        body = role_binding(Consumer(namespace, ("job",)), owner_reference("uid-1"))
        body["metadata"] |= {"managedFields": APPLIED, **metadata}
        self.server.put(BINDINGS, body)
        self.present.add(namespace)

    def cannot_clear(self, *namespaces: str) -> None:
        """Leave what an earlier leader gave where nothing can be taken away."""
        for namespace in namespaces:
            self.was_served(namespace)
        self.server.spoiled = set(namespaces)

    def told(self, namespace: str) -> Body:
        return dict(self.server.objects[CONFIG_MAPS][namespace, "byok-signer"]["data"])

    def count(self, state: str) -> float | None:
        return self.metrics.registry.get_sample_value("byok_operator_consumer_namespaces", {"state": state})
