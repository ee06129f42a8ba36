"""What kopf is for: to hear of changes. Its handlers hand each event on and do nothing else.

kopf runs on a thread and an event loop of its own, so that the work of reconciling never delays it and what it does to
its loop when it ends (it cancels every task there) is its own affair. When it ends it is started again: the store has
lists of its own, so nothing that kopf misses is lost for longer than a minute.

It ends when the API server no longer knows a kind, and starts when it tells of all: kopf's own watch of CRDs is off.
It asks what is served as soon as a CRD is established, which is too soon now and then, and does not ask again.
"""

import asyncio
import itertools
import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kopf
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from byok_operator.store import Kind
from byok_service.kubernetes import (
    BYOK_KEYS,
    NAMESPACES,
    SIGNING_RECIPES,
    JsonObject,
    KubernetesApi,
    KubernetesError,
    Resource,
)
from byok_service.setting_types import IN_CLUSTER

_LOG = logging.getLogger(__name__)
_RESTART_SECONDS = 2.0
"""At most so long kopf is away after it ended."""
_STOP_SECONDS = 10.0
"""kopf waits for up to half of it for what its tasks began."""
_ENDING_SECONDS = 3.0
"""After so long kopf is told again to end."""
_CLOSING_SECONDS = 0.25
_KOPFS_CLIENT = "kopf._cogs.clients."
"""Where the errors are defined, which kopf does not export, that stand for answers of the API server."""

Hear = Callable[[Kind, str | None, JsonObject], None]
"""Takes kind, type of event (None for an object that a watch began with) and object; called on kopf's thread."""


class KopfThread:
    """kopf at work until `stop`; `source` is `in-cluster` or a kubeconfig's path."""

    def __init__(self, source: str, hear: Hear) -> None:
        self._source = source
        self._hear = hear
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> None:
        """Begin to watch."""
        quieten()
        self._thread.start()

    async def stop(self) -> None:
        """End, within ten seconds."""
        self._stopping.set()
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)
            if self._thread.is_alive():
                _LOG.warning("kopf did not end in time")

    def _run(self) -> None:
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        while not self._stopping.is_set():
            try:
                await self._until_served(self._stop)
                await self._operate(self._stop)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever ends kopf: changes would be late
                _LOG.warning("watching ended and begins again", extra={"cause": f"{type(error).__name__}: {error}"})
            if not self._stopping.is_set():
                await _wait(self._stop, _RESTART_SECONDS * (0.5 + random.random() / 2))  # noqa: S311 - jitter
        # aiohttp closes TLS connections a moment after it was told to (aiohttp, "Graceful Shutdown").
        await asyncio.sleep(_CLOSING_SECONDS)

    async def _operate(self, stop: asyncio.Event) -> None:
        """Do what `kopf.operator` does, and see to it that it ends.

        When a cancellation meets a watch that waits for its answer to begin, kopf may lose it, and would then wait for
        that watch for ever (kopf issue 1168; `kopf._cogs.clients.api.stream`): what is left is cancelled once more.
        """
        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry(self._source, self._hear),
            settings=settings(),
            clusterwide=True,
            standalone=True,
            # Else kopf asks for the user's name, which an image need not have; nobody is told of it.
            identity="byok-operator",  # type: ignore[arg-type]  # a NewType that kopf does not export
            stop_flag=stop,
        )
        running = asyncio.create_task(kopf.run_tasks(tasks, ignored=others))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while not (await asyncio.wait([running], timeout=_ENDING_SECONDS))[0]:
            for task in asyncio.all_tasks() - others - {running}:
                task.cancel()
        await running

    async def _until_served(self, stop: asyncio.Event) -> None:
        api = await KubernetesApi.connect(self._source)
        try:
            while not stop.is_set() and not await _are_served(api):
                await _wait(stop, _RESTART_SECONDS * (0.5 + random.random() / 2))  # noqa: S311 - jitter
        finally:
            await api.close()


async def _are_served(api: KubernetesApi) -> bool:
    """Ask as kopf does, by discovery, which may lag behind what is served (Kubernetes, "API Discovery")."""
    try:
        found = json.loads(await api.get_raw(f"/apis/{BYOK_KEYS.api_version}"))
        return {BYOK_KEYS.plural, SIGNING_RECIPES.plural} <= {resource["name"] for resource in found["resources"]}
    except (KubernetesError, ValueError, LookupError, TypeError):
        # What stands in the way, the lists tell.
        return False


