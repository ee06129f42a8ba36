"""The signer's client for asyncio."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from byok_api.errors import Reason
from byok_api.signer.v1.signer_pb2 import (
    CreateCertificateRequestRequest,
    CreateCertificateRequestResponse,
    GetRecipeRequest,
    ProbeKeyRequest,
    ProbeKeyResponse,
    SignClaimRequest,
    SignClaimResponse,
)
from byok_api.signer.v1.signer_pb2_grpc import CertificationStub, KeyProbeStub, SignerStub
from byok_client.answers import Failure, SignerError, error_of
from byok_client.assets import PathOrStream
from byok_client.callback import SigningCallback
from byok_client.client import HEALTH, SERVING, checked_reference
from byok_client.memory import Memory
from byok_client.recipes import Recipe, RecipeCache, recipe_of
from byok_client.retries import CHANNEL_OPTIONS, Course
from byok_client.settings import ClientSettings, TokenFile
from byok_client.signing import Job, SigningResult, SignOptions, sign_asset
from byok_client.switch import CalledOff, Switch
from byok_client.verification import TrustAnchors, VerificationResult, verify_until

WORKERS = 32
"""Assets that one client works on at once."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_T = TypeVar("_T")
_Method = Callable[["_Connection"], "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]"]


class _Connection:
    """A channel and its stubs, trusting the certificates it was made with for good."""

    def __init__(self, address: str, trusted: bytes | None, *, is_local: bool) -> None:
        self.trusted = trusted
        if is_local:
            self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(trusted)
            self.channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self.signer = SignerStub(self.channel)
        self.probe = KeyProbeStub(self.channel)
        self.certification = CertificationStub(self.channel)
        self.health: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(HEALTH)


class _Channel:
    """The signer over a channel of the running event loop."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._token = TokenFile(settings.token_file)
        self._recipes = RecipeCache(time.monotonic)
        self._connection = self._connect(settings.trusted_certificates())

    async def recipe(self, reference: str, *, fresh: bool) -> Recipe:
        checked = checked_reference(reference)
        known = None if fresh else self._recipes.get(checked)
        if known is not None:
            return known
        recipe = recipe_of(await self._call(lambda to: to.signer.GetRecipe, GetRecipeRequest(recipe=checked)))
        self._recipes.put(checked, recipe)
        return recipe

    async def sign_claim(self, request: SignClaimRequest) -> SignClaimResponse:
        return await self._call(lambda to: to.signer.SignClaim, request)

    async def probe_key(self, request: ProbeKeyRequest) -> ProbeKeyResponse:
        return await self._call(lambda to: to.probe.ProbeKey, request)

    async def is_serving(self) -> bool:
        return await self._call(lambda to: to.health, b"") == SERVING

    async def create_certificate_request(
        self, request: CreateCertificateRequestRequest
    ) -> CreateCertificateRequestResponse:
        return await self._call(lambda to: to.certification.CreateCertificateRequest, request)

    async def close(self) -> None:
        await self._connection.channel.close()

    def _connect(self, trusted: bytes | None) -> _Connection:
        return _Connection(self._settings.address, trusted, is_local=self._settings.is_local)

    async def _call(self, method: "_Method[_Request, _Response]", request: _Request) -> _Response:
        course = Course(self._settings.timeout, self._token)
        while True:
            connection = self._connection
            metadata = course.metadata()
            try:
                return await method(connection)(request, timeout=course.remaining, metadata=metadata)
            except grpc.aio.AioRpcError as rpc_error:
                failure = Failure(rpc_error.code(), rpc_error.details() or "", tuple(rpc_error.trailing_metadata()))
                error = error_of(failure, self._settings.address)
                delay = 0.0 if self._trusts_others_now(error, connection) else course.delay_after(error)
            await asyncio.sleep(delay)

    def _trusts_others_now(self, error: SignerError, used: _Connection) -> bool:
        """Connect anew if the signer's certificate did not pass and the CA file has changed since."""
        if error.reason is not Reason.ConfigurationInvalid:
            return False
        if self._connection is used:
            trusted = self._settings.trusted_certificates()
            if trusted == used.trusted:
                return False
            # The old channel is not closed: it goes when the calls that are under way on it have ended.
            self._connection = self._connect(trusted)
        return True


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
        self._memory = Memory()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="byok-sign")
        self._under_way: set[Switch] = set()

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

    def call_off(self) -> None:
        """End all that is being signed and verified: with CancelledError, or well if it is past calling off.

        Unlike a cancelled task, this leaves no doubt about what has been signed.
        """
        for switch in self._under_way:
            switch.call_off()

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
        return await self._in_worker(lambda: sign_asset(job, bridge, self._memory, switch), switch)

    async def verify(self, source: PathOrStream, *, trust_anchors: TrustAnchors | None = None) -> VerificationResult:
        """Verify as SignerClient.verify does, in a thread of its own."""
        switch = Switch()
        return await self._in_worker(lambda: verify_until(source, trust_anchors, switch), switch)

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

    async def is_serving(self) -> bool:
        """Ask whether the signer takes calls (grpc.health.v1)."""
        return await self._remote.is_serving()

    async def create_certificate_request(
        self, request: CreateCertificateRequestRequest
    ) -> CreateCertificateRequestResponse:
        """Have a certificate signing request made for a key, and signed by KMS."""
        return await self._remote.create_certificate_request(request)

    async def _in_worker(self, work: Callable[[], _T], switch: Switch) -> _T:
        self._under_way.add(switch)
        running = self._loop.run_in_executor(self._workers, work)
        try:
            return await asyncio.shield(running)
        except CalledOff:
            raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            switch.call_off()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # read, or asyncio reports it as lost; the cancellation is the answer
            raise
        finally:
            self._under_way.remove(switch)
