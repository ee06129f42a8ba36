"""Keeps in each consumer's namespace what its jobs need, and takes it from namespaces that are consumers no more."""

import logging
from collections.abc import Callable, Collection, Sequence

from byok_operator.applied import FIELD_MANAGER, covers
from byok_operator.consumers import (
    KINDS,
    NAME,
    OWNER,
    Consumer,
    config_map,
    emptied,
    is_ours,
    owner_reference,
    role_binding,
)
from byok_operator.metrics import Metrics
from byok_service.kubernetes import NOT_FOUND, ApiError, JsonObject, KubernetesApi, KubernetesError, Resource
from byok_service.kubernetes_resources import CLUSTER_ROLES, CONFIG_MAPS, ROLE_BINDINGS

_LOG = logging.getLogger(__name__)
_TERMINATING = "because it is being terminated"
"""What the API server says where a namespace takes no new objects; that it is about to go is nobody's fault."""
_PATIENCE = 3
"""Reads in a row without an answer by which the API server is away; what a webhook spoils are writes."""
_SEARCHES = 100
"""Namespaces that are no consumers and are searched at one look."""
_HOUR = 3600.0
"""Seconds after which those namespaces are searched again, and for which a CA waits for a consumer that fails."""


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
        """The bundle that consumers had at the last look: all that there are, or all but some that long have failed."""
        self.problems: tuple[str, ...] = ()
        """What went wrong at the last look."""
        self._api = api
        self._consumers = {consumer.namespace: consumer for consumer in consumers}
        self._address = address
        self._namespaces = namespaces
        self._metrics = metrics
        self._seen: set[str] = set()
        self._failing: dict[str, float] = {}
        """Since when consumers have been refused something at each look that served others."""
        self._cleared: set[str] = set()
        self._stuck: dict[str, None] = {}
        """Namespaces that were searched and could not be cleared; whose turn is next comes first."""
        self._searched_since = 0.0
        self._has_unsearched = False
        self._unanswered = 0

    @property
    def listed(self) -> Collection[str]:
        """The namespaces that are consumers, whether they are there or not."""
        return self._consumers.keys()

    @property
    def has_news(self) -> bool:
        """Whether a consumer's namespace has appeared, or there are others left, that nobody has looked at."""
        return self._has_unsearched or any(namespace in self._consumers for namespace in self._present() - self._seen)

    async def refresh(self, bundle: bytes | None, *, seconds: float) -> None:
        """Look once, and restore what differs; without `bundle`, CA certificates in PEM, no ConfigMap is written.

        `seconds` is what a clock says that never goes back.
        """
        present, problems, served = self._present(), list[str](), set[str]()
        self.known, self._has_unsearched, self._unanswered = None, False, 0
        try:
            await self._serve_all(present, bundle, problems, served)
            if bundle is not None and self._waits_for_none(present, served, seconds):
                self.known = bundle
            await self._search(present, problems, seconds)
        except KubernetesError as error:
            problems.append(f"consumers could not be looked after: {error}; it is tried again")
        finally:
            # Whatever happened, so that the next look comes when it is due and says what this one lacked.
            self._seen = present
            self.problems = tuple(problems)
            there, complete = len(present & self._consumers.keys()), len(served) if bundle is not None else 0
            states = {"served": complete, "absent": len(self._consumers) - there, "failed": there - complete}
            self._metrics.consumers({**states, "uncleared": len(self._stuck)})

    async def _serve_all(self, present: set[str], bundle: bytes | None, problems: list[str], served: set[str]) -> None:
        owner = await self._owner(problems)
        if owner is None:
            return
        for namespace, consumer in self._consumers.items():
            if namespace in present and await self._serve(consumer, owner, bundle, problems):
                served.add(namespace)

    async def _serve(self, consumer: Consumer, owner: JsonObject, bundle: bytes | None, problems: list[str]) -> bool:
        """Establish what a consumer needs; False if something of it was refused."""
        namespace, before = consumer.namespace, len(problems)
        wanted: list[tuple[Resource, JsonObject]] = [(ROLE_BINDINGS, role_binding(consumer, owner))]
        if bundle is not None:
            wanted.append((CONFIG_MAPS, config_map(namespace, owner, address=self._address, bundle=bundle)))
        for resource, body in wanted:
            try:
                await self._establish(resource, namespace, body)
            except KubernetesError as error:
                if self._is_away:
                    raise
                if _TERMINATING in str(error):
                    return True
                problems.append(
                    f"{body['kind']} {namespace}/{NAME} was not written: {_words(error)};"
                    f" {_remedy(resource, namespace, error)}"
                )
        return len(problems) == before

    async def _establish(self, resource: Resource, namespace: str, body: JsonObject) -> None:
        stored = await self._stored(resource, namespace)
        if stored is not None and covers(stored, body):
            return
        await self._api.apply(resource, body, field_manager=FIELD_MANAGER)
        _LOG.info("applied", extra={"kind": body["kind"], "object": f"{namespace}/{NAME}"})

    def _waits_for_none(self, present: set[str], served: set[str], seconds: float) -> bool:
        """Say whether a CA may go on: one namespace's own trouble holds it up for an hour, everybody's for longer."""
        failing = (self._consumers.keys() & present) - served
        if not served:
            return not failing
        self._failing = {namespace: self._failing.get(namespace, seconds) for namespace in failing}
        return all(seconds - since >= _HOUR for since in self._failing.values())

    async def _search(self, present: set[str], problems: list[str], seconds: float) -> None:
        """Clear some namespaces that are no consumers: an earlier leader may have had them on its list.

        They are searched again, since a backup may bring back what was there.
        """
        if seconds - self._searched_since >= _HOUR:
            self._cleared.clear()
            self._searched_since = seconds
        self._cleared &= present
        self._stuck = {namespace: None for namespace in self._stuck if namespace in present}
        fresh = sorted(present - self._consumers.keys() - self._cleared - self._stuck.keys())
        for namespace in (*fresh, *self._stuck)[:_SEARCHES]:
            await self._clear(namespace, problems)
        self._has_unsearched = len(fresh) > _SEARCHES

    async def _clear(self, namespace: str, problems: list[str]) -> None:
        """Take from a namespace what an operator has put there; what anybody else has stays."""
        before = len(problems)
        for resource in KINDS:
            try:
                trouble = "" if await self._take(resource, namespace) else "it is deleted, and finalizers keep it"
            except KubernetesError as error:
                if self._is_away:
                    raise
                trouble = _words(error)
            if trouble:
                problems.append(
                    f"{resource} {namespace}/{NAME} could not be taken away, though the namespace is no consumer:"
                    f" {trouble}; it is tried again"
                )
        # Not sooner, so that what one was stuck with still counts while the API server is away.
        self._stuck.pop(namespace, None)
        if len(problems) == before:
            self._cleared.add(namespace)
        else:
            self._stuck[namespace] = None

    async def _take(self, resource: Resource, namespace: str) -> bool:
        """Delete what is the operator's; False if finalizers keep it. A RoleBinding that they keep lets nobody in."""
        stored = await self._stored(resource, namespace)
        if stored is None or not is_ours(stored):
            return True
        try:
            await self._api.delete(resource, namespace, NAME)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
        details = {"kind": str(resource), "object": f"{namespace}/{NAME}"}
        left = await self._stored(resource, namespace)
        if left is None or not is_ours(left):
            _LOG.info("deleted", extra=details)
            return True
        if resource is not ROLE_BINDINGS:
            return False
        if left.get("subjects"):
            await self._api.apply(resource, emptied(left), field_manager=FIELD_MANAGER)
            _LOG.info("emptied, as finalizers keep it", extra=details)
        return True

    async def _stored(self, resource: Resource, namespace: str) -> JsonObject | None:
        try:
            stored = await self._api.get(resource, namespace, NAME)
        except ApiError as error:
            self._unanswered = 0
            if error.status == NOT_FOUND:
                return None
            raise
        except KubernetesError:
            self._unanswered += 1
            raise
        self._unanswered = 0
        return stored

    @property
    def _is_away(self) -> bool:
        return self._unanswered >= _PATIENCE

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


def _words(error: KubernetesError) -> str:
    return f"refused by the API server: {error.message}" if isinstance(error, ApiError) else str(error)


def _remedy(resource: Resource, namespace: str, error: KubernetesError) -> str:
    # Another roleRef, or a ConfigMap that is immutable.
    if isinstance(error, ApiError) and error.reason == "Invalid":
        return f"delete it, so that it can be made anew: kubectl -n {namespace} delete {resource.plural} {NAME}"
    return "it is tried again"
