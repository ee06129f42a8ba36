"""The signer's client for blocking code."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from byok_api.errors import Reason, Refusal
from byok_api.references import RecipeReference
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
from byok_client.memory import Memory
from byok_client.recipes import Recipe, RecipeCache, recipe_of
from byok_client.retries import CHANNEL_OPTIONS, Course
from byok_client.settings import ClientSettings, TokenFile
from byok_client.signing import Job, SigningResult, SignOptions, sign_asset
from byok_client.switch import CalledOff, Switch
from byok_client.verification import TrustAnchors, VerificationResult, verify_asset
from byok_client.worker import in_worker

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Method = Callable[["_Connection"], "grpc.UnaryUnaryMultiCallable[_Request, _Response]"]


HEALTH, SERVING = "/grpc.health.v1.Health/Check", b"\x08\x01"
"""gRPC's health protocol by hand, for its stubs are a package of their own: field 1, the status, has the value 1."""


class _Connection:
    """A channel and its stubs, trusting the certificates it was made with for good."""

    def __init__(self, address: str, trusted: bytes | None, *, is_local: bool) -> None:
        self.trusted = trusted
        if is_local:
            self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(trusted)
            self.channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self.signer = SignerStub(self.channel)
        self.probe = KeyProbeStub(self.channel)
        self.certification = CertificationStub(self.channel)
        self.health: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(HEALTH)


class _Channel:
    """The signer over a blocking channel."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._token = TokenFile(settings.token_file)
        self._recipes = RecipeCache(time.monotonic)
        self._lock = threading.Lock()
        self._connection = self._connect(settings.trusted_certificates())

    def recipe(self, reference: str, switch: Switch, *, fresh: bool) -> Recipe:
        checked = checked_reference(reference)
        known = None if fresh else self._recipes.get(checked)
        if known is not None:
            return known
        request = GetRecipeRequest(recipe=checked)
        recipe = recipe_of(self._call(lambda to: to.signer.GetRecipe, request, switch))
        self._recipes.put(checked, recipe)
        return recipe

    def sign_claim(self, request: SignClaimRequest, switch: Switch) -> SignClaimResponse:
        return self._call(lambda to: to.signer.SignClaim, request, switch)

    def probe_key(self, request: ProbeKeyRequest, switch: Switch) -> ProbeKeyResponse:
        return self._call(lambda to: to.probe.ProbeKey, request, switch)

    def create_certificate_request(
        self, request: CreateCertificateRequestRequest, switch: Switch
    ) -> CreateCertificateRequestResponse:
        return self._call(lambda to: to.certification.CreateCertificateRequest, request, switch)

    def is_serving(self, switch: Switch) -> bool:
        return self._call(lambda to: to.health, b"", switch) == SERVING

    def close(self) -> None:
        self._connection.channel.close()

    def _connect(self, trusted: bytes | None) -> _Connection:
        return _Connection(self._settings.address, trusted, is_local=self._settings.is_local)

    def _call(self, method: "_Method[_Request, _Response]", request: _Request, switch: Switch) -> _Response:
        course = Course(self._settings.timeout, self._token)
        while True:
            connection = self._connection
            try:
                return self._attempt(method(connection), request, course, switch)
            except SignerError as error:
                delay = 0.0 if self._trusts_others_now(error, connection) else course.delay_after(error)
            switch.sleep(delay)

    def _attempt(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        course: Course,
        switch: Switch,
    ) -> _Response:
        metadata = course.metadata()
        call = method.future(request, timeout=course.remaining, metadata=metadata)
        try:
            with switch.ended_by(call.cancel):
                return call.result()
        except grpc.FutureCancelledError as error:
            raise CalledOff from error
        except grpc.RpcError as error:
            switch.check()
            raise error_of(failure_of(call), self._settings.address) from error

    def _trusts_others_now(self, error: SignerError, used: _Connection) -> bool:
        """Connect anew if the signer's certificate did not pass and the CA file has changed since."""
        if error.reason is not Reason.ConfigurationInvalid:
            return False
        with self._lock:
            if self._connection is used:
                trusted = self._settings.trusted_certificates()
                if trusted == used.trusted:
                    return False
                # The old channel is not closed: it goes when the calls that are under way on it have ended.
                self._connection = self._connect(trusted)
            return True


class SignerClient:
    """Signs and verifies assets; one channel for its whole life, safe to use from several threads.

    Every method raises Refusal (byok_api.errors) with a reason, and nothing else for bad input; SignerError is the one
    that the signer sent.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._remote = _Channel(settings)
        self._memory = Memory()

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
        return in_worker(lambda: sign_asset(job, self._remote, self._memory, switch), switch)

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

    def is_serving(self) -> bool:
        """Ask whether the signer takes calls (grpc.health.v1)."""
        return self._remote.is_serving(Switch())

    def create_certificate_request(self, request: CreateCertificateRequestRequest) -> CreateCertificateRequestResponse:
        """Have a certificate signing request made for a key, and signed by KMS."""
        return self._remote.create_certificate_request(request, Switch())


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
