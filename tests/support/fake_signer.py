"""The signer's gRPC door with a local key behind it: real signatures, scripted refusals, no guard and no KMS."""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import cbor2
import grpc

from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2
from byok_sandbox.ca import TlsAuthority
from byok_signer.rpc_status import STATUS_DETAILS_KEY, status_of
from tests.support.pki import Identity, identity
from tests.testenv.ports import free_ports

TOKEN = "token-of-the-test"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"  # grpc/health/v1/health.proto, HealthCheckResponse
_X5CHAIN = 33  # RFC 9360, section 2
HASH = hashlib.sha256(b"{}").hexdigest()

Failure = Refusal | grpc.StatusCode
"""What a call ends with: a refusal with its details, or a bare status as something other than a signer would send."""


@dataclass
class Recipe:
    """The recipe that the fake serves under any name; every test may change it."""

    name: str = "photo"
    version: int = 1
    effective_hash: str = HASH
    media_type: str = "image"
    assertions: tuple[str, ...] = ("ai_generated",)
    optional_assertions: tuple[str, ...] = ()
    defaults: dict[str, str] = field(default_factory=dict)
    require_ingredient_chain: bool = False
    forbid_ingredients: bool = False
    timestamp_url: str = ""
    algorithm: str | None = None


class FakeSigner:
    """Answers as scripted, else as the signer would; `calls` says what it was asked."""

    def __init__(self, key: Identity) -> None:
        self.identity = key
        self.recipe = Recipe()
        self.failures: deque[Failure] = deque()
        """What the next SignClaim calls end with."""
        self.recipe_failures: deque[Failure] = deque()
        """What the next GetRecipe calls end with."""
        self.accepted_tokens = {TOKEN}
        self.refused_tokens: list[str] = []
        self.signature: bytes | None = None
        """Answered instead of a real one."""
        self.held: threading.Event | None = None
        """SignClaim answers only once this is set."""
        self.held_after = 0
        """How many SignClaim calls are answered before `held` counts."""
        self.asked = threading.Event()
        """Set as soon as a SignClaim has arrived."""
        self.abandoned = threading.Event()
        """Set when a caller gives up a held SignClaim."""
        self.calls_at_once: int | None = None
        """Beyond them gRPC itself refuses; heeded by `start`."""
        self.message_limit = 4 * 1024 * 1024
        """Bytes; heeded by `start`."""
        self.times: list[float] = []
        """When each SignClaim arrived, by the monotonic clock."""
        self.health = SERVING
        self.calls: list[str] = []
        self.claims: list[signer_pb2.SignClaimRequest] = []
        self.address = ""
        self._server: grpc.Server | None = None

    def start(self, tls: TlsAuthority | None) -> None:
        """Serve at `address`, with a fresh certificate of `tls` if that is not None."""
        options = (("grpc.max_receive_message_length", self.message_limit),)
        self._server = grpc.server(ThreadPoolExecutor(8), options=options, maximum_concurrent_rpcs=self.calls_at_once)
        self._server.add_generic_rpc_handlers(_handlers(self))
        if tls is None:
            self._server.add_insecure_port(self.address)
        else:
            certificate = tls.issue(now=datetime.now(UTC))
            pair = (certificate.key_pem.encode(), certificate.certificate_pem.encode())
            self._server.add_secure_port(self.address, grpc.ssl_server_credentials([pair]))
        self._server.start()

    def stop(self) -> None:
        """End every call, and serve no more until `start`."""
        if self._server is not None:
            self._server.stop(0).wait()

    def get_recipe(
        self,
        request: signer_pb2.GetRecipeRequest,
        context: grpc.ServicerContext,
    ) -> signer_pb2.GetRecipeResponse:
        self.calls.append(f"GetRecipe {request.recipe}")
        self._admit(context, self.recipe_failures)
        recipe = self.recipe
        response = signer_pb2.GetRecipeResponse(
            namespace="media",
            name=recipe.name,
            version=recipe.version,
            effective_hash=recipe.effective_hash,
            effective_json=b"{}",
            media_type=recipe.media_type,
            assertions=recipe.assertions,
            optional_assertions=recipe.optional_assertions,
            defaults=recipe.defaults,
            require_ingredient_chain=recipe.require_ingredient_chain,
            forbid_ingredients=recipe.forbid_ingredients,
            timestamp_url=recipe.timestamp_url,
            algorithm=recipe.algorithm or self.identity.algorithm.value,
            x5chain=self.identity.chain.ders,
            reserve_size=20_000,
            key="security/brand",
        )
        response.certificate_not_after.FromDatetime(self.identity.chain.not_after)
        return response

    def sign_claim(
        self,
        request: signer_pb2.SignClaimRequest,
        context: grpc.ServicerContext,
    ) -> signer_pb2.SignClaimResponse:
        self.calls.append(f"SignClaim {request.recipe}")
        self.claims.append(request)
        self.times.append(time.monotonic())
        self._hold(context)
        self._admit(context, self.failures)
        self._check_current(request, context)
        claim = cbor2.loads(request.claim)[3]
        return signer_pb2.SignClaimResponse(
            signature=self.signature or self.identity.sign(request.claim),
            algorithm=self.identity.algorithm.value,
            key="security/brand",
            key_arn="arn:aws:kms:eu-central-1:111122223333:key/1",
            recipe_hash=request.expected_recipe_hash,
            manifest_id=cbor2.loads(claim)["signature"].split("/")[2],
            claim_sha256=hashlib.sha256(claim).hexdigest(),
            audit_id=f"fake/{len(self.claims)}",
            kms_request_id="request-1",
        )

    def probe_key(
        self,
        request: signer_pb2.ProbeKeyRequest,
        context: grpc.ServicerContext,
    ) -> signer_pb2.ProbeKeyResponse:
        self.calls.append(f"ProbeKey {request.namespace}/{request.name}")
        self._admit(context, self.failures)
        passed = signer_pb2.ProbeResult(outcome=signer_pb2.ProbeResult.PASSED)
        return signer_pb2.ProbeKeyResponse(get_public_key=passed, sign=passed, certificate=passed)

    def labels(self) -> list[str]:
        """Labels of all assertions of the last claim."""
        claim = cbor2.loads(cbor2.loads(self.claims[-1].claim)[3])
        entries = [*claim["created_assertions"], *claim.get("gathered_assertions", [])]
        return [entry["url"].rpartition("/")[2] for entry in entries]

    def _hold(self, context: grpc.ServicerContext) -> None:
        if self.held is None or len(self.claims) <= self.held_after:
            self.asked.set()
            return
        over = self.held

        def abandon() -> None:
            self.abandoned.set()
            over.set()

        if not context.add_callback(abandon):
            abandon()
        self.asked.set()
        over.wait(30)

    def _check_current(self, request: signer_pb2.SignClaimRequest, context: grpc.ServicerContext) -> None:
        if request.expected_recipe_hash != self.recipe.effective_hash:
            _end(context, Refusal(Reason.RecipeChanged, "another recipe"))
        protected = cbor2.loads(cbor2.loads(request.claim)[1])
        if protected[_X5CHAIN] != [*self.identity.chain.ders]:
            _end(context, Refusal(Reason.CertificateChanged, "another chain"))

    def _admit(self, context: grpc.ServicerContext, failures: deque[Failure]) -> None:
        sent = str(dict(context.invocation_metadata()).get("authorization")).removeprefix("Bearer ")
        if sent not in self.accepted_tokens:
            self.refused_tokens.append(sent)
            _end(context, Refusal(Reason.TokenExpired, "the token has expired"))
        if failures:
            _end(context, failures.popleft())


