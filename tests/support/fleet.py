"""Several replicas of a bench's signer behind TLS, and an operator's way to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio

from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_client.retries import CHANNEL_OPTIONS
from byok_operator.signer_channels import SignerDoor
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.issuer import ServiceAccount
from byok_service.setting_types import TcpAddress
from byok_signer.server import Services, SignerServer, services_for
from tests.support.many_claims import another_claim
from tests.support.signer import DEADLINE, Bench

OPERATOR = ServiceAccount("media", "operator")
"""Without a cluster it watches the keys of its own namespace."""
LOOPBACK = "127.0.0.1"


@dataclass
class Member:
    """A replica that runs."""

    server: SignerServer
    services: Services
    channel: grpc.aio.Channel

    @property
    def port(self) -> int:
        return self.server.port


@dataclass
class Fleet:
    """Replicas by name, of one bench."""

    bench: Bench
    authority: TlsAuthority = field(default_factory=lambda: TlsAuthority.create(now=datetime.now(UTC)))
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def ca_file(self) -> Path:
        return self.bench.folder / "signers-ca.pem"

    @property
    def token_file(self) -> Path:
        return self.bench.folder / "operator-token"

    def write_token(self, *, lifetime: timedelta = timedelta(hours=1)) -> None:
        self.token_file.write_text(self.bench.issuer.mint(OPERATOR, now=self.bench.clock.now(), lifetime=lifetime))

    def write_tls(self) -> None:
        """Give new replicas a new certificate of the authority, which is trusted."""
        self.ca_file.write_text(self.authority.trust_anchor_pem)
        pair = self.authority.issue(now=datetime.now(UTC), names=("signer.test",))
        (self.bench.folder / "tls.crt").write_text(pair.certificate_pem)
        (self.bench.folder / "tls.key").write_text(pair.key_pem)

    async def start(self, name: str, *, host: str = LOOPBACK, port: int = 0) -> Member:
        """Start a replica."""
        bench = self.bench
        services = services_for(bench.pipeline._ports, replica=name)  # noqa: SLF001 - the bench keeps no other hold
        settings = bench.settings.model_copy(
            update={
                "listen": TcpAddress(host, port),
                "tls_cert_file": bench.folder / "tls.crt",
                "tls_key_file": bench.folder / "tls.key",
            }
        )
        server = SignerServer(settings, services)
        await server.start()
        credentials = grpc.ssl_channel_credentials(self.authority.trust_anchor_pem.encode())
        options = (("grpc.ssl_target_name_override", "signer.test"), ("grpc.use_local_subchannel_pool", 1))
        channel = grpc.aio.secure_channel(f"{host}:{server.port}", credentials, options)
        member = self.members[name] = Member(server, services, channel)
        return member

    async def stop(self, name: str, *, grace: float = 1.0) -> None:
        """Stop a replica."""
        member = self.members.pop(name)
        await member.channel.close()
        await member.server.stop(grace)

    async def sign(self, name: str) -> pb.SignClaimResponse:
        """Have one replica sign what nobody else does."""
        stub: rpc.SignerAsyncStub = rpc.SignerStub(self.members[name].channel)
        request = self.bench.request(another_claim())
        return await stub.SignClaim(request, metadata=self.bench.metadata, timeout=DEADLINE)

    def door(self, *ports: int, host: str = LOOPBACK) -> SignerDoor:
        """The way to these ports, or else to all replicas there are."""
        return SignerDoor(
            addresses=tuple(TcpAddress(host, port) for port in ports or (m.port for m in self.members.values())),
            ca_file=self.ca_file,
            token_file=self.token_file,
            server_name="signer.test",
        )


@asynccontextmanager
async def fleet_of(bench: Bench, *names: str) -> AsyncIterator[Fleet]:
    """Run replicas of a bench's signer, each with a memory of its own."""
    fleet = Fleet(bench)
    fleet.write_token()
    fleet.write_tls()
    try:
        for name in names:
            await fleet.start(name)
        yield fleet
    finally:
        bench.kms.gate.set()
        bench.audit.gate.set()
        for name in list(fleet.members):
            await fleet.stop(name, grace=0)


@asynccontextmanager
async def channel_to(fleet: Fleet, target: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel with the client's own options, which make no retries."""
    credentials = grpc.ssl_channel_credentials(fleet.authority.trust_anchor_pem.encode())
    options = (
        *CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", "signer.test"),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with grpc.aio.secure_channel(target, credentials, options) as channel:
        yield channel
