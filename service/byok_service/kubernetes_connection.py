"""Authenticated requests to one API server, through the official client's loaders and its HTTP layer.

Importing this takes over a second and 20 MB, so `byok_service.kubernetes` does so only to connect.
"""

import asyncio
import errno
import json
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from yarl import URL

from byok_service.kubernetes_errors import (
    UNAUTHORIZED,
    ApiError,
    ApiUnavailable,
    SourceError,
    error_of,
)
from byok_service.kubernetes_resources import Request
from byok_service.proxies import Proxies, Proxy
from byok_service.setting_types import IN_CLUSTER

_LOG = logging.getLogger(__name__)
_REFRESH_SECONDS = 60.0
"""A token is read again after this time: the kubelet renews a projected one when 80 % of its life are over."""
_RETRY_SECONDS = 5.0
"""Credentials that were not taken, or could not be read, are read again at most this often."""
_LOAD_TIMEOUT = 10.0
"""Seconds for an exec plugin."""
_PATIENCE = 1.0
"""Seconds for which a request with a token that is still good waits for the next one."""
_KUBECONFIG_LIMIT = 1024 * 1024
_TOKEN_LIMIT = 64 * 1024
_ERROR_LIMIT = 64 * 1024
"""Bytes of an error's body."""
_SUCCESS = range(200, 300)


