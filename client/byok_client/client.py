"""The signer's client for blocking code."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from itertools import count
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from byok_api.errors import Reason, Refusal
from byok_api.references import RecipeReference
from byok_api.signer.v1.signer_pb2 import (
    GetRecipeRequest,
    ProbeKeyRequest,
    ProbeKeyResponse,
    SignClaimRequest,
    SignClaimResponse,
)
from byok_api.signer.v1.signer_pb2_grpc import KeyProbeStub, SignerStub
from byok_client.answers import Failure, SignerError, error_of, retry_delay
from byok_client.assets import PathOrStream
from byok_client.callback import SigningCallback
from byok_client.recipes import Recipe, RecipeCache, recipe_of
from byok_client.settings import ClientSettings, TokenFile
from byok_client.signing import Job, SigningResult, SignOptions, sign_asset
from byok_client.switch import CalledOff, Switch
from byok_client.verification import TrustAnchors, VerificationResult, verify_asset

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.max_receive_message_length", 1024 * 1024),
    ("grpc.max_send_message_length", 1024 * 1024),
    # Over all addresses that the name has: what is tried again is then rather asked of another replica.
    ("grpc.lb_policy_name", "round_robin"),
)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_T = TypeVar("_T")


class _Channel:
    """The signer over a blocking channel."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._token = TokenFile(settings.token_file)
        self._recipes = RecipeCache(time.monotonic)
        if settings.is_local:
            self._channel = grpc.insecure_channel(settings.address, options=CHANNEL_OPTIONS)
        else:
            credentials = settings.channel_credentials()
            self._channel = grpc.secure_channel(settings.address, credentials, options=CHANNEL_OPTIONS)
        self._signer = SignerStub(self._channel)
        self._probe = KeyProbeStub(self._channel)

    def recipe(self, reference: str, switch: Switch, *, fresh: bool) -> Recipe:
        checked = checked_reference(reference)
        known = None if fresh else self._recipes.get(checked)
        if known is not None:
            return known
        recipe = recipe_of(self._call(self._signer.GetRecipe, GetRecipeRequest(recipe=checked), switch))
        self._recipes.put(checked, recipe)
        return recipe

    def sign_claim(self, request: SignClaimRequest, switch: Switch) -> SignClaimResponse:
        return self._call(self._signer.SignClaim, request, switch)

    def probe_key(self, request: ProbeKeyRequest, switch: Switch) -> ProbeKeyResponse:
        return self._call(self._probe.ProbeKey, request, switch)

    def close(self) -> None:
        self._channel.close()

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]", request: _Request, switch: Switch
    ) -> _Response:
        ends = time.monotonic() + self._settings.timeout
        for attempt in count():
            try:
                return self._attempt(method, request, ends - time.monotonic(), switch)
            except SignerError as error:
                chance = random.random()  # noqa: S311 - it only spreads retries
                delay = retry_delay(error, attempt, ends - time.monotonic(), chance)
                if delay is None:
                    raise
            switch.sleep(delay)
        raise AssertionError  # pragma: no cover - count() does not end

    def _attempt(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        timeout: float,
        switch: Switch,
    ) -> _Response:
        metadata = (("authorization", f"Bearer {self._token.read()}"),)
        call = method.future(request, timeout=timeout, metadata=metadata)
        try:
            with switch.ended_by(call.cancel):
                return call.result()
        except grpc.FutureCancelledError as error:
            raise CalledOff from error
        except grpc.RpcError as error:
            switch.check()
            raise error_of(failure_of(call), self._settings.address) from error


class SignerClient:
    """Signs and verifies assets; one channel for its whole life, safe to use from several threads.

    Every method raises Refusal (byok_api.errors) with a reason, and nothing else for bad input; SignerError is the one
    that the signer sent.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._remote = _Channel(settings)

    @classmethod
    def from_environment(cls) -> Self:
        """Make a client by BYOK_SIGNER_ADDRESS, BYOK_SIGNER_CA_FILE, BYOK_SIGNER_TOKEN_FILE and BYOK_VERIFIER_URL."""
        return cls(ClientSettings.from_environment())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._remote.close()

    def sign(
        self,
        source: PathOrStream,
        *,
        recipe: str,
        metadata: Mapping[str, object] | None = None,
        output: PathOrStream | None = None,
        **options: Unpack[SignOptions],
    ) -> SigningResult:
        """Sign a file, or a binary stream from where it stands, under `[namespace/]name[@version]`.

        `output` is a path or a binary stream; None signs a file in place. A file appears whole or not at all; on any
        failure, Ctrl-C included, what was there before is as it was.
        """
        settings = self._settings
        job = Job(source, recipe, metadata or {}, settings.metadata, output, settings.verifier_url, options)
        switch = Switch()
        return _in_worker(lambda: sign_asset(job, self._remote, switch), switch)

    def verify(self, source: PathOrStream, *, trust_anchors: TrustAnchors | None = None) -> VerificationResult:
        """Read the manifest of a file or binary stream and judge it; needs no signer."""
        return verify_asset(source, trust_anchors)

    def signing_callback(self, recipe: str) -> SigningCallback:
        """Make the callback for c2pa.Signer.from_callback, for those who build their own manifest."""
        switch = Switch()
        return SigningCallback(
            self._remote.recipe(recipe, switch, fresh=False),
            lambda request: self._remote.sign_claim(request, switch),
        )

    def recipe(self, reference: str) -> Recipe:
        """Ask for a recipe as it stands now."""
        return self._remote.recipe(reference, Switch(), fresh=True)

    def probe_key(self, request: ProbeKeyRequest) -> ProbeKeyResponse:
        """Ask the signer whether it can use a key."""
        return self._remote.probe_key(request, Switch())


def failure_of(call: "grpc.Call") -> Failure:
    """Take a failed call's status apart."""
    return Failure(call.code(), call.details() or "", tuple(call.trailing_metadata() or ()))


def checked_reference(reference: str) -> str:
    """Refuse what cannot name a recipe before asking for it; Refusal InvalidRequest."""
    if not isinstance(reference, str):
        raise Refusal(Reason.InvalidRequest, f"recipe is a {type(reference).__name__}, expected its name as text")
    try:
        return str(RecipeReference.parse(reference))
    except ValueError as error:
        raise Refusal(Reason.InvalidRequest, f"recipe {error}") from error


def _in_worker(work: Callable[[], _T], switch: Switch) -> _T:
    # Signals reach the main thread only, and the native library would swallow them there.
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            future.set_exception(error)

    thread = threading.Thread(target=run, name="byok-sign")
    try:
        thread.start()
        return future.result()
    except BaseException:
        switch.call_off()
        raise
    finally:
        if thread.ident is not None:
            thread.join()
