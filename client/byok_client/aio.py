"""The signer's client for asyncio."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import count
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from byok_api.signer.v1.signer_pb2 import (
    GetRecipeRequest,
    ProbeKeyRequest,
    ProbeKeyResponse,
    SignClaimRequest,
    SignClaimResponse,
)
from byok_api.signer.v1.signer_pb2_grpc import KeyProbeStub, SignerStub
from byok_client.answers import Failure, error_of, retry_delay
from byok_client.assets import PathOrStream
from byok_client.callback import SigningCallback
from byok_client.client import CHANNEL_OPTIONS, checked_reference
from byok_client.recipes import Recipe, RecipeCache, recipe_of
from byok_client.settings import ClientSettings, TokenFile
from byok_client.signing import Job, SigningResult, SignOptions, sign_asset
from byok_client.switch import CalledOff, Switch
from byok_client.verification import TrustAnchors, VerificationResult, verify_asset

WORKERS = 32
"""Assets that one client works on at once."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_T = TypeVar("_T")


class _Channel:
    """The signer over a channel of the running event loop."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._token = TokenFile(settings.token_file)
        self._recipes = RecipeCache(time.monotonic)
        if settings.is_local:
            self._channel = grpc.aio.insecure_channel(settings.address, options=CHANNEL_OPTIONS)
        else:
            credentials = settings.channel_credentials()
            self._channel = grpc.aio.secure_channel(settings.address, credentials, options=CHANNEL_OPTIONS)
        self._signer = SignerStub(self._channel)
        self._probe = KeyProbeStub(self._channel)

    async def recipe(self, reference: str, *, fresh: bool) -> Recipe:
        checked = checked_reference(reference)
        known = None if fresh else self._recipes.get(checked)
        if known is not None:
            return known
        recipe = recipe_of(await self._call(self._signer.GetRecipe, GetRecipeRequest(recipe=checked)))
        self._recipes.put(checked, recipe)
        return recipe

    async def sign_claim(self, request: SignClaimRequest) -> SignClaimResponse:
        return await self._call(self._signer.SignClaim, request)

    async def probe_key(self, request: ProbeKeyRequest) -> ProbeKeyResponse:
        return await self._call(self._probe.ProbeKey, request)

    async def close(self) -> None:
        await self._channel.close()

    async def _call(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]", request: _Request
    ) -> _Response:
        ends = time.monotonic() + self._settings.timeout
        for attempt in count():
            metadata = (("authorization", f"Bearer {self._token.read()}"),)
            try:
                return await method(request, timeout=ends - time.monotonic(), metadata=metadata)
            except grpc.aio.AioRpcError as rpc_error:
                failure = Failure(rpc_error.code(), rpc_error.details() or "", tuple(rpc_error.trailing_metadata()))
                error = error_of(failure, self._settings.address)
                chance = random.random()  # noqa: S311 - it only spreads retries
                delay = retry_delay(error, attempt, ends - time.monotonic(), chance)
                if delay is None:
                    raise error from rpc_error
            await asyncio.sleep(delay)
        raise AssertionError  # pragma: no cover - count() does not end


class _Bridge:
    """The channel as worker threads see it: their calls run in the event loop."""

    def __init__(self, channel: _Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._loop = loop

    def recipe(self, reference: str, switch: Switch, *, fresh: bool) -> Recipe:
        return self._run(self._channel.recipe(reference, fresh=fresh), switch)

    def sign_claim(self, request: SignClaimRequest, switch: Switch) -> SignClaimResponse:
        return self._run(self._channel.sign_claim(request), switch)

    def _run(self, work: Coroutine[object, object, _T], switch: Switch) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            with switch.ended_by(future.cancel):
                return future.result()
        except CancelledError as error:
            raise CalledOff from error


class AsyncSignerClient:
    """Signs and verifies assets as SignerClient does; belongs to the event loop that it is made in.

    A cancelled task leaves nothing behind: `sign` ends its work before it lets the cancellation through.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._remote = _Channel(settings)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="byok-sign")

    @classmethod
    def from_environment(cls) -> Self:
        """Make a client by BYOK_SIGNER_ADDRESS, BYOK_SIGNER_CA_FILE, BYOK_SIGNER_TOKEN_FILE and BYOK_VERIFIER_URL."""
        return cls(ClientSettings.from_environment())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        await self._remote.close()
        self._workers.shutdown(wait=False)

    async def sign(
        self,
        source: PathOrStream,
        *,
        recipe: str,
        metadata: Mapping[str, object] | None = None,
        output: PathOrStream | None = None,
        **options: Unpack[SignOptions],
    ) -> SigningResult:
        """Sign as SignerClient.sign does, in a thread of its own."""
        settings = self._settings
        job = Job(source, recipe, metadata or {}, settings.metadata, output, settings.verifier_url, options)
        switch, bridge = Switch(), _Bridge(self._remote, self._loop)
        return await self._in_worker(lambda: sign_asset(job, bridge, switch), switch)

    async def verify(self, source: PathOrStream, *, trust_anchors: TrustAnchors | None = None) -> VerificationResult:
        """Verify as SignerClient.verify does, in a thread of its own."""
        return await self._in_worker(lambda: verify_asset(source, trust_anchors), Switch())

    async def signing_callback(self, recipe: str) -> SigningCallback:
        """Make the callback for c2pa.Signer.from_callback, to be called in another thread than the event loop's."""
        fetched = await self._remote.recipe(recipe, fresh=False)
        switch, bridge = Switch(), _Bridge(self._remote, self._loop)
        return SigningCallback(fetched, lambda request: bridge.sign_claim(request, switch))

    async def recipe(self, reference: str) -> Recipe:
        """Ask for a recipe as it stands now."""
        return await self._remote.recipe(reference, fresh=True)

    async def probe_key(self, request: ProbeKeyRequest) -> ProbeKeyResponse:
        """Ask the signer whether it can use a key."""
        return await self._remote.probe_key(request)

    async def _in_worker(self, work: Callable[[], _T], switch: Switch) -> _T:
        running = self._loop.run_in_executor(self._workers, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            switch.call_off()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # read, or asyncio reports it as lost; the cancellation is the answer
            raise
