"""A whole signer in process: the real gRPC server on a unix socket, over keys in software and a trail in a file.

Nothing of the signer is replaced; only its ports are the sandbox's: SoftwareKms, and an issuer whose tokens are real.
"""
# ruff: noqa: ASYNC109 - the port's timeouts

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import grpc.aio

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, AuditId, ChainStart, Kind, Outcome, read_record, verify_chain
from byok_api.errors import Refusal
from byok_api.objects import Namespace
from byok_api.references import KeyArn, ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_sandbox.kms.keys import SoftwareKey
from byok_sandbox.software_kms import KeyStore, SoftwareKms, StoredKey
from byok_signer.audit import FileAuditSink
from byok_signer.decisions import Rules, build_catalogue
from byok_signer.edge import Edge
from byok_signer.entries import Catalogue, SigningEntry
from byok_signer.kms.errors import KmsError, told_of_attempts
from byok_signer.kms.port import KeyHandle, OnLost, PublicKeyAnswer, SignAnswer
from byok_signer.metrics import Metrics
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.quota import Quotas
from byok_signer.server import Services, SignerServer, services_for
from byok_signer.settings import PROGRAM, Settings
from tests.support.claims import created_claim
from tests.support.doorkeepers import cluster_doorkeepers, own_doorkeepers
from tests.support.manifests import PRESETS, key_document, parsed, pem_of_identity, recipe_document
from tests.support.pki import Identity, identity
from tests.support.reviewing_cluster import ReviewingCluster

JOB = ServiceAccount("media", "job")
PHOTO = ObjectName("media", "photo")
DEADLINE = 60.0
"""Seconds that a test waits for anything at all."""

_RULES = Rules(installation="test", presets_namespace=PRESETS)
_SPECS = {
    SigningAlgorithm.ES256: "ECC_NIST_P256",
    SigningAlgorithm.ES384: "ECC_NIST_P384",
    SigningAlgorithm.ES512: "ECC_NIST_P521",
    SigningAlgorithm.ED25519: "ECC_NIST_EDWARDS25519",
}


def _as_it_is(answer: SignAnswer) -> SignAnswer:
    return answer


@dataclass
class WatchedKms(SoftwareKms):
    """SoftwareKms that counts its signatures, and can be slow, fail, or answer wrongly."""

    signed: int = 0
    looks: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as a signature is asked for."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, signatures are made and their answers held back."""
    forge: Callable[[SignAnswer], SignAnswer] = _as_it_is
    failure: Exception | None = None
    """What Sign ends with instead of an answer."""
    fails_once: bool = False
    losses: int = 0
    """Answers of Sign that get lost, one after the other, before one arrives."""
    look_failure: KmsError | None = None
    look_gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, public keys are not told yet."""

    def __post_init__(self) -> None:
        self.gate.set()
        self.look_gate.set()

    async def get_public_key(self, key: KeyHandle, *, timeout: float) -> PublicKeyAnswer:
        self.looks += 1
        await self.look_gate.wait()
        if self.look_failure is not None:
            raise self.look_failure
        return await super().get_public_key(key, timeout=timeout)

    async def sign(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        message: bytes,
        timeout: float,
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        sign = partial(super().sign, key, algorithm, message=message, timeout=timeout)
        await self._lose(sign, on_lost)
        return await self._watched(sign())

    async def sign_digest(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        digest: bytes,
        timeout: float,
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        sign = partial(super().sign_digest, key, algorithm, digest=digest, timeout=timeout)
        await self._lose(sign, on_lost)
        return await self._watched(sign())

    async def _lose(self, sign: Callable[[], Awaitable[SignAnswer]], on_lost: OnLost | None) -> None:
        for _ in range(self.losses):
            await sign()
            self.signed += 1
            await self.gate.wait()
            lost = (Attempt(None, Outcome.UNKNOWN),)
            try:
                if on_lost is not None:
                    await on_lost(lost)
            except Refusal as refusal:
                raise told_of_attempts(refusal, lost) from refusal

    async def _watched(self, signing: Awaitable[SignAnswer]) -> SignAnswer:
        self.asked.set()
        answer = await signing
        self.signed += 1
        await self.gate.wait()
        failure = self.failure
        if self.fails_once:
            self.failure = None
        if failure is not None:
            raise failure
        return self.forge(answer)


class HeldAudit(FileAuditSink):
    """FileAuditSink that can be slow."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.gate.set()
        self.held = 0

    async def append(self, event: AuditEvent) -> AuditId:
        self.held += not self.gate.is_set()
        await self.gate.wait()
        return await super().append(event)


class Clock:
    """The real time, unless a test moves it."""

    offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def seconds(self) -> float:
        return time.monotonic() + self.offset.total_seconds()


