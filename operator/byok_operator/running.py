"""The operator put together: from an API server and the signers to status, for as long as it leads."""

import asyncio
import logging
import socket
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from byok_api.inventory import KEY, Inventory
from byok_api.objects import Identity
from byok_api.references import ObjectName
from byok_operator.apply import StatusWriter
from byok_operator.certificate_keeper import CertificateKeeper
from byok_operator.certificates import Demands
from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.consumers import Consumer
from byok_operator.events import EventWriter
from byok_operator.handlers import KopfThread
from byok_operator.inbox import Inbox
from byok_operator.keys import Keys, Signers
from byok_operator.lease import Elector, LeadershipLostError
from byok_operator.lists import Lists
from byok_operator.means import Means
from byok_operator.metrics import Metrics
from byok_operator.presets import Presets
from byok_operator.queue import Retries, WorkQueue
from byok_operator.reconcile import Desk, Reconciler
from byok_operator.settings import Settings, SignerTls
from byok_operator.store import Store
from byok_operator.trust import Trust
from byok_service.kubernetes import KubernetesApi

_LOG = logging.getLogger(__name__)
_FLUSH_SECONDS = 2.0
_FOLLOWER_WAITS = 3.0
_BACKLOG_LIMIT = 60.0
_LOOK_SECONDS = 0.1


class Operator:
    """Everything but the signers and the HTTP door; `run` it once, then `close` it."""

    def __init__(
        self,
        settings: Settings,
        api: KubernetesApi,
        elector: Elector,
        *,
        consumers: Sequence[Consumer],
        means: Means,
    ) -> None:
        self.filled = asyncio.Event()
        """Set once everything that is in the cluster is known."""
        self._settings = settings
        self._api = api
        self._means = means
        self.metrics = Metrics(means.now)
        self._queue: WorkQueue[Identity] = WorkQueue(Retries(), clock=means.seconds, random=means.chance)
        self._inventory = Inventory(settings.rules())
        self._store = Store(self._inventory, wake=self._queue.add_all)
        self._lists = Lists(api, self._store, random=means.chance)
        self._elector = elector
        # One that only follows has all in its queue, which is no backlog.
        self.metrics.observe_queue(
            lambda: self._queue.depth if self._elector.leading else 0,
            lambda: self._queue.age if self._elector.leading else 0,
        )
        self._events = EventWriter(api, instance=socket.gethostname(), dropped=self.metrics.event_dropped)
        self._presets = Presets(
            api, settings.namespace, folder=settings.presets, managed_key_file=settings.managed_key_file
        )
        self._trust = Trust(
            self._certificates(),
            self._consumers(consumers),
            ca_file=settings.signer_ca_file,
            seconds=means.seconds,
        )

    def keys_changed(self, names: Iterable[ObjectName]) -> None:
        """Have keys looked at, of which a signer says something new."""
        self._queue.add_all((KEY, name) for name in names if self._store.seen((KEY, name)) is not None)

    def unreadiness(self) -> list[str]:
        """Say why this process is not ready; one that only waits to lead is."""
        return self._lists.missing

    async def run(self, signers: Signers) -> None:
        """Fill the store, wait for the lead, and reconcile; LeadershipLostError once the lead is lost."""
        keys = Keys(self._inventory, signers, wake=self._queue.add_all, means=self._means, metrics=self.metrics)
        kopf = KopfThread(self._settings.kubernetes, Inbox(self._store.changed).hear)
        try:
            await self._lists.fill()
            self.filled.set()
            _LOG.info("knows the cluster", extra={"objects": len(self._store.identities())})
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lists.run())
                tasks.create_task(self._begin_to_watch(kopf, keys))
                tasks.create_task(self._lead(signers, keys, tasks))
        except BaseExceptionGroup as failures:
            lost = failures.subgroup(LeadershipLostError)
            if lost is None:
                raise
            raise lost.exceptions[0] from None
        finally:
            await kopf.stop()

    async def close(self) -> None:
        """Write the events that are left, and give the lead up."""
        await self._events.flush(_FLUSH_SECONDS)
        await self._elector.release()

    async def _begin_to_watch(self, kopf: KopfThread, keys: Keys) -> None:
        """Start kopf once what the first lists found is worked off.

        It begins with lists of its own, of which each object costs as much as a reconcile, and so would the echo of
        each status written. What changes meanwhile could not be worked on sooner, and is not lost: a write onto an
        object that has changed is refused, and kopf's lists tell of the rest.
        """
        began, waited = self._means.seconds(), 0.0
        while waited < (_FOLLOWER_WAITS if not self._elector.leading else _BACKLOG_LIMIT):
            if self._elector.leading and self._queue.is_idle and not keys.expects_probes:
                break
            await asyncio.sleep(_LOOK_SECONDS)
            waited = self._means.seconds() - began
        kopf.start()

    async def _lead(self, signers: Signers, keys: Keys, tasks: asyncio.TaskGroup) -> None:
        await self._elector.acquire()
        self.metrics.leads(is_leader=True)
        writer = StatusWriter(self._api, self._store)
        desk = Desk(self._inventory, self._store, keys, writer, self._events, self._queue, self.metrics)
        reconciler = Reconciler(desk, means=self._means, leading=lambda: self._elector.leading)
        for work in (
            *(reconciler.work() for _ in range(self._settings.workers)),
            *(keys.probe() for _ in range(self._settings.probes)),
            self._events.run(),
            self._presets.run(),
            self._trust.run(),
            signers.run(),
        ):
            tasks.create_task(work)
        await self._elector.hold()

    def _certificates(self) -> CertificateKeeper | None:
        settings = self._settings
        if settings.signer_tls is not SignerTls.SELF_MANAGED:
            return None
        demands = Demands(settings.signer_tls_names, timedelta(seconds=settings.signer_tls_grace_seconds))
        return CertificateKeeper(self._api, settings.namespace, demands, now=self._means.now, metrics=self.metrics)

    def _namespaces(self) -> Collection[str]:
        return self._inventory.namespace_labels.keys()

    def _consumers(self, consumers: Sequence[Consumer]) -> ConsumerKeeper:
        return ConsumerKeeper(
            self._api,
            consumers,
            address=str(self._settings.signers[0]),
            namespaces=self._namespaces,
            metrics=self.metrics,
        )
