"""The signer's KeyProbe and Certification with scripted answers."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from byok_api.errors import Refusal
from byok_api.signer.v1.signer_pb2 import (
    CreateCertificateRequestRequest,
    CreateCertificateRequestResponse,
    ProbeKeyRequest,
    ProbeKeyResponse,
    WatchHealthRequest,
    WatchHealthResponse,
)
from byok_api.signer.v1.signer_pb2_grpc import (
    CertificationServicer,
    KeyProbeServicer,
    add_CertificationServicer_to_server,
    add_KeyProbeServicer_to_server,
)
from byok_signer.rpc_status import STATUS_DETAILS_KEY, status_of


class FakeProbe(KeyProbeServicer, CertificationServicer):
    """Answers probes with `answer` and certificate requests with `request`; the lists say what it was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answer = ProbeKeyResponse()
        self.request = CreateCertificateRequestResponse()
        self.requests: list[ProbeKeyRequest] = []
        self.certificate_requests: list[CreateCertificateRequestRequest] = []
        self.tokens: list[str | bytes] = []
        self.failures: deque[Refusal] = deque()
        """What the next calls end with."""
        self.meanwhile: Callable[[], object] = lambda: None
        """Done while a certificate request is made."""

    def ProbeKey(  # noqa: N802 - named by the .proto
        self,
        request: ProbeKeyRequest,
        context: grpc.ServicerContext,
    ) -> ProbeKeyResponse:
        self.tokens += [value for name, value in context.invocation_metadata() if name == "authorization"]
        self.requests.append(request)
        self._fail(context)
        return self.answer

    def WatchHealth(  # noqa: N802 - named by the .proto
        self,
        request: WatchHealthRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[WatchHealthResponse]:
        raise NotImplementedError

    def CreateCertificateRequest(  # noqa: N802 - named by the .proto
        self,
        request: CreateCertificateRequestRequest,
        context: grpc.ServicerContext,
    ) -> CreateCertificateRequestResponse:
        self.certificate_requests.append(request)
        self._fail(context)
        self.meanwhile()
        return self.request

    def _fail(self, context: grpc.ServicerContext) -> None:
        if self.failures:
            refusal = self.failures.popleft()
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, status_of(refusal).SerializeToString()),))
            context.abort(refusal.reason.facts.status, refusal.message)


@contextmanager
def probing(folder: Path) -> Iterator[FakeProbe]:
    """Serve on a unix socket in `folder`."""
    probe = FakeProbe(f"unix:{folder}/probe.sock")
    server = grpc.server(ThreadPoolExecutor(1))
    add_KeyProbeServicer_to_server(probe, server)
    add_CertificationServicer_to_server(probe, server)
    server.add_insecure_port(probe.address)
    server.start()
    try:
        yield probe
    finally:
        server.stop(0).wait()
