"""The signer's KeyProbe with scripted answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from byok_api.signer.v1.signer_pb2 import ProbeKeyRequest, ProbeKeyResponse
from byok_api.signer.v1.signer_pb2_grpc import KeyProbeServicer, add_KeyProbeServicer_to_server


class FakeProbe(KeyProbeServicer):
    """Answers every probe with `answer`; `requests` says what it was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answer = ProbeKeyResponse()
        self.requests: list[ProbeKeyRequest] = []

    def ProbeKey(  # noqa: N802 - named by the .proto
        self,
        request: ProbeKeyRequest,
        context: grpc.ServicerContext,
    ) -> ProbeKeyResponse:
        del context
        self.requests.append(request)
        return self.answer


@contextmanager
def probing(folder: Path) -> Iterator[FakeProbe]:
    """Serve on a unix socket in `folder`."""
    probe = FakeProbe(f"unix:{folder}/probe.sock")
    server = grpc.server(ThreadPoolExecutor(1))
    add_KeyProbeServicer_to_server(probe, server)
    server.add_insecure_port(probe.address)
    server.start()
    try:
        yield probe
    finally:
        server.stop(0).wait()