class Connection:
    """Requests to one API server, with credentials that are read again as they change."""

    @classmethod
    async def open(cls, source: str, environ: Mapping[str, str] = os.environ) -> "Connection":
        """Read `in-cluster`, or the kubeconfig at a path; SourceError if that cannot be used.

        A kubeconfig's API server is asked through its `proxy-url`, else by HTTPS_PROXY and NO_PROXY of `environ`, as
        kubectl does; the one of the cluster that a pod is in through no proxy.
        """
        credentials = _Credentials(source)
        await credentials.load()
        if source != IN_CLUSTER:
            credentials.choose_proxy(environ)
        return cls(credentials)

    def __init__(self, credentials: "_Credentials") -> None:
        self._credentials = credentials
        configuration = credentials.configuration
        configuration.client_session_kwargs = {
            "cookie_jar": aiohttp.DummyCookieJar(),
            "middlewares": (_refuse_redirects,),
            # aiohttp knows no networks in NO_PROXY, and would read ~/.netrc for each request.
            "trust_env": False,
        }
        try:
            self._rest = RESTClientObject(configuration)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise credentials.unusable(error) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._credentials.close()
        await self._rest.close()

    @asynccontextmanager
    async def send(self, request: Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:  # noqa: ASYNC109 - aiohttp's, with its parts
        """Send a request and give its answer, the body unread; ApiError or ApiUnavailable for all but 2xx.

        What goes wrong while the body is read becomes ApiUnavailable too.
        """
        try:
            response = await self._answer(request, timeout)
            try:
                yield response
            finally:
                _leave(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailable(f"the API server at {self._credentials.host} {_trouble(error)}") from error

    async def _answer(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        token = await self._credentials.token()
        response = await self._try(request, limits, token)
        if response.status == UNAUTHORIZED:
            newer = await self._credentials.newer_than(token)
            if newer != token:
                response.close()
                response = await self._try(request, limits, newer)
        if response.status in _SUCCESS:
            return response
        try:
            raise await _refusal(response)
        finally:
            _leave(response)

    async def _try(self, request: Request, limits: aiohttp.ClientTimeout, token: str | None) -> aiohttp.ClientResponse:
        # Not compressed: it is the same data centre, and CPU is dearer than bytes there.
        headers = {
            "Accept": "application/json, */*",
            "Accept-Encoding": "identity",
            "Content-Type": request.content_type,
            "User-Agent": "byok",
        }
        if token is not None:
            headers["Authorization"] = token
        answer = await self._rest.request(  # type: ignore[no-untyped-call]  # the client is not annotated
            request.method,
            f"{self._credentials.host}{request.path}",
            headers=headers,
            body=request.body,
            _request_timeout=limits,
        )
        response: aiohttp.ClientResponse = answer.response
        return response


class _Credentials:
    """What the loaders of the official client find at `source`, found again every minute and after a 401."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.configuration = Configuration()
        self._loader: Any = None  # of no type: the client has no stubs
        self._token: str | None = None
        self._loaded_at = 0.0
        self._tried_at = 0.0
        self._reloading: asyncio.Task[None] | None = None
        # Its messages quote what plugins print.
        logging.getLogger("kubernetes.aio.config.kube_config").disabled = True

    @property
    def host(self) -> str:
        host: str = self.configuration.host
        return host

    def choose_proxy(self, environ: Mapping[str, str]) -> None:
        """Settle by which proxy the API server is asked; SourceError for one that is none, as SOCKS is not."""
        named = self.configuration.proxy
        try:
            found = Proxy.parse(named) if named else Proxies.of_environment(environ, URL(self.host))
        except ValueError as error:
            raise SourceError(f"{self.source}: {f'proxy-url: expected {error}' if named else error}") from None
        self.configuration.proxy = found.url if found else None

    async def token(self) -> str | None:
        """Give the Authorization header, if there is one; an old one where a new one cannot be had at once."""
        if time.monotonic() - self._loaded_at >= _REFRESH_SECONDS:
            await self._reload(fresh=False, wait=_PATIENCE)
        return self._token

    async def newer_than(self, token: str | None) -> str | None:
        """Give the Authorization header after `token` met a 401: read again, unless others did so meanwhile."""
        if self._token == token:
            await self._reload(fresh=True, wait=_LOAD_TIMEOUT)
        return self._token

    async def close(self) -> None:
        """Give up reading."""
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.wait([self._reloading])

    async def load(self) -> None:
        """Read the credentials; SourceError if they cannot be used."""
        self._tried_at = time.monotonic()
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT):
                await self._load()
        except (
            ConfigException,
            yaml.YAMLError,
            OSError,
            TimeoutError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:
            # The loader lets some of these out of a kubeconfig that is none.
            raise self.unusable(error) from None
        self._loaded_at = self._tried_at

    async def _load(self) -> None:
        if self.source == IN_CLUSTER:
            load_incluster_config(  # type: ignore[no-untyped-call]  # the client is not annotated
                client_configuration=self.configuration, try_refresh_token=False
            )
        elif self._loader is not None:
            await self._loader.load_and_set(self.configuration)
        else:
            if (await asyncio.to_thread(Path(self.source).stat)).st_size > _KUBECONFIG_LIMIT:
                raise ValueError("it is too large")
            self._loader = await load_kube_config(  # type: ignore[no-untyped-call]  # the client is not annotated
                config_file=self.source, client_configuration=self.configuration, persist_config=False
            )
        token = self.configuration.api_key.get("BearerToken")
        if token is not None:
            self._token = _header_of(token)
        elif not self.configuration.cert_file:
            # An exec plugin that fails does not stop the loader.
            raise PermissionError(errno.EACCES, "it gives neither token nor client certificate")

    async def _reload(self, *, fresh: bool, wait: float) -> None:
        """Load again, and wait for that as long as allowed; `fresh`: also what a plugin said is still valid."""
        if self._reloading is None or self._reloading.done():
            if time.monotonic() - self._tried_at < _RETRY_SECONDS:
                return
            if fresh:
                self._loader = None
            # A task of its own: it serves all who wait, so the first one's deadline must not end it.
            self._reloading = asyncio.create_task(self._load_again())
        await asyncio.wait([self._reloading], timeout=wait)

    async def _load_again(self) -> None:
        try:
            await self.load()
        except SourceError as error:
            _LOG.warning("credentials for the API server could not be read again", extra={"cause": str(error)})

    def unusable(self, error: BaseException) -> SourceError:
        """Say that the source cannot be used, without what the loader says: that may quote a whole user with token."""
        if self.source == IN_CLUSTER:
            what = "this process has no usable ServiceAccount: run it in a pod, or name a kubeconfig"
        else:
            what = f"{self.source}: no usable kubeconfig; try kubectl --kubeconfig {self.source} get --raw /version"
        return SourceError(f"{what} ({_trouble(error)})")


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    # An API server sends none, and a body may hold somebody's token.
    response = await handler(request)
    if response.status // 100 == 3:  # noqa: PLR2004 - HTTP's redirections
        response.close()
        raise aiohttp.ClientPayloadError(f"answered {response.status}, a redirection")
    return response


def _header_of(token: str) -> str:
    # Files end in a newline, which no header may hold.
    text = token.strip()
    if not text.isascii() or not text.isprintable() or len(text) > _TOKEN_LIMIT:
        raise ValueError("the token is no text that fits into a header")
    return text


def _trouble(error: BaseException) -> str:
    match error:
        case TimeoutError():
            return "did not answer in time"
        case ssl.SSLError():
            # Only the ssl module itself gives a reason.
            return f"is not trusted: {getattr(error, 'reason', None) or type(error).__name__}"
        case OSError() if error.strerror:
            return f"cannot be used: {error.strerror}"
        case aiohttp.ClientPayloadError():
            return f"broke off: {error}"
        case _:
            return f"cannot be used: {type(error).__name__}"


def _leave(response: aiohttp.ClientResponse) -> None:
    # What was not read to its end is closed, so that nobody else gets the rest of it.
    if response.content.at_eof():
        response.release()
    else:
        response.close()


async def _refusal(response: aiohttp.ClientResponse) -> ApiError | ApiUnavailable:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ERROR_LIMIT:
            break
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    wait = response.headers.get("Retry-After", "")
    return error_of(
        response.status,
        document if isinstance(document, dict) else {},
        retry_after=float(wait) if wait.isascii() and wait.isdigit() else None,
    )