@dataclass
class Bench:
    """A running signer, and all that is behind it for tests to change."""

    folder: Path
    issuer: Issuer
    kms: WatchedKms
    audit: HeldAudit
    clock: Clock
    metrics: Metrics
    edge: Edge
    pipeline: Pipeline
    settings: Settings
    services: Services
    server: SignerServer
    channel: grpc.aio.Channel
    catalogue: Catalogue
    catalogue_confirmed_at: float = inf
    token: str = ""
    """Whose calls the following are; empty for nobody's."""

    @property
    def signer(self) -> "rpc.SignerAsyncStub":
        return rpc.SignerStub(self.channel)

    @property
    def probe(self) -> "rpc.KeyProbeAsyncStub":
        return rpc.KeyProbeStub(self.channel)

    @property
    def certification(self) -> "rpc.CertificationAsyncStub":
        return rpc.CertificationStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def raw_unary(self, method: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
        """Call a method with any bytes."""
        return self.channel.unary_unary(method)

    def raw_stream(self, method: str) -> "grpc.aio.StreamStreamMultiCallable[bytes, bytes]":
        """Call a streaming method with any bytes."""
        return self.channel.stream_stream(method)

    def call_as(self, account: ServiceAccount, *, lifetime: timedelta = timedelta(hours=1)) -> None:
        """Have another caller make the following calls."""
        self.token = self.issuer.mint(account, now=self.clock.now(), lifetime=lifetime)

    def apply(self, *documents: dict[str, Any]) -> None:
        """Replace the catalogue."""
        self.catalogue = catalogue_of(*documents)

    def store(self, who: Identity) -> StoredKey:
        """Have KMS hold an identity's key."""
        stored = self.kms.keys.create("ECC_NIST_P256")
        stored.material = SoftwareKey(_SPECS.get(who.algorithm, "RSA_2048"), who.private_key)
        return stored

    def use(self, who: Identity, **spec: Any) -> StoredKey:  # noqa: ANN401 - any part of a ByokKey's spec
        """Have the recipe `photo` sign with an identity's key."""
        stored = self.store(who)
        self.apply(certified_key(who, stored.arn, **spec), recipe_document())
        return stored

    @property
    def entry(self) -> SigningEntry:
        """The recipe `photo`."""
        entry = self.catalogue.recipes[PHOTO]
        assert isinstance(entry, SigningEntry)
        return entry

    def request(self, claim: bytes | None = None, recipe: str = "photo") -> pb.SignClaimRequest:
        """Ask to sign a claim, by default the session's ES256 one."""
        sig_structure = created_claim().sig_structure if claim is None else claim
        return pb.SignClaimRequest(recipe=recipe, expected_recipe_hash=self.entry.recipe.hash, claim=sig_structure)

    async def sign(self, request: pb.SignClaimRequest | None = None) -> pb.SignClaimResponse:
        """Call SignClaim."""
        return await self.signer.SignClaim(request or self.request(), metadata=self.metadata, timeout=DEADLINE)

    async def records(self, kind: Kind) -> list[AuditEvent]:
        """What the trail tells once all that is under way is in it; its chain must be intact."""
        await self.edge.idle()
        await self.pipeline.drain()
        lines = (self.folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
        assert verify_chain(lines).intact
        events = (read_record(line.rstrip(b"\n")).event for line in lines)
        return [event for event in events if not isinstance(event, ChainStart) and event.kind is kind]


def catalogue_of(*documents: dict[str, Any]) -> Catalogue:
    """Resolve documents as a folder of them is."""
    objects = [parsed(document) for document in documents]
    labels = {found.metadata.name: found.labels for found in objects if isinstance(found, Namespace)}
    return build_catalogue([found for found in objects if not isinstance(found, Namespace)], _RULES, labels)


def certified_key(who: Identity, arn: KeyArn, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any part of a spec
    """The ByokKey `media/brand` with an identity's certificate."""
    certificate = {"pem": pem_of_identity(who)}
    algorithm = str(who.algorithm)
    return key_document(
        "media/brand",
        **{"aws": {"keyArn": arn.text}, "certificate": certificate, "signingAlgorithm": algorithm, **spec},
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; TimeoutError if it does not come about."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for raises no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_bench(folder: Path, cluster: ReviewingCluster | None = None) -> AsyncIterator[Bench]:
    """Run a signer whose recipe `photo` signs with the session's ES256 key, and be the job that calls it."""
    clock, kms, metrics = Clock(), WatchedKms(KeyStore()), Metrics()
    async with AsyncExitStack() as stack:
        if cluster is None:
            doors = own_doorkeepers(folder, now=clock.now)
        else:
            opened = cluster_doorkeepers(cluster, folder, now=clock.now, clock=clock.seconds, observe=metrics.reviewed)
            doors = await stack.enter_async_context(opened)
        # The settings demand the file, whatever is asked in its place.
        doors.issuer.write_jwks(folder / "jwks.json")
        audit = HeldAudit(folder / "audit.jsonl")
        stack.push_async_callback(audit.close)
        ports = Ports(
            catalogue=lambda: bench.catalogue,
            authenticator=doors.authenticator,
            access=doors.access,
            catalogue_confirmed_at=lambda: bench.catalogue_confirmed_at,
            kms=kms,
            quotas=Quotas(per_second=10_000, replicas=lambda: 1, clock=time.monotonic),
            audit=audit,
            metrics=metrics,
            now=clock.now,
            clock=clock.seconds,
        )
        services = services_for(ports)
        address = f"unix:{folder}/s"
        flags = [f"--manifests={folder}", "--installation=test", f"--listen={address}", "--token-issuer=test"]
        flags += [f"--token-jwks-file={folder}/jwks.json", f"--audit={folder}/audit.jsonl"]
        settings = PROGRAM.read(flags, {})
        server = SignerServer(settings, services)
        await server.start()
        stack.push_async_callback(server.stop, DEADLINE)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        bench = Bench(
            folder=folder,
            issuer=doors.issuer,
            kms=kms,
            audit=audit,
            clock=clock,
            metrics=metrics,
            edge=services.edge,
            pipeline=services.signer.pipeline,
            settings=settings,
            services=services,
            server=server,
            channel=channel,
            catalogue=Catalogue(),
        )
        bench.use(identity(SigningAlgorithm.ES256))
        bench.call_as(JOB)
        yield bench
        kms.gate.set()
        kms.look_gate.set()
        audit.gate.set()
