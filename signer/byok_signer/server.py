"""The gRPC server with everything in it: services, health, reflection, limits, and an orderly end."""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from byok_api.signer.v1 import signer_pb2
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_service.setting_types import UnixSocket
from byok_service.settings import SettingsError
from byok_signer.certification import Certifier
from byok_signer.edge import Edge
from byok_signer.entries import ReservedKey
from byok_signer.gate import Gate
from byok_signer.limits import Limits
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.probing import Prober
from byok_signer.services import CertificationService, KeyProbeService, SignerService
from byok_signer.settings import Settings
from byok_signer.tls import PairFiles

SERVICES = tuple(service.full_name for service in signer_pb2.DESCRIPTOR.services_by_name.values())
_WINDOW = 64 * 1024 - 1
"""Bytes of a call that are taken in before they are read: HTTP/2's own initial window (RFC 9113, section 6.9.2)."""
_HEADER_LIMIT = 32 * 1024
"""Bytes of a call's metadata: a token has 1-2 KiB."""
_HANDSHAKE_SECONDS = 10
"""For TLS and HTTP/2 to be agreed on."""
_PING_SECONDS = 60
"""A connection on which nothing has come for so long is asked whether its other end still lives."""
_PING_ANSWER_SECONDS = 20
_PINGS_APART_SECONDS = 10
"""Between two pings that a client may send; a third that comes too early ends its connection."""
_FOR_EVER = 2**31 - 1
"""Milliseconds, in gRPC's words: what a connection that has come of age gives to the calls that are open on it."""
_QUIET = 0.25
"""Seconds without a call until it is taken that callers have gone elsewhere."""
_LAST_CALLS = 1.5
"""Seconds that they get for it."""
_LAST_ANSWERS = 1.0
"""Seconds for answers that are made to leave the process."""


@dataclass(frozen=True)
class Services:
    """What the server serves."""

    signer: SignerService
    probe: KeyProbeService
    certification: CertificationService
    edge: Edge


def services_for(ports: Ports, *, checkpoint_key: ReservedKey | None = None, replica: str = "") -> Services:
    """Put the services together; `replica` is what this signer is called: by default its host name, a pod's own."""
    pipeline, edge = Pipeline(ports), Edge(ports.metrics)
    return Services(
        signer=SignerService(pipeline, edge),
        probe=KeyProbeService(Prober(ports, pipeline, replica=replica or socket.gethostname())),
        certification=CertificationService(Certifier(ports, pipeline, checkpoint_key=checkpoint_key)),
        edge=edge,
    )


class SignerServer:
    """A gRPC server that is healthy from `start` until `stop`."""

    def __init__(self, settings: Settings, services: Services, limits: Limits | None = None) -> None:
        self._services = services
        self._health = health_aio.HealthServicer()
        self._gate = Gate(services.edge, services.signer.pipeline, limits or Limits.of(settings))
        # Not grpc's maximum_concurrent_rpcs: whoever takes no answers would hold its places, token or no token.
        self._server = grpc.aio.server(interceptors=(self._gate,), options=tuple(_options(settings).items()))
        # The stubs' types are those of methods without a gate.
        rpc.add_SignerServicer_to_server(services.signer, self._server)  # type: ignore[arg-type]
        rpc.add_KeyProbeServicer_to_server(services.probe, self._server)  # type: ignore[arg-type]
        rpc.add_CertificationServicer_to_server(services.certification, self._server)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
            self._server,
        )
        self.port = self._bind(settings)

    def _bind(self, settings: Settings) -> int:
        address = str(settings.listen)
        try:
            if isinstance(settings.listen, UnixSocket):
                return self._server.add_insecure_port(address)
            if settings.tls_cert_file is None or settings.tls_key_file is None:
                raise AssertionError("settings allow TCP only with TLS")
            files = PairFiles(settings.tls_cert_file, settings.tls_key_file)
            self._services.edge.metrics.observe_tls(files.not_after)
            return self._server.add_secure_port(address, files.credentials())
        except RuntimeError as error:
            # grpc says no more than that, and logs the rest.
            raise SettingsError(
                f"--listen {address}: cannot be bound: taken, or not an address of this machine"
            ) from error

    async def start(self) -> None:
        """Begin to serve, and say so to health checks."""
        await self._server.start()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Take no new calls, let those in flight end within `grace` seconds, then end them."""
        await self._health.enter_graceful_shutdown()
        # Before grpc's own stop: that one cancels what comes too late, and a cancelled caller does not ask elsewhere.
        self._services.edge.close()
        self._gate.stop()
        self._services.signer.end_streams()
        self._services.probe.end_watches()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._services.edge.idle(), grace)
        await self._services.certification.drain()
        await self._refuse_last_calls(min(grace, _LAST_CALLS))
        # Only health watchers and the last answers are left, and watchers never leave on their own.
        await self._server.stop(min(grace, _LAST_ANSWERS))

    async def _refuse_last_calls(self, seconds: float) -> None:
        """Have those refused who call again as soon as they have their answer."""
        until = time.monotonic() + seconds
        while (left := min(_QUIET - self._services.edge.quiet_seconds, until - time.monotonic())) > 0:  # noqa: ASYNC110 - each call begins it anew
            await asyncio.sleep(left)


def _options(settings: Settings) -> dict[str, int]:
    """Write gRPC's own limits, in its words (grpc/impl/channel_arg_names.h)."""
    return {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": settings.max_message_bytes,
        "grpc.max_metadata_size": _HEADER_LIMIT,
        "grpc.absolute_max_metadata_size": _HEADER_LIMIT,
        "grpc.max_allowed_incoming_connections": settings.max_connections,
        "grpc.max_concurrent_streams": settings.max_calls_per_caller,
        "grpc.max_connection_idle_ms": int(settings.idle_seconds * 1000),
        # gRPC spreads it by a tenth, so that clients who came together do not come back together.
        "grpc.max_connection_age_ms": int(settings.connection_age_seconds * 1000),
        "grpc.max_connection_age_grace_ms": _FOR_EVER,
        "grpc.server_handshake_timeout_ms": _HANDSHAKE_SECONDS * 1000,
        "grpc.http2.settings_timeout": _HANDSHAKE_SECONDS * 1000,
        "grpc.keepalive_time_ms": _PING_SECONDS * 1000,
        "grpc.keepalive_timeout_ms": _PING_ANSWER_SECONDS * 1000,
        "grpc.http2.min_ping_interval_without_data_ms": _PINGS_APART_SECONDS * 1000,
        "grpc.http2.max_ping_strikes": 2,
        # Else gRPC takes in megabytes of each call before anybody reads them: a stranger's too.
        "grpc.http2.bdp_probe": 0,
        "grpc.http2.lookahead_bytes": _WINDOW,
        "grpc.so_reuseport": 0,
    }
