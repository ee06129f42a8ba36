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
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from byok_api.errors import Reason, Refusal
from byok_service.http import HttpServer, serve_http
from byok_service.logs import configure_logging
from byok_service.setting_types import Stdout
from byok_service.settings import SettingsError
from byok_signer.audit import AuditSink, FileAuditSink, StdoutAuditSink
from byok_signer.authentication import JwtAuthenticator
from byok_signer.checkpoints import Checkpointer, checkpoint_handle
from byok_signer.decisions import Rules
from byok_signer.edge import Edge
from byok_signer.entries import Catalogue, KeyEntry, Refused, ReservedKey, SigningEntry
from byok_signer.folder import Folder, FolderCatalogue
from byok_signer.jwks import FileKeys, IssuerKeys, UrlKeys
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.metrics import Metrics
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.probing import Prober
from byok_signer.quota import Quotas, Replicas
from byok_signer.server import Services, SignerServer
from byok_signer.services import KeyProbeService, SignerService
from byok_signer.settings import PROGRAM, Settings

# Not __name__, which is __main__ here and no logger of ours.
_LOG = logging.getLogger("byok_signer")
_READY = "ready"


def main() -> None:
    """Run the signer; exit status 2 for settings that cannot be used, by name, and 1 for an audit trail that failed."""
    settings = PROGRAM.read_or_exit(sys.argv[1:], os.environ)
    configure_logging(settings.log_level)
    try:
        asyncio.run(serve(settings))
    except SettingsError as error:
        PROGRAM.exit_for(error)
    except Refusal as refusal:
        _LOG.error("ended badly", extra={"reason": refusal.reason.name, "found": refusal.message})
        raise SystemExit(1) from None


async def serve(settings: Settings) -> None:
    """Serve until a signal comes; SettingsError for what can only be found wrong by trying it.

    Refusal (AuditUnavailable) if the audit trail could not be finished.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with running(settings) as signer:
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
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Run a whole signer; on leaving, let calls end, then make the audit trail durable."""
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        audit = _audit_sink(settings)
        stack.push_async_callback(audit.close)
        metrics.observe_audit_lag(audit.lag)
        kms = _aws_kms(settings, metrics)
        stack.push_async_callback(kms.close)
        checkpointer = await _start_checkpoints(settings, kms, audit, metrics)
        if checkpointer is not None:
            stack.push_async_callback(checkpointer.close)
        rules = _rules(settings, checkpointer.reserved if checkpointer else None)
        catalogue = FolderCatalogue(_folders(settings), rules, now=_now, changed=_counting(metrics))
        catalogue.refresh()
        keys = _issuer_keys(settings)
        stack.push_async_callback(keys.close)
        replicas = Replicas(settings.replicas, host=settings.replicas_service)
        await replicas.start()
        stack.push_async_callback(replicas.close)
        quotas = Quotas(per_second=settings.quota_per_second, replicas=replicas, clock=time.monotonic)
        metrics.observe_quotas(quotas)
        ports = Ports(
            catalogue=catalogue.current,
            authenticator=JwtAuthenticator(
                issuer=settings.token_issuer or "", audience=settings.token_audience, keys=keys, clock=_now
            ),
            kms=kms,
            quotas=quotas,
            audit=audit,
            metrics=metrics,
            now=_now,
            clock=time.monotonic,
        )
        pipeline, edge = Pipeline(ports), Edge(metrics)
        stack.push_async_callback(pipeline.drain)
        server = SignerServer(
            settings, Services(SignerService(pipeline, edge), KeyProbeService(Prober(ports, pipeline)), edge)
        )
        watching = asyncio.create_task(catalogue.watch())
        stack.callback(watching.cancel)
        http = await serve_http(settings.http_listen, metrics.exposition, _unreadiness(audit, watching))
        stack.push_async_callback(http.close)
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds)
        yield Running(server, http, watching)


def _now() -> datetime:
    return datetime.now(UTC)


def _folders(settings: Settings) -> tuple[Folder, ...]:
    manifests = (Folder(settings.manifests),) if settings.manifests else ()
    presets = (Folder(settings.presets, settings.presets_namespace),) if settings.presets else ()
    return (*manifests, *presets)


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
    return Rules(
        installation=settings.installation,
        presets_namespace=settings.presets_namespace,
        managed_key=settings.managed_key,
        required_terms=settings.required_terms,
        checkpoint_key=checkpoint_key,
    )


def _counting(metrics: Metrics) -> Callable[[Catalogue], None]:
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
        _LOG.info("manifests read", extra={kind: n for (kind, state), n in objects.items() if state == _READY})

    return changed


def _state_of(entry: KeyEntry | SigningEntry | Refused) -> str:
    refused = entry.problem if isinstance(entry, KeyEntry) else entry
    return refused.reason.name if isinstance(refused, Refused) else _READY


def _audit_sink(settings: Settings) -> AuditSink:
    try:
        if isinstance(settings.audit, Stdout):
            return StdoutAuditSink(sys.stdout.buffer)
        return FileAuditSink(settings.audit)
    except Refusal as refusal:
        raise SettingsError(f"--audit: {refusal.message}") from None


def _issuer_keys(settings: Settings) -> IssuerKeys:
    if settings.token_jwks_file is not None:
        return FileKeys(settings.token_jwks_file)
    if settings.token_jwks_url is None:
        raise AssertionError("settings name a file or a URL of the issuer's keys")
    try:
        return UrlKeys(settings.token_jwks_url, ca_file=settings.token_jwks_ca_file, clock=time.monotonic)
    except OSError as error:  # ssl.SSLError is one
        path = settings.token_jwks_ca_file
        raise SettingsError(f"--token-jwks-ca-file {path}: expected CA certificates in PEM: {error}") from None


def _aws_kms(settings: Settings, metrics: Metrics) -> AwsKms:
    try:
        config = KmsConfig(
            installation=settings.installation,
            endpoint=settings.aws_endpoint,
            key_endpoints=frozenset(settings.aws_key_endpoints),
            ca_file=settings.aws_ca_file,
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


def _unreadiness(audit: AuditSink, watching: "asyncio.Task[None]") -> Callable[[], Sequence[str]]:
    def reasons() -> list[str]:
        found = ["the catalogue is no longer watched"] if watching.done() else []
        try:
            audit.ensure_available()
        except Refusal as refusal:
            found.append(refusal.message)
        return found

    return reasons


if __name__ == "__main__":
    main()
