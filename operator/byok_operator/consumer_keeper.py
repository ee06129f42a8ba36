"""Keeps in each consumer's namespace what its jobs need, and takes it from namespaces that are consumers no more."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from byok_operator.applied import FIELD_MANAGER, covers
from byok_operator.consumers import (
    KINDS,
    NAME,
    OWNER,
    Consumer,
    config_map,
    is_ours,
    owner_reference,
    role_binding,
)
from byok_operator.metrics import Metrics
from byok_service.kubernetes import NOT_FOUND, ApiError, ApiUnavailable, JsonObject, KubernetesApi, Resource
from byok_service.kubernetes_resources import CLUSTER_ROLES, CONFIG_MAPS, ROLE_BINDINGS

_LOG = logging.getLogger(__name__)
_TERMINATING = "because it is being terminated"
"""What the API server says where a namespace takes no new objects; that it is about to go is nobody's fault."""


class ConsumerKeeper:
    """For the leader only, which has it `refresh`ed now and then; `namespaces` gives those that there are."""

    def __init__(
        self,
        api: KubernetesApi,
        consumers: Sequence[Consumer],
        *,
        address: str,
        namespaces: Callable[[], Collection[str]],
        metrics: Metrics,
    ) -> None:
        self.known: bytes | None = None
        """The bundle that all consumers have that there are, as of the last look; None if they differ."""
        self.problems: tuple[str, ...] = ()
        """What went wrong at the last look."""
        self._api = api
        self._consumers = {consumer.namespace: consumer for consumer in consumers}
        self._address = address
        self._namespaces = namespaces
        self._metrics = metrics
        self._served: set[str] = set()
        self._cleared: set[str] = set()

    @property
    def listed(self) -> Collection[str]:
        """The namespaces that are consumers, whether they are there or not."""
        return self._consumers.keys()

    @property
    def has_news(self) -> bool:
        """Whether a consumer's namespace has appeared that nobody has looked at."""
        return any(namespace in self._consumers for namespace in self._present() - self._served)

    async def refresh(self, bundle: bytes | None) -> None:
        """Look once, and restore what differs; without `bundle`, CA certificates in PEM, no ConfigMap is written."""
        problems: list[str] = []
        try:
            await self._keep(bundle, problems)
        except ApiUnavailable as error:
            problems.append(f"consumers could not be looked after: {error}; it is tried again")
        self.problems = tuple(problems)
        self.known = None if problems else bundle

    async def _keep(self, bundle: bytes | None, problems: list[str]) -> None:
        present, states = self._present(), Counter(served=0, absent=0, failed=0)
        self._cleared &= present
        self._served &= present
        owner = await self._owner(problems)
        for namespace, consumer in self._consumers.items():
            if namespace not in present:
                states["absent"] += 1
                continue
            before = len(problems)
            if owner is not None:
                await self._serve(consumer, owner, bundle, problems)
            self._served.add(namespace)
            states["served" if len(problems) == before and owner and bundle else "failed"] += 1
        self._metrics.consumers(states)
        # Each once for every leader: whatever is there an earlier one has put there, for an earlier list.
        for namespace in sorted(present - self._consumers.keys() - self._cleared):
            await self._clear(namespace, problems)

    async def _serve(self, consumer: Consumer, owner: JsonObject, bundle: bytes | None, problems: list[str]) -> None:
        namespace = consumer.namespace
        wanted: list[tuple[Resource, JsonObject]] = [(ROLE_BINDINGS, role_binding(consumer, owner))]
        if bundle is not None:
            wanted.append((CONFIG_MAPS, config_map(namespace, owner, address=self._address, bundle=bundle)))
        for resource, body in wanted:
            try:
                await self._establish(resource, namespace, body)
            except ApiError as error:
                if _TERMINATING in error.message:
                    return
                problems.append(
                    f"{body['kind']} {namespace}/{NAME} was refused by the API server: {error.message};"
                    f" {_remedy(resource, namespace, error)}"
                )

    async def _establish(self, resource: Resource, namespace: str, body: JsonObject) -> None:
        stored = await self._stored(resource, namespace)
        if stored is not None and covers(stored, body):
            return
        await self._api.apply(resource, body, field_manager=FIELD_MANAGER)
        _LOG.info("applied", extra={"kind": body["kind"], "object": f"{namespace}/{NAME}"})

    async def _clear(self, namespace: str, problems: list[str]) -> None:
        """Take from a namespace what an operator has put there; what anybody else has stays."""
        try:
            for resource in KINDS:
                stored = await self._stored(resource, namespace)
                if stored is not None and is_ours(stored):
                    await self._delete(resource, namespace)
        except ApiError as error:
            problems.append(
                f"{resource} {namespace}/{NAME} could not be taken away, though the namespace is no consumer:"
                f" {error.message}; it is tried again"
            )
        else:
            self._cleared.add(namespace)

    async def _delete(self, resource: Resource, namespace: str) -> None:
        try:
            await self._api.delete(resource, namespace, NAME)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
        _LOG.info("deleted", extra={"kind": str(resource), "object": f"{namespace}/{NAME}"})

    async def _stored(self, resource: Resource, namespace: str) -> JsonObject | None:
        try:
            return await self._api.get(resource, namespace, NAME)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def _owner(self, problems: list[str]) -> JsonObject | None:
        """Read who owns what consumers are given: nothing is given that nobody would take away."""
        if not self._consumers:
            return None
        try:
            owner = await self._api.get(CLUSTER_ROLES, "", OWNER)
        except ApiError as error:
            problems.append(
                f"ClusterRole {OWNER}, which owns what consumers are given, cannot be read: {error.message};"
                " until it can, they are given nothing: install the chart's RBAC"
            )
            return None
        return owner_reference(str(owner["metadata"]["uid"]))

    def _present(self) -> set[str]:
        return set(self._namespaces())


def _remedy(resource: Resource, namespace: str, error: ApiError) -> str:
    if resource is ROLE_BINDINGS and error.reason == "Invalid":
        return f"delete it, so that it can be made anew: kubectl -n {namespace} delete rolebinding {NAME}"
    return "it is tried again"