def _end(context: grpc.ServicerContext, failure: Failure) -> NoReturn:
    if isinstance(failure, grpc.StatusCode):
        context.abort(failure, "no signer here")
    status = status_of(failure)
    context.set_trailing_metadata(((STATUS_DETAILS_KEY, status.SerializeToString()),))
    context.abort(failure.reason.facts.status, status.message)


def _handlers(signer: FakeSigner) -> tuple[grpc.GenericRpcHandler, ...]:
    get_recipe = grpc.unary_unary_rpc_method_handler(
        signer.get_recipe,
        request_deserializer=signer_pb2.GetRecipeRequest.FromString,
        response_serializer=signer_pb2.GetRecipeResponse.SerializeToString,
    )
    sign_claim = grpc.unary_unary_rpc_method_handler(
        signer.sign_claim,
        request_deserializer=signer_pb2.SignClaimRequest.FromString,
        response_serializer=signer_pb2.SignClaimResponse.SerializeToString,
    )
    probe_key = grpc.unary_unary_rpc_method_handler(
        signer.probe_key,
        request_deserializer=signer_pb2.ProbeKeyRequest.FromString,
        response_serializer=signer_pb2.ProbeKeyResponse.SerializeToString,
    )
    services = signer_pb2.DESCRIPTOR.services_by_name
    return (
        grpc.method_handlers_generic_handler(
            services["Signer"].full_name, {"GetRecipe": get_recipe, "SignClaim": sign_claim}
        ),
        grpc.method_handlers_generic_handler(services["KeyProbe"].full_name, {"ProbeKey": probe_key}),
        grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(lambda *_: signer.health)}
        ),
    )


@contextmanager
def serving(folder: Path, key: Identity | None = None, *, tls: TlsAuthority | None = None) -> Iterator[FakeSigner]:
    """Serve on a unix socket in `folder`, or with TLS on a free port of localhost."""
    signer = FakeSigner(key or identity())
    signer.address = f"unix:{folder}/signer.sock" if tls is None else f"localhost:{free_ports(1)[0]}"
    signer.start(tls)
    try:
        yield signer
    finally:
        if signer.held is not None:
            signer.held.set()
        signer.stop()
