"""A gRPC server that does nothing, as the signer's would: `python -m benchmarks.empty_server CERTIFICATE KEY`.

Its method reads its message itself, as the signer's gate does, and answers as many bytes as a signature's answer has.
It prints its port, and serves until it is ended.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

ANSWER = bytes(700)


class _Empty(grpc.GenericRpcHandler):
    def service(self, _: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - grpc's stubs know no aio
        return grpc.stream_unary_rpc_method_handler(_answer)


async def _answer(_: object, context: Any) -> bytes:  # noqa: ANN401 - as above
    await context.read()
    return ANSWER


async def _serve(certificate: bytes, private_key: bytes) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Empty(),))
    credentials = grpc.ssl_server_credentials([(private_key, certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(*(Path(name).read_bytes() for name in sys.argv[1:])))
