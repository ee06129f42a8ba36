"""`byok-signer`: reads its settings, puts the parts together, serves until SIGTERM or SIGINT."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from byok_api.errors import Reason, Refusal
from byok_service.http import HttpServer, serve_http
from byok_service.logs import configure_logging
from byok_service.settings import SettingsError
from byok_signer.audit import AuditSink
from byok_signer.checkpoints import Checkpointer, checkpoint_handle
from byok_signer.decisions import Rules
from byok_signer.entries import Catalogue, KeyEntry, Refused, ReservedKey, SigningEntry
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.metrics import Metrics
from byok_signer.ports import Ports
from byok_signer.quota import Quotas, Replicas
from byok_signer.server import SignerServer, services_for
from byok_signer.settings import PROGRAM, Settings
from byok_signer.sources import Source, StoppedError, open_source, reach, unless_stopped
from byok_signer.starting import Look, Readiness, open_audit, wait_for_tls

# Not __name__, which is __main__ here and no logger of ours.
_LOG = logging.getLogger("byok_signer")
_READY = "ready"
_LOOK = 0.05


def main() -> None:
    """Run the signer; exit status 2 for settings that cannot be used, by name, and 1 for an audit trail that failed."""
    environ = dict(os.environ)
    settings = PROGRAM.read_or_exit(sys.argv[1:], environ)
    configure_logging(settings.log_level)
    _tell_botocore(settings)
    try:
        asyncio.run(serve(settings, environ))
    except StoppedError:
        _LOG.info("stopped before it could serve")
    except SettingsError as error:
        PROGRAM.exit_for(error)
    except Refusal as refusal:
        _LOG.error("ended badly", extra={"reason": refusal.reason.name, "found": refusal.message})
        raise SystemExit(1) from None


def _tell_botocore(settings: Settings) -> None:
    """Tell the one part that goes by the environment how to reach STS, which gives the signer's own credentials."""
    os.environ.update(settings.proxies().variables())
    if settings.aws_ca_file is not None:
        os.environ.setdefault("AWS_CA_BUNDLE", str(settings.aws_ca_file))


async def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until a signal comes; SettingsError for what can only be found wrong by trying it.

    `environ` is the environment as it was before it told botocore anything.

    Refusal (AuditUnavailable) if the audit trail could not be finished.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with running(settings, stopping, environ) as signer:
        ports = {"port": signer.server.port, "http_port": signer.http.port}
        # What is there by now stays: the collector need not look at it again and again while signatures are made.
        gc.collect()
        gc.freeze()
        _LOG.info("serving", extra={"address": str(settings.listen), **ports})
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait((stop, signer.watching), return_when=asyncio.FIRST_COMPLETED)
        _LOG.info("stopping", extra={"grace_seconds": settings.drain_seconds})
        if signer.watching.done():
            # To go on with what was last read would be to sign with keys that are withdrawn since.
            await signer.watching


@dataclass(frozen=True)
class Running:
    """A signer that serves."""

    server: SignerServer
    http: HttpServer
    watching: "asyncio.Task[None]"
    """Keeps the catalogue up to date; ends only by a bug."""


@contextlib.asynccontextmanager
async def running(
    settings: Settings, stopping: asyncio.Event, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Running]:
    """Run a whole signer, once all that it signs by is known; on leaving, let calls end and make the trail durable.

    StoppedError once `stopping` is set before that.
    """
    metrics, readiness = Metrics(), Readiness()
    metrics.observe_readiness(readiness.reasons)
    async with contextlib.AsyncExitStack() as stack:
        # First and last, so that whoever asks is told what is waited for.
        http = await serve_http(settings.http_listen, metrics.exposition, readiness.reasons)
        stack.push_async_callback(http.close)
        await unless_stopped(wait_for_tls(settings, readiness), stopping)
        audit = await unless_stopped(open_audit(settings, readiness), stopping)
        stack.push_async_callback(audit.close)
        metrics.observe_audit_lag(audit.lag)
        kms = _aws_kms(settings, metrics)
        stack.push_async_callback(kms.close)
        checkpointer = await _start_checkpoints(settings, kms, audit, metrics)
        if checkpointer is not None:
            stack.push_async_callback(checkpointer.close)
        rules = _rules(settings, checkpointer.reserved if checkpointer else None)
        cluster = await reach(settings, environ, stopping)
        changed = _counting(metrics, often=cluster is not None)
        source = await stack.enter_async_context(open_source(settings, cluster, rules, metrics, changed))
        quotas = await _start_quotas(settings, metrics, stack)
        ports = Ports(
            catalogue=source.catalogue,
            catalogue_confirmed_at=source.confirmed_at,
            authenticator=source.authenticator,
            access=source.access,
            kms=kms,
            quotas=quotas,
            audit=audit,
            metrics=metrics,
            now=_now,
            clock=time.monotonic,
        )
        services = services_for(ports, checkpoint_key=rules.checkpoint_key, replica=settings.pod_name or "")
        stack.push_async_callback(services.signer.pipeline.drain)
        server = SignerServer(settings, services)
        watching = asyncio.create_task(source.watch())
        stack.callback(watching.cancel)
        readiness.watch(_unreadiness(audit, watching, source))
        await unless_stopped(_until_ready(source, watching), stopping)
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds)
        readiness.serves()
        stack.callback(readiness.stops)
        yield Running(server, http, watching)