def quieten() -> None:
    """Have kopf not log what others here tell, or nobody need know."""
    # That signals are left to the main thread is as it should be; kopf warns of it each time.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    for name in ("kopf._core.reactor.observation", "kopf._cogs.clients.watching"):
        logging.getLogger(name).addFilter(_is_news)
    # What ends two of its tasks at once, asyncio tells of the one that nobody waits for.
    for name in ("kopf._core.reactor.running", "kopf._core.reactor.orchestration", "asyncio"):
        logging.getLogger(name).addFilter(_is_no_refusal)


def _is_news(record: logging.LogRecord) -> bool:
    # It tells of each attempt while the API server is away, which the Lease and the lists have told already.
    return not str(record.msg).startswith("Request attempt ")


def _is_no_refusal(record: logging.LogRecord) -> bool:
    # An API server's no, as after CRDs were deleted, ends kopf, of which `_watch` tells; a bug keeps its traceback.
    error = record.exc_info[1] if record.exc_info else None
    return not type(error).__module__.startswith(_KOPFS_CLIENT)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


def registry(source: str, hear: Hear) -> kopf.OperatorRegistry:
    """Make the handlers: one for each kind, which hands on what it hears."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers, backoff=_RESTART_SECONDS)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401 - kopf passes what it likes
        return await connection(source)

    def hand_on(resource: Resource, kind: Kind) -> None:
        @kopf.on.event(resource.group, resource.version, resource.plural, registry=handlers, id=kind)
        async def changed(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401 - as above
            hear(kind, event["type"], dict(event["object"]))

    hand_on(BYOK_KEYS, "ByokKey")
    hand_on(SIGNING_RECIPES, "SigningRecipe")
    hand_on(NAMESPACES, "Namespace")
    return handlers


def settings() -> kopf.OperatorSettings:
    """Make kopf leave objects alone, and come back soon after errors."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.process.ultimate_exiting_timeout = None
    chosen.execution.default_backoff = _RESTART_SECONDS
    chosen.networking.error_backoffs = _ForEver()
    chosen.networking.connect_timeout = 5.0
    chosen.networking.request_timeout = 30.0
    chosen.queueing.error_delays = (0.2, 0.5, 1, _RESTART_SECONDS)
    # Each object that was heard of keeps a task and its last event, 25 KB as Python objects, for so long; and a list
    # comes no faster than in pieces of so many.
    chosen.queueing.idle_timeout = 0.02
    chosen.watching.chunk_size = 100
    chosen.persistence.diffbase_storage = _NoEssence()
    chosen.persistence.progress_storage = _NoProgress()
    return chosen


class _ForEver:
    """Seconds between attempts, without end: when kopf gives up it ends, and takes seconds for that."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 0.5, 1.0)
        yield from itertools.repeat(_RESTART_SECONDS)


class _NoEssence(kopf.DiffBaseStorage):
    """Keeps nothing of an object for the next time: no handler here is told what changed."""

    def build(self, **_: Any) -> kopf.BodyEssence:  # noqa: ANN401 - kopf's signature
        """Make nothing, instead of a deep copy of the object at each event."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:  # noqa: ANN401 - kopf's signature
        """Find nothing."""
        return None

    def store(self, **_: Any) -> None:  # noqa: ANN401 - kopf's signature
        """Write no annotation."""


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: none here has any."""

    def fetch(self, **_: Any) -> None:  # noqa: ANN401 - kopf's signature
        """Find nothing."""

    def store(self, **_: Any) -> None:  # noqa: ANN401 - kopf's signature
        """Write nothing."""

    def purge(self, **_: Any) -> None:  # noqa: ANN401 - kopf's signature
        """Remove nothing."""

    def touch(self, **_: Any) -> None:  # noqa: ANN401 - kopf's signature
        """Write nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Leave out nothing, instead of copying the object once more."""
        return essence


async def connection(source: str) -> kopf.ConnectionInfo:
    """Read what kopf needs to connect, as `byok_service.kubernetes` reads it; called again after each 401."""
    found = Configuration()
    if source == IN_CLUSTER:
        load_incluster_config(client_configuration=found, try_refresh_token=False)  # type: ignore[no-untyped-call]  # it has no types
    else:
        await load_kube_config(config_file=source, client_configuration=found, persist_config=False)  # type: ignore[no-untyped-call]  # as above
    token: str | None = found.api_key.get("BearerToken")
    return kopf.ConnectionInfo(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        insecure=not found.verify_ssl,
        token=bare(token),
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
    )


def bare(authorization: str | None) -> str | None:
    """Take the token out of what a loader makes of it: `Bearer`, in a pod `bearer`, and the token."""
    return authorization.split()[-1] if authorization and authorization.strip() else None
