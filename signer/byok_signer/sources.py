"""Where keys and recipes, and who callers are and what they may do, come from: folders of manifests, or a cluster."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple, TypeVar

from byok_service.kubernetes import KubernetesApi, KubernetesError, SourceError
from byok_service.settings import SettingsError
from byok_signer.access import Access, OwnNamespaceAccess, ReviewedAccess
from byok_signer.authentication import Authenticator, JwtAuthenticator
from byok_signer.cluster import ClusterCatalogue
from byok_signer.decisions import Rules
from byok_signer.entries import Catalogue
from byok_signer.folder import Folder, FolderCatalogue
from byok_signer.jwks import ClusterKeys, FileKeys, IssuerKeys, JwksError, UrlKeys, cluster_issuer
from byok_signer.metrics import Metrics
from byok_signer.review_desk import ReviewDesk
from byok_signer.reviews import ReviewedAuthenticator
from byok_signer.settings import Settings

_START_SECONDS = 30.0
"""How long the API server may be away when the signer starts, until it ends and the kubelet tries again."""
_PAUSE = 1.0

Changed = Callable[[Catalogue], None]
_T = TypeVar("_T")


class StoppedError(Exception):
    """The signer was told to end before it could begin to serve."""


async def unless_stopped(work: Coroutine[None, None, _T], stopping: asyncio.Event) -> _T:
    """Wait for something that may take long at the start; StoppedError if the signer is told to end meanwhile."""
    task, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppedError
        return await task
    finally:
        task.cancel()
        told.cancel()


class Reached(NamedTuple):
    """A cluster that has answered."""

    api: KubernetesApi
    issuer: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """One of both, in the same words."""

    catalogue: Callable[[], Catalogue]
    confirmed_at: Callable[[], float]
    """When the catalogue was last known to be right, by the monotonic clock; infinity where that cannot age."""
    authenticator: Authenticator
    access: Access
    watch: Callable[[], Coroutine[None, None, None]]
    """Keeps the catalogue up to date; ends only by a bug."""
    unreadiness: Callable[[], Sequence[str]]
    """Says why the signer cannot serve from it yet; empty if it can."""


async def reach(settings: Settings, environ: Mapping[str, str], stopping: asyncio.Event) -> Reached | None:
    """Wait for the cluster that the settings name, for `open_source`, which closes it; None if they name none.

    SettingsError for one that cannot be used, StoppedError once `stopping` is set; for `environ` see KubernetesApi.
    """
    if settings.kubernetes is None:
        return None
    api = await _connected(settings.kubernetes, environ)
    try:
        return Reached(api, await unless_stopped(_issuer_of(api), stopping))
    except BaseException:
        await api.close()
        raise


def open_source(
    settings: Settings, cluster: Reached | None, rules: Rules, metrics: Metrics, changed: Changed
) -> contextlib.AbstractAsyncContextManager[Source]:
    """Open the cluster, or the folders that the settings name; SettingsError for what cannot be used."""
    if cluster is None:
        return _folders(settings, rules, changed)
    return _cluster(cluster, settings, rules, metrics, changed)


@contextlib.asynccontextmanager
async def _folders(settings: Settings, rules: Rules, changed: Changed) -> AsyncIterator[Source]:
    presets = (Folder(settings.presets, settings.presets_namespace),) if settings.presets else ()
    manifests = (Folder(settings.manifests),) if settings.manifests else ()
    catalogue = FolderCatalogue((*manifests, *presets), rules, changed=changed)
    catalogue.refresh()
    keys = _issuer_keys(settings)
    try:
        yield Source(
            catalogue=catalogue.current,
            confirmed_at=lambda: inf,
            authenticator=_local_authenticator(settings, settings.token_issuer or "", keys),
            access=OwnNamespaceAccess(),
            watch=catalogue.watch,
            unreadiness=list,
        )
    finally:
        await keys.close()


@contextlib.asynccontextmanager
async def _cluster(
    cluster: Reached, settings: Settings, rules: Rules, metrics: Metrics, changed: Changed
) -> AsyncIterator[Source]:
    api = cluster.api
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(api.close)
        catalogue = ClusterCatalogue(api, rules, changed=changed)
        desk = ReviewDesk(api, clock=time.monotonic, observe=metrics.reviewed)
        stack.push_async_callback(desk.close)
        keys = ClusterKeys(api, clock=time.monotonic)
        stack.push_async_callback(keys.close)
        local = _local_authenticator(settings, cluster.issuer, keys)

        def unreadiness() -> list[str]:
            return [] if catalogue.synced else ["the cluster's keys and recipes have not been read yet"]

        yield Source(
            catalogue=catalogue.current,
            confirmed_at=catalogue.confirmed_at,
            authenticator=ReviewedAuthenticator(local, desk, audience=settings.token_audience),
            access=ReviewedAccess(desk),
            watch=catalogue.watch,
            unreadiness=unreadiness,
        )


def _local_authenticator(settings: Settings, issuer: str, keys: IssuerKeys) -> JwtAuthenticator:
    return JwtAuthenticator(issuer=issuer, audience=settings.token_audience, keys=keys, clock=_now)


def _now() -> datetime:
    return datetime.now(UTC)


def _issuer_keys(settings: Settings) -> IssuerKeys:
    if settings.token_jwks_file is not None:
        return FileKeys(settings.token_jwks_file)
    if settings.token_jwks_url is None:
        raise AssertionError("settings name a file or a URL of the issuer's keys")
    try:
        ca_file, proxies = settings.token_jwks_ca_file, settings.proxies()
        return UrlKeys(settings.token_jwks_url, ca_file=ca_file, proxies=proxies, clock=time.monotonic)
    except OSError as error:  # ssl.SSLError is one
        path = settings.token_jwks_ca_file
        raise SettingsError(f"--token-jwks-ca-file {path}: expected CA certificates in PEM: {error}") from None


async def _connected(source: str, environ: Mapping[str, str]) -> KubernetesApi:
    try:
        return await KubernetesApi.connect(source, environ)
    except SourceError as error:
        raise SettingsError(f"--kubernetes: {error}") from None


async def _issuer_of(api: KubernetesApi) -> str:
    """Ask who issues the cluster's tokens, again and again for a while: an API server may start after a signer."""
    patience = time.monotonic() + _START_SECONDS
    while True:
        try:
            return await cluster_issuer(api)
        except (JwksError, KubernetesError) as error:
            if time.monotonic() >= patience:
                raise SettingsError(f"--kubernetes: the token issuer cannot be read: {error}") from None
        await asyncio.sleep(_PAUSE)