async def _until_ready(source: Source, watching: "asyncio.Task[None]") -> None:
    """Wait: before it knows what there is, a signer would refuse what it should sign."""
    while source.unreadiness():
        if watching.done():
            await watching
        await asyncio.sleep(_LOOK)


def _now() -> datetime:
    return datetime.now(UTC)


async def _start_quotas(settings: Settings, metrics: Metrics, stack: contextlib.AsyncExitStack) -> Quotas:
    replicas = Replicas(settings.replicas, host=settings.replicas_service)
    await replicas.start()
    stack.push_async_callback(replicas.close)
    quotas = Quotas(per_second=settings.quota_per_second, replicas=replicas, clock=time.monotonic)
    metrics.observe_quotas(quotas)
    return quotas


async def _start_checkpoints(
    settings: Settings, kms: AwsKms, audit: AuditSink, metrics: Metrics
) -> Checkpointer | None:
    if settings.checkpoint_key is None:
        return None
    checkpointer = Checkpointer(
        kms=kms,
        audit=audit,
        handle=checkpoint_handle(settings.checkpoint_key, settings.installation),
        period=60 * settings.checkpoint_minutes,
        ended=metrics.checkpoint_ended,
    )
    try:
        await checkpointer.start()
    except Refusal as refusal:
        if refusal.reason is Reason.AuditUnavailable:
            raise
        raise SettingsError(f"--checkpoint-key {settings.checkpoint_key}: {refusal.message}") from None
    return checkpointer


def _rules(settings: Settings, checkpoint_key: ReservedKey | None) -> Rules:
    shared = settings.rules()
    return Rules(**{field.name: getattr(shared, field.name) for field in fields(shared)}, checkpoint_key=checkpoint_key)


def _counting(metrics: Metrics, *, often: bool) -> Callable[[Catalogue], None]:
    def changed(catalogue: Catalogue) -> None:
        objects: Counter[tuple[str, str]] = Counter()
        for kind, entries in (("ByokKey", catalogue.keys), ("SigningRecipe", catalogue.recipes)):
            for entry in entries.values():
                objects[kind, _state_of(entry)] += 1
        not_after = {
            name: entry.chain.not_after.timestamp()
            for name, entry in catalogue.keys.items()
            if isinstance(entry, KeyEntry) and entry.chain is not None
        }
        metrics.catalogue_changed(objects, not_after)
        ready = {kind: n for (kind, state), n in objects.items() if state == _READY}
        if often:
            _LOG.debug("cluster read", extra=ready)
        else:
            _LOG.info("manifests read", extra=ready)

    return changed


def _state_of(entry: KeyEntry | SigningEntry | Refused) -> str:
    refused = entry.problem if isinstance(entry, KeyEntry) else entry
    return refused.reason.name if isinstance(refused, Refused) else _READY


def _aws_kms(settings: Settings, metrics: Metrics) -> AwsKms:
    try:
        config = KmsConfig(
            installation=settings.installation,
            endpoint=settings.aws_endpoint,
            key_endpoints=frozenset(settings.aws_key_endpoints),
            ca_file=settings.aws_ca_file,
            proxies=settings.proxies(),
            fips=settings.aws_use_fips,
            dualstack=settings.aws_use_dualstack,
            role_arn=settings.aws_role,
        )
    except ValueError as error:
        raise SettingsError(f"--installation, --aws-endpoint or --aws-key-endpoints: {error}") from None
    try:
        return AwsKms(config, observe=metrics.kms_requested)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"--aws-ca-file {settings.aws_ca_file}: expected CA certificates in PEM: {error}") from None


def _unreadiness(audit: AuditSink, watching: "asyncio.Task[None]", source: Source) -> Look:
    def reasons() -> list[str]:
        found = ["the catalogue is no longer watched"] if watching.done() else []
        found += source.unreadiness()
        try:
            audit.ensure_available()
        except Refusal as refusal:
            found.append(refusal.message)
        return found

    return reasons


if __name__ == "__main__":
    main()
